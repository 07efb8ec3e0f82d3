"""What can be done with jobs. Expected refusals come as typed errors in the payload."""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import strawberry
from sqlmodel import Session
from strawberry import UNSET

from app.api.graphql.context import Info
from app.api.graphql.cursors import given
from app.api.graphql.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    UserError,
    input_path,
    refusal_of,
)
from app.api.graphql.fields.declarations import mutation
from app.api.graphql.fields.loaders import current_loaders, reset_loaders
from app.api.graphql.mutations.payloads import QueueError
from app.api.graphql.types.jobs import Job, JobFilter
from app.domain import errors
from app.domain import jobs as domain
from app.domain.callers import Scope
from app.domain.ids import known_uuid
from app.domain.jobs import Duplication, JobStatus
from app.services import jobs as service
from app.services.jobs import MAX_CANCELLED
from app.storage import jobs, tables


@strawberry.type(description="The key was used before, in the last 24 hours, with another input.")
class IdempotencyConflict(UserError):
    job: Job = strawberry.field(description="The job that the key stands for.")


@strawberry.type(description="Only a PENDING job can be cancelled.")
class JobNotCancellable(UserError):
    status: JobStatus = strawberry.field(description="The status the job is in.")


DuplicateHierarchyError = Annotated[
    NotFound | Forbidden | InvalidInput | IdempotencyConflict,
    strawberry.union("DuplicateHierarchyError", description="Why a hierarchy is not duplicated."),
]
CancelJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotCancellable,
    strawberry.union("CancelJobError", description="Why a job is not cancelled."),
]


@strawberry.input(
    description="name and description: omitted or null keeps the source's; name at most 1000 "
    "characters, not blank."
)
class DuplicateHierarchyInput:
    hierarchy_id: strawberry.ID = strawberry.field(description="The hierarchy to copy.")
    name: str | None = strawberry.field(
        default=UNSET,
        description="The copy's name: 1 to 1000 characters, not blank. Omitted or null keeps the "
        "source's.",
    )
    description: str | None = strawberry.field(
        default=UNSET,
        description="The copy's description. Omitted or null keeps the source's, an empty one "
        "clears it.",
    )
    include_products: bool = strawberry.field(
        default=False, description="Whether to copy product associations and their curation."
    )
    idempotency_key: str | None = strawberry.field(
        default=UNSET,
        description="1 to 255 printable ASCII characters of your choice. The same key with the "
        "same input gives the same job for 24 hours, so a request whose answer was lost can be "
        "sent again.",
    )


@strawberry.type(description="What became of the request.")
class DuplicateHierarchyPayload:
    job: Job | None = strawberry.field(description="The queued job; null when refused.")
    replayed: bool = strawberry.field(
        description="True when idempotencyKey matched an earlier request."
    )
    errors: list[DuplicateHierarchyError] = strawberry.field(
        description="Why it was refused; empty when it was not."
    )


@strawberry.input(description="Which job to cancel.")
class CancelJobInput:
    job_id: strawberry.ID = strawberry.field(description="The job to cancel.")


@strawberry.type(description="What became of the request.")
class CancelJobPayload:
    job: Job | None = strawberry.field(description="The job as it now stands, even when refused.")
    errors: list[CancelJobError] = strawberry.field(
        description="Why it was refused; empty when it was not."
    )


async def _duplicate_hierarchy(
    info: Info,
    input: Annotated[
        DuplicateHierarchyInput, strawberry.argument(description="What to copy, and how.")
    ],
) -> Any:
    reset_loaders(info.context.database, info.context.caller)
    refusal: UserError
    try:
        # A job is queued, and a hierarchy comes of it.
        info.context.caller.check(Scope.JOBS_WRITE, Scope.HIERARCHIES_WRITE)
        requested = await info.context.database.write(
            service.request_duplication,
            info.context.requester,
            Duplication(
                source_id=known_uuid("hierarchy", input.hierarchy_id, "hierarchyId"),
                name=given(input.name),
                description=given(input.description),
                include_products=input.include_products,
            ),
            given(input.idempotency_key),
        )
    except domain.IdempotencyConflict as error:
        job: Any = await current_loaders.get().load(jobs.by_ids, error.job_id)
        refusal = IdempotencyConflict(message=str(error), path=input_path(error), job=job)
    except errors.DomainError as error:
        refusal = refusal_of(error)
    else:
        job = requested.job
        return DuplicateHierarchyPayload(job=job, replayed=requested.replayed, errors=[])
    return DuplicateHierarchyPayload(job=None, replayed=False, errors=[refusal])


async def _cancel_job(
    info: Info,
    input: Annotated[CancelJobInput, strawberry.argument(description="Which job to cancel.")],
) -> Any:
    job, errors = await changed(info, input.job_id, service.cancel, JobNotCancellable)
    return CancelJobPayload(job=job, errors=errors)


