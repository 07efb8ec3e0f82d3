"""Making, changing, moving and deleting nodes."""

from typing import Annotated, Any

import strawberry
from strawberry import UNSET

from app.api.graphql.context import Info
from app.api.graphql.fields.declarations import mutation
from app.api.graphql.mutations.payloads import (
    ERRORS,
    AuthoringError,
    DeletePayload,
    LocalizationInput,
    attributes_of,
    run_mutation,
)
from app.api.graphql.types.nodes import HierarchyNode
from app.domain.ids import known_uuid
from app.domain.nodes import MAX_CURATED, NodeAttributes
from app.services import nodes


@strawberry.input(description="The node to make.")
class CreateNodeInput:
    parent_id: strawberry.ID = strawberry.field(
        description="Where to hang it: a hierarchy or a node of it."
    )
    name: str = strawberry.field(
        description="1 to 1000 characters, not blank, unlike its siblings'."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="None by default; an empty one is none."
    )
    slug: str | None = strawberry.field(
        default=UNSET,
        description="1 to 1000 characters, not blank, unlike its siblings'; none by default.",
    )
    sort_order: int | None = strawberry.field(
        default=UNSET, description="Siblings with a higher one come first; unset by default."
    )
    localizations: list[LocalizationInput] | None = strawberry.field(
        default=UNSET, description="At most 100, each locale once; none by default."
    )


@strawberry.input(
    description="What to change of a node. Omitted keeps; null clears what may be null."
)
class UpdateNodeInput:
    node_id: strawberry.ID = strawberry.field(description="The node to change.")
    name: str | None = strawberry.field(
        default=UNSET,
        description="1 to 1000 characters, not blank, unlike its siblings', not null.",
    )
    description: str | None = strawberry.field(
        default=UNSET, description="Null or an empty one clears it."
    )
    slug: str | None = strawberry.field(
        default=UNSET,
        description="1 to 1000 characters, not blank, unlike its siblings'; null clears it.",
    )
    sort_order: int | None = strawberry.field(
        default=UNSET, description="Siblings with a higher one come first; null unsets it."
    )
    localizations: list[LocalizationInput] | None = strawberry.field(
        default=UNSET,
        description="All translations from now on: at most 100, each locale once. Null clears "
        "them.",
    )
    curated_product_ids: list[strawberry.ID] | None = strawberry.field(
        default=UNSET,
        description="The products that lead the node's list from now on, in this order: at most "
        f"{MAX_CURATED}, each once, each attached to the node. Null clears them.",
    )


@strawberry.input(
    description="Where to move a node. The new parent must lie in the same hierarchy and not "
    "below the node."
)
class MoveNodeInput:
    node_id: strawberry.ID = strawberry.field(
        description="The node to move, with all that is below it."
    )
    parent_id: strawberry.ID = strawberry.field(
        description="Where to hang it: its hierarchy or a node of that."
    )
    sort_order: int | None = strawberry.field(
        default=UNSET,
        description="Siblings with a higher one come first; omitted keeps it, null unsets it.",
    )


@strawberry.input(description="Which node to delete.")
class DeleteNodeInput:
    node_id: strawberry.ID = strawberry.field(
        description="The node to delete, with all that is below it."
    )


@strawberry.type(description="What became of the request.")
class NodePayload:
    node: HierarchyNode | None = strawberry.field(
        description="The node as it now is; null when refused."
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)


async def _create(
    info: Info,
    input: Annotated[CreateNodeInput, strawberry.argument(description="What to make.")],
) -> Any:
    made: Any
    made, errors = await run_mutation(
        info,
        input,
        lambda session, store: nodes.create(
            session,
            store,
            known_uuid("hierarchy or node", input.parent_id, "parentId"),
            _node_attributes(input),
        ),
    )
    return NodePayload(node=made, errors=errors)


async def _update(
    info: Info,
    input: Annotated[UpdateNodeInput, strawberry.argument(description="What to change.")],
) -> Any:
    updated: Any
    updated, errors = await run_mutation(
        info,
        input,
        lambda session, store: nodes.update(
            session, store, known_uuid("node", input.node_id, "nodeId"), _node_attributes(input)
        ),
    )
    return NodePayload(node=updated, errors=errors)


async def _move(
    info: Info, input: Annotated[MoveNodeInput, strawberry.argument(description="What to move.")]
) -> Any:
    moved: Any
    moved, errors = await run_mutation(
        info,
        input,
        lambda session, store: nodes.move(
            session,
            store,
            known_uuid("node", input.node_id, "nodeId"),
            known_uuid("hierarchy or node", input.parent_id, "parentId"),
            _order(input),
        ),
    )
    return NodePayload(node=moved, errors=errors)


async def _delete(
    info: Info,
    input: Annotated[DeleteNodeInput, strawberry.argument(description="Which to delete.")],
) -> Any:
    deleted, errors = await run_mutation(
        info,
        input,
        lambda session, store: nodes.delete(
            session, store, known_uuid("node", input.node_id, "nodeId")
        ),
    )
    return DeletePayload.of(deleted, errors)


def _node_attributes(input: CreateNodeInput | UpdateNodeInput) -> NodeAttributes:
    wanted = NodeAttributes(**attributes_of(input), **_order(input))
    if isinstance(input, UpdateNodeInput) and input.curated_product_ids is not UNSET:
        wanted["curated_product_ids"] = input.curated_product_ids
    return wanted


def _order(input: CreateNodeInput | UpdateNodeInput | MoveNodeInput) -> NodeAttributes:
    unset = input.sort_order is UNSET
    return NodeAttributes() if unset else NodeAttributes(sort_order=input.sort_order)


@strawberry.type
class NodeMutations:
    create_node: NodePayload = mutation(
        _create, "Makes a node below a hierarchy's root or one of its nodes."
    )
    update_node: NodePayload = mutation(_update, "Changes what a node says of itself.")
    move_node: NodePayload = mutation(
        _move,
        "Moves a node, with all that is below it, to another place in its hierarchy.",
    )
    delete_node: DeletePayload = mutation(_delete, "Deletes a node with all that is below it.")
