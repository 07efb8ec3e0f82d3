"""Making, changing and deleting hierarchies."""

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
from app.api.graphql.types.hierarchies import Hierarchy
from app.domain.ids import known_uuid
from app.services import hierarchies


@strawberry.input(description="The hierarchy to make.")
class CreateHierarchyInput:
    name: str = strawberry.field(description="1 to 1000 characters, not blank.")
    description: str | None = strawberry.field(
        default=UNSET, description="None by default; an empty one is none."
    )
    slug: str | None = strawberry.field(
        default=UNSET, description="1 to 1000 characters, not blank; none by default."
    )
    localizations: list[LocalizationInput] | None = strawberry.field(
        default=UNSET, description="At most 100, each locale once; none by default."
    )


@strawberry.input(
    description="What to change of a hierarchy. Omitted keeps; null clears what may be null."
)
class UpdateHierarchyInput:
    hierarchy_id: strawberry.ID = strawberry.field(description="The hierarchy to change.")
    name: str | None = strawberry.field(
        default=UNSET, description="1 to 1000 characters, not blank, not null."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="Null or an empty one clears it."
    )
    slug: str | None = strawberry.field(
        default=UNSET, description="1 to 1000 characters, not blank; null clears it."
    )
    localizations: list[LocalizationInput] | None = strawberry.field(
        default=UNSET,
        description="All translations from now on: at most 100, each locale once. Null clears "
        "them.",
    )


@strawberry.input(description="Which hierarchy to delete.")
class DeleteHierarchyInput:
    hierarchy_id: strawberry.ID = strawberry.field(
        description="The hierarchy to delete, with all its nodes."
    )


@strawberry.type(description="What became of the request.")
class HierarchyPayload:
    hierarchy: Hierarchy | None = strawberry.field(
        description="The hierarchy as it now is; null when refused."
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)


async def _create(
    info: Info,
    input: Annotated[CreateHierarchyInput, strawberry.argument(description="What to make.")],
) -> Any:
    made: Any
    made, errors = await run_mutation(
        info, input, lambda session, store: hierarchies.create(session, store, attributes_of(input))
    )
    return HierarchyPayload(hierarchy=made, errors=errors)


async def _update(
    info: Info,
    input: Annotated[UpdateHierarchyInput, strawberry.argument(description="What to change.")],
) -> Any:
    updated: Any
    updated, errors = await run_mutation(
        info,
        input,
        lambda session, store: hierarchies.update(
            session,
            store,
            known_uuid("hierarchy", input.hierarchy_id, "hierarchyId"),
            attributes_of(input),
        ),
    )
    return HierarchyPayload(hierarchy=updated, errors=errors)


async def _delete(
    info: Info,
    input: Annotated[DeleteHierarchyInput, strawberry.argument(description="Which to delete.")],
) -> Any:
    deleted, errors = await run_mutation(
        info,
        input,
        lambda session, store: hierarchies.delete(
            session, store, known_uuid("hierarchy", input.hierarchy_id, "hierarchyId")
        ),
    )
    return DeletePayload.of(deleted, errors)


@strawberry.type
class HierarchyMutations:
    create_hierarchy: HierarchyPayload = mutation(
        _create, "Makes a hierarchy with nothing below its root."
    )
    update_hierarchy: HierarchyPayload = mutation(
        _update, "Changes what a hierarchy says of itself."
    )
    delete_hierarchy: DeletePayload = mutation(
        _delete,
        "Deletes a hierarchy with all its nodes. Duplicates of it stay; a duplication "
        "of it that is not done fails.",
    )
