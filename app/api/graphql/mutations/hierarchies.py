"""Mutations of hierarchies."""

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
)
from app.api.graphql.types.hierarchies import Hierarchy
from app.domain.ids import require_uuid
from app.services import hierarchies
from app.storage import tables


@strawberry.input(description="Attributes of a new hierarchy.")
class CreateHierarchyInput:
    name: str = strawberry.field(description="Name: 1 to 1000 characters, not blank.")
    description: str | None = strawberry.field(
        default=UNSET, description="Description. Default: null; an empty one counts as null."
    )
    slug: str | None = strawberry.field(
        default=UNSET, description="Slug: 1 to 1000 characters, not blank. Default: null."
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
    description="Attributes of a hierarchy to change. Omitted ones stay; null clears nullable ones."
)
class UpdateHierarchyInput:
    hierarchy_id: strawberry.ID = strawberry.field(description="ID of the hierarchy to change.")
    name: str | None = strawberry.field(
        default=UNSET, description="Name: 1 to 1000 characters, not blank, not null."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="Description; null or an empty one clears it."
    )
    slug: str | None = strawberry.field(
        default=UNSET, description="Slug: 1 to 1000 characters, not blank; null clears it."
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


@strawberry.input(description="Hierarchy to delete.")
class DeleteHierarchyInput:
    hierarchy_id: strawberry.ID = strawberry.field(
        description="ID of the hierarchy to delete with all its nodes."
    )


@strawberry.type(description="Result of creating or changing a hierarchy.")
class HierarchyPayload:
    hierarchy: tables.HierarchyRow | None = strawberry.field(
        graphql_type=Hierarchy | None,
        description="The hierarchy after the change; null if refused.",
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)

    @classmethod
    def of(cls, hierarchy: tables.HierarchyRow | None, errors: list[AuthoringError]) -> Self:
        return cls(hierarchy=hierarchy, errors=errors)


@strawberry.type
class HierarchyMutations:
    create_hierarchy: HierarchyPayload = authoring_mutation(
        CreateHierarchyInput,
        "Attributes of the hierarchy.",
        lambda tx, store, input: hierarchies.create(tx, store, attributes_of(input)),
        HierarchyPayload.of,
        "Create a hierarchy without nodes below its root.",
    )
    update_hierarchy: HierarchyPayload = authoring_mutation(
        UpdateHierarchyInput,
        "The changes.",
        lambda tx, store, input: hierarchies.update(
            tx,
            store,
            require_uuid("hierarchy", input.hierarchy_id, "hierarchy_id"),
            attributes_of(input),
        ),
        HierarchyPayload.of,
        "Change attributes of a hierarchy.",
    )
    delete_hierarchy: DeletePayload = authoring_mutation(
        DeleteHierarchyInput,
        "The hierarchy to delete.",
        lambda tx, store, input: hierarchies.delete(
            tx, store, require_uuid("hierarchy", input.hierarchy_id, "hierarchy_id")
        ),
        DeletePayload.of,
        "Delete a hierarchy with all its nodes. Its copies stay; an unfinished duplication of it "
        "fails.",
    )
