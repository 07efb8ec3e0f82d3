"""Mutations of nodes."""

from typing import Self

import strawberry
from strawberry import UNSET

from app.api.graphql.mutations.attributes import (
    CustomAttributeInput,
    LocalizationInput,
    attributes_of,
)
from app.api.graphql.mutations.payloads import (
    ERRORS,
    AuthoringError,
    DeletePayload,
    authoring_mutation,
    placing_mutation,
)
from app.api.graphql.types.nodes import HierarchyNode
from app.domain.ids import require_uuid
from app.domain.nodes import MAX_CURATED, NodeAttributes
from app.services import nodes
from app.storage.nodes import TreeNode


@strawberry.input(description="Parent and attributes of a new node.")
class CreateNodeInput:
    parent_id: strawberry.ID = strawberry.field(
        description="ID of the parent: a hierarchy or a node."
    )
    name: str = strawberry.field(
        description="Name: 1 to 1000 characters, not blank, unique among siblings."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="Description. Default: null; an empty one counts as null."
    )
    slug: str | None = strawberry.field(
        default=UNSET,
        description="Slug: 1 to 1000 characters, not blank, unique among siblings. Default: null.",
    )
    sort_order: int | None = strawberry.field(
        default=UNSET, description="Siblings with a higher value come first. Default: unset, last."
    )
    localizations: list[LocalizationInput] | None = strawberry.field(
        default=UNSET, description="Translations: at most 100, one per locale. Default: none."
    )
    admin_attributes: list[CustomAttributeInput] | None = strawberry.field(
        default=UNSET,
        description="Custom attributes for administrators: at most 100. Default: none.",
    )
    shopper_attributes: list[CustomAttributeInput] | None = strawberry.field(
        default=UNSET,
        description="Custom attributes for shoppers too: at most 100. Default: none.",
    )


@strawberry.input(
    description="Attributes of a node to change. Omitted ones stay; null clears nullable ones."
)
class UpdateNodeInput:
    node_id: strawberry.ID = strawberry.field(description="ID of the node to change.")
    name: str | None = strawberry.field(
        default=UNSET,
        description="Name: 1 to 1000 characters, not blank, unique among siblings, not null.",
    )
    description: str | None = strawberry.field(
        default=UNSET, description="Description; null or an empty one clears it."
    )
    slug: str | None = strawberry.field(
        default=UNSET,
        description="Slug: 1 to 1000 characters, not blank, unique among siblings; null clears it.",
    )
    sort_order: int | None = strawberry.field(
        default=UNSET, description="Siblings with a higher value come first; null unsets it."
    )
    localizations: list[LocalizationInput] | None = strawberry.field(
        default=UNSET,
        description="Replaces all translations: at most 100, one per locale. Null clears them.",
    )
    admin_attributes: list[CustomAttributeInput] | None = strawberry.field(
        default=UNSET,
        description="Replaces all custom attributes for administrators: at most 100. Null clears "
        "them.",
    )
    shopper_attributes: list[CustomAttributeInput] | None = strawberry.field(
        default=UNSET,
        description="Replaces all custom attributes for shoppers too: at most 100. Null clears "
        "them.",
    )
    curated_product_ids: list[strawberry.ID] | None = strawberry.field(
        default=UNSET,
        description="Replaces the curated products, which lead the node's list in this order: at "
        f"most {MAX_CURATED}, each once, each attached to the node. Null clears them.",
    )


@strawberry.input(
    description="New position of a node. The new parent must be in the same hierarchy, and "
    "neither the node itself nor below it."
)
class MoveNodeInput:
    node_id: strawberry.ID = strawberry.field(
        description="ID of the node to move with everything below it."
    )
    parent_id: strawberry.ID = strawberry.field(
        description="ID of the new parent: the node's hierarchy or another node of it."
    )
    sort_order: int | None = strawberry.field(
        default=UNSET,
        description="Siblings with a higher value come first; omitted keeps it, null unsets it.",
    )


@strawberry.input(description="Node to delete.")
class DeleteNodeInput:
    node_id: strawberry.ID = strawberry.field(
        description="ID of the node to delete with everything below it."
    )


@strawberry.type(description="Result of creating, changing or moving a node, or its products.")
class NodePayload:
    node: TreeNode | None = strawberry.field(
        graphql_type=HierarchyNode | None,
        description="The node after the change; null if refused.",
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)

    @classmethod
    def of(cls, node: TreeNode | None, errors: list[AuthoringError]) -> Self:
        return cls(node=node, errors=errors)


def _node_attributes(input: CreateNodeInput | UpdateNodeInput) -> NodeAttributes:
    attributes = NodeAttributes(**attributes_of(input), **_sort_order(input))
    if isinstance(input, UpdateNodeInput) and input.curated_product_ids is not UNSET:
        attributes["curated_product_ids"] = input.curated_product_ids
    return attributes


def _sort_order(input: CreateNodeInput | UpdateNodeInput | MoveNodeInput) -> NodeAttributes:
    omitted = input.sort_order is UNSET
    return NodeAttributes() if omitted else NodeAttributes(sort_order=input.sort_order)


@strawberry.type
class NodeMutations:
    create_node: NodePayload = placing_mutation(
        CreateNodeInput,
        "Parent and attributes of the node.",
        lambda tx, store, input, max_depth: nodes.create(
            tx,
            store,
            require_uuid("hierarchy or node", input.parent_id, "parent_id"),
            _node_attributes(input),
            max_depth,
        ),
        NodePayload.of,
        "Create a node below the root of a hierarchy or below a node.",
    )
    update_node: NodePayload = authoring_mutation(
        UpdateNodeInput,
        "The changes.",
        lambda tx, store, input: nodes.update(
            tx, store, require_uuid("node", input.node_id, "node_id"), _node_attributes(input)
        ),
        NodePayload.of,
        "Change attributes of a node.",
    )
    move_node: NodePayload = placing_mutation(
        MoveNodeInput,
        "The node's new position.",
        lambda tx, store, input, max_depth: nodes.move(
            tx,
            store,
            require_uuid("node", input.node_id, "node_id"),
            require_uuid("hierarchy or node", input.parent_id, "parent_id"),
            _sort_order(input),
            max_depth,
        ),
        NodePayload.of,
        "Move a node, with everything below it, within its hierarchy.",
    )
    delete_node: DeletePayload = authoring_mutation(
        DeleteNodeInput,
        "The node to delete.",
        lambda tx, store, input: nodes.delete(
            tx, store, require_uuid("node", input.node_id, "node_id")
        ),
        DeletePayload.of,
        "Delete a node with everything below it.",
    )