async def changed(
    info: Info,
    id: str,
    change: Callable[[Session, str, UUID], tables.Job],
    refusal: Callable[..., UserError],
) -> tuple[Any, list[Any]]:
    """The job behind a change, or as it stands where its status does not allow it, and why it was
    refused."""
    reset_loaders(info.context.database, info.context.caller)
    try:
        info.context.caller.check(Scope.JOBS_WRITE)
        job_id = known_uuid("job", id, "jobId")
        return await info.context.database.write(change, info.context.store, job_id), []
    except domain.WrongStatus as error:
        job = await current_loaders.get().load(jobs.by_ids, error.job_id)
        return job, [refusal(message=str(error), path=input_path(error), status=error.status)]
    except errors.DomainError as error:
        return None, [refusal_of(error)]


@strawberry.type(description="Only a FAILED job can be tried again.")
class JobNotRetryable(UserError):
    status: JobStatus = strawberry.field(description="The status the job is in.")


RetryJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotRetryable,
    strawberry.union("RetryJobError", description="Why a job is not tried again."),
]


@strawberry.input(description="Which job to try again.")
class RetryJobInput:
    job_id: strawberry.ID = strawberry.field(description="The FAILED job.")


@strawberry.type(description="What became of the request.")
class RetryJobPayload:
    job: Job | None = strawberry.field(
        description="The job that tries it again; null when refused."
    )
    replayed: bool = strawberry.field(
        description="True when an earlier retry waits, runs or has succeeded: it is that one."
    )
    errors: list[RetryJobError] = strawberry.field(
        description="Why it was refused; empty when it was not."
    )


@strawberry.input(description="Which jobs to cancel.")
class CancelJobsInput:
    filter: JobFilter = strawberry.field(
        description="Conditions that all have to hold. Without status: PENDING and STARTED."
    )


@strawberry.type(description="What became of one of several jobs.")
class CancelJobOutcome:
    job: Job = strawberry.field(description="The job as it now stands.")
    cancelled: bool = strawberry.field(description="Whether it is cancelled by this request.")
    error: JobNotCancellable | None = strawberry.field(
        description="Why it is not; null when it is."
    )


@strawberry.type(description="What became of the request.")
class CancelJobsPayload:
    outcomes: list[CancelJobOutcome] = strawberry.field(
        description=f"What became of each job that matched, at most {MAX_CANCELLED}: PENDING ones "
        "first, then by age."
    )
    remaining: int = strawberry.field(
        description="PENDING jobs that matched too and were not looked at: ask again for them."
    )
    errors: list[QueueError] = strawberry.field(
        description="Why nothing was cancelled at all; empty when the outcomes tell."
    )


async def _retry_job(
    info: Info,
    input: Annotated[RetryJobInput, strawberry.argument(description="What to try again.")],
) -> Any:
    reset_loaders(info.context.database, info.context.caller)
    refusal: UserError
    try:
        info.context.caller.check(Scope.JOBS_WRITE, Scope.HIERARCHIES_WRITE)
        job_id = known_uuid("job", input.job_id, "jobId")
        requested = await info.context.database.write(service.retry, info.context.requester, job_id)
    except domain.JobNotRetryable as error:
        refusal = JobNotRetryable(message=str(error), path=input_path(error), status=error.status)
    except errors.DomainError as error:
        refusal = refusal_of(error)
    else:
        job: Any = requested.job
        return RetryJobPayload(job=job, replayed=requested.replayed, errors=[])
    return RetryJobPayload(job=None, replayed=False, errors=[refusal])


async def _cancel_jobs(
    info: Info,
    input: Annotated[CancelJobsInput, strawberry.argument(description="What to cancel.")],
) -> Any:
    reset_loaders(info.context.database, info.context.caller)
    try:
        info.context.caller.check(Scope.JOBS_WRITE)
        done = await info.context.database.write(
            service.cancel_matching, info.context.store, input.filter.stored()
        )
    except errors.DomainError as error:
        return CancelJobsPayload(outcomes=[], remaining=0, errors=[refusal_of(error)])
    outcomes = []
    for outcome in done.outcomes:
        job: Any = outcome.job
        why = outcome.refusal
        refused = None
        if why:
            refused = JobNotCancellable(message=str(why), path=[], status=why.status)
        outcomes.append(CancelJobOutcome(job=job, cancelled=refused is None, error=refused))
    return CancelJobsPayload(outcomes=outcomes, remaining=done.remaining, errors=[])


@strawberry.type
class JobMutations:
    duplicate_hierarchy: DuplicateHierarchyPayload = mutation(
        _duplicate_hierarchy,
        "Queues a deep copy and returns at once with a PENDING job. The copy is "
        "invisible until it is whole.",
    )
    cancel_job: CancelJobPayload = mutation(_cancel_job, "Cancels a job that is still PENDING.")
    retry_job: RetryJobPayload = mutation(
        _retry_job,
        "Queues a FAILED job once more, as a new job behind all others.",
    )
    cancel_jobs: CancelJobsPayload = mutation(
        _cancel_jobs,
        f"Cancels up to {MAX_CANCELLED} PENDING jobs that match, in one transaction, "
        "and tells of each job that matched what became of it.",
    )
