"""The mutation that requests a duplication."""

from typing import Annotated

import strawberry
from strawberry import UNSET

from app.api.graphql.context import Info
from app.api.graphql.cursors import none_if_unset
from app.api.graphql.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    UserError,
    input_path,
    refusal_of,
)
from app.api.graphql.fields.loaders import current_loaders, reset_loaders
from app.api.graphql.fields.mutation import mutation
from app.api.graphql.mutations.payloads import ERRORS
from app.api.graphql.types.jobs import Job
from app.domain import jobs as domain
from app.domain.callers import Scope
from app.domain.errors import DomainError
from app.domain.ids import require_uuid
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.services import jobs as service
from app.storage import jobs, tables


@strawberry.type(description="The key was used in the last 24 hours with another input.")
class IdempotencyConflict(UserError):
    # None if the job was deleted after the refusal: the response then has an error in its place.
    job: tables.JobRow | None = strawberry.field(
        graphql_type=Job, description="The job created with this key."
    )


DuplicateHierarchyError = Annotated[
    NotFound | Forbidden | InvalidInput | IdempotencyConflict,
    strawberry.union(
        "DuplicateHierarchyError", description="Reason why a duplication was refused."
    ),
]


@strawberry.input(description="Source of a duplication, and attributes of the copy.")
class DuplicateHierarchyInput:
    hierarchy_id: strawberry.ID = strawberry.field(description="ID of the hierarchy to copy.")
    name: str | None = strawberry.field(
        default=UNSET,
        description="Name of the copy: 1 to 1000 characters, not blank. Omitted or null keeps the "
        "source's.",
    )
    description: str | None = strawberry.field(
        default=UNSET,
        description="Description of the copy. Omitted or null keeps the source's, an empty one "
        "clears it.",
    )
    include_products: bool = strawberry.field(
        default=False,
        description="True to copy product associations and their curation. Default: false.",
    )
    idempotency_key: str | None = strawberry.field(
        default=UNSET,
        description="1 to 255 printable ASCII characters, chosen by the client. For 24 hours, the "
        "same key with the same input returns the same job, so a request whose response was lost "
        "can be repeated.",
    )


@strawberry.type(description="Result of duplicateHierarchy.")
class DuplicateHierarchyPayload:
    job: tables.JobRow | None = strawberry.field(
        graphql_type=Job | None, description="The queued job; null if refused."
    )
    replayed: bool = strawberry.field(
        description="True if idempotencyKey matched an earlier request, whose job is returned."
    )
    errors: list[DuplicateHierarchyError] = strawberry.field(description=ERRORS)


async def _duplicate_hierarchy(
    info: Info,
    input: Annotated[
        DuplicateHierarchyInput,
        strawberry.argument(description="Source, and attributes of the copy."),
    ],
) -> DuplicateHierarchyPayload:
    reset_loaders(info.context.database, info.context.caller, info.context.budget)
    refusal: UserError
    try:
        # The mutation queues a job, and the job creates a hierarchy.
        info.context.caller.check(Scope.JOBS_WRITE, Scope.HIERARCHIES_WRITE)
        requested = await info.context.database.client_write(
            info.context.store,
            service.request,
            info.context.requester,
            Duplication(
                source_id=require_uuid("hierarchy", input.hierarchy_id, "hierarchy_id"),
                name=none_if_unset(input.name),
                description=none_if_unset(input.description),
                include_products=input.include_products,
            ),
            none_if_unset(input.idempotency_key),
        )
    except domain.IdempotencyConflict as error:
        job = await current_loaders.get().load(jobs.by_ids, error.job_id)
        refusal = IdempotencyConflict(message=str(error), path=input_path(error), job=job)
    except DomainError as error:
        refusal = refusal_of(error)
    else:
        return DuplicateHierarchyPayload(job=requested.job, replayed=requested.replayed, errors=[])
    return DuplicateHierarchyPayload(job=None, replayed=False, errors=[refusal])


@strawberry.type
class DuplicationMutations:
    duplicate_hierarchy: DuplicateHierarchyPayload = mutation(
        _duplicate_hierarchy,
        "Queue a deep copy and return its PENDING job at once. The copy is invisible until it is "
        "complete.",
    )
