"""Mutations of hierarchies."""

from typing import Annotated, Any

import strawberry
from strawberry import UNSET

from app.api.graphql.context import Info
from app.api.graphql.fields.declarations import mutation
from app.api.graphql.mutations.attributes import LocalizationInput, attributes_of
from app.api.graphql.mutations.payloads import ERRORS, AuthoringError, DeletePayload, run_mutation
from app.api.graphql.types.hierarchies import Hierarchy
from app.domain.ids import require_uuid
from app.services import hierarchies


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


@strawberry.input(description="Hierarchy to delete.")
class DeleteHierarchyInput:
    hierarchy_id: strawberry.ID = strawberry.field(
        description="ID of the hierarchy to delete with all its nodes."
    )


@strawberry.type(description="Result of creating or changing a hierarchy.")
class HierarchyPayload:
    hierarchy: Hierarchy | None = strawberry.field(
        description="The hierarchy after the change; null if refused."
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)


async def _create(
    info: Info,
    input: Annotated[
        CreateHierarchyInput, strawberry.argument(description="Attributes of the hierarchy.")
    ],
) -> Any:
    created: Any
    created, errors = await run_mutation(
        info, input, lambda session, store: hierarchies.create(session, store, attributes_of(input))
    )
    return HierarchyPayload(hierarchy=created, errors=errors)


async def _update(
    info: Info,
    input: Annotated[UpdateHierarchyInput, strawberry.argument(description="The changes.")],
) -> Any:
    updated: Any
    updated, errors = await run_mutation(
        info,
        input,
        lambda session, store: hierarchies.update(
            session,
            store,
            require_uuid("hierarchy", input.hierarchy_id, "hierarchyId"),
            attributes_of(input),
        ),
    )
    return HierarchyPayload(hierarchy=updated, errors=errors)


async def _delete(
    info: Info,
    input: Annotated[
        DeleteHierarchyInput, strawberry.argument(description="The hierarchy to delete.")
    ],
) -> Any:
    deleted, errors = await run_mutation(
        info,
        input,
        lambda session, store: hierarchies.delete(
            session, store, require_uuid("hierarchy", input.hierarchy_id, "hierarchyId")
        ),
    )
    return DeletePayload.of(deleted, errors)


@strawberry.type
class HierarchyMutations:
    create_hierarchy: HierarchyPayload = mutation(
        _create, "Create a hierarchy without nodes below its root."
    )
    update_hierarchy: HierarchyPayload = mutation(_update, "Change attributes of a hierarchy.")
    delete_hierarchy: DeletePayload = mutation(
        _delete,
        "Delete a hierarchy with all its nodes. Its copies stay; an unfinished duplication of it "
        "fails.",
    )
