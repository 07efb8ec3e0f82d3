"""Mutations of jobs."""

from collections.abc import Callable
from typing import Annotated, TypeVar
from uuid import UUID

import strawberry

from app.api.graphql.context import Info
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
from app.api.graphql.mutations.payloads import ERRORS, QueueError
from app.api.graphql.types.jobs import Job, JobFilter
from app.domain import jobs as domain
from app.domain.callers import Scope
from app.domain.errors import DomainError
from app.domain.ids import require_uuid
from app.domain.jobs import JobStatus
from app.services import jobs as service
from app.services.jobs import MAX_CANCELLED
from app.storage import jobs, tables
from app.storage.engine.transaction import Transaction

ErrorT = TypeVar("ErrorT", bound=UserError)


@strawberry.type(description="Only a PENDING job can be cancelled.")
class JobNotCancellable(UserError):
    status: JobStatus = strawberry.field(description="Current status of the job.")


@strawberry.type(description="Only a FAILED job can be retried.")
class JobNotRetryable(UserError):
    status: JobStatus = strawberry.field(description="Current status of the job.")


CancelJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotCancellable,
    strawberry.union("CancelJobError", description="Reason why a job was not cancelled."),
]
RetryJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotRetryable,
    strawberry.union("RetryJobError", description="Reason why a job was not retried."),
]


@strawberry.input(description="Job to cancel.")
class CancelJobInput:
    job_id: strawberry.ID = strawberry.field(description="ID of the job.")


@strawberry.type(description="Result of cancelJob.")
class CancelJobPayload:
    job: tables.JobRow | None = strawberry.field(
        graphql_type=Job | None,
        description="The job in its current state, also if it cannot be cancelled.",
    )
    errors: list[CancelJobError] = strawberry.field(description=ERRORS)


@strawberry.input(description="Job to retry.")
class RetryJobInput:
    job_id: strawberry.ID = strawberry.field(description="ID of the FAILED job.")


@strawberry.type(description="Result of retryJob.")
class RetryJobPayload:
    job: tables.JobRow | None = strawberry.field(
        graphql_type=Job | None, description="The retry; null if refused."
    )
    replayed: bool = strawberry.field(
        description="True if an earlier retry is PENDING, STARTED or SUCCESS; that job is returned."
    )
    errors: list[RetryJobError] = strawberry.field(description=ERRORS)


@strawberry.input(description="Jobs to cancel.")
class CancelJobsInput:
    filter: JobFilter = strawberry.field(
        description="Conditions that must all hold. Default status: PENDING and STARTED."
    )


@strawberry.type(description="Outcome of cancelling one of several jobs.")
class CancelJobOutcome:
    job: tables.JobRow = strawberry.field(
        graphql_type=Job, description="The job in its current state."
    )
    cancelled: bool = strawberry.field(description="True if this request cancelled the job.")
    error: JobNotCancellable | None = strawberry.field(
        description="Reason why the job was not cancelled; null if it was."
    )


@strawberry.type(description="Result of cancelJobs.")
class CancelJobsPayload:
    outcomes: list[CancelJobOutcome] = strawberry.field(
        description=f"Outcome of each examined job, at most {MAX_CANCELLED}: PENDING jobs first, "
        "each group oldest first."
    )
    remaining: int = strawberry.field(
        description="Number of matching PENDING jobs that were not examined; repeat the request "
        "for them."
    )
    errors: list[QueueError] = strawberry.field(
        description="Reasons why no job was examined; empty if there are outcomes."
    )


async def change_job(
    info: Info,
    id: str,
    change: Callable[[Transaction, str, UUID], tables.JobRow],
    refusal: Callable[..., ErrorT],
) -> tuple[tables.JobRow | None, list[NotFound | Forbidden | InvalidInput | ErrorT]]:
    """Run `change` on a job in one transaction. Return the job and the errors of the payload.

    If the job's status does not allow the change, return its current state and a `refusal`. Needs
    jobs:write.
    """
    reset_loaders(info.context.database, info.context.caller, info.context.budget)
    try:
        info.context.caller.check(Scope.JOBS_WRITE)
        job_id = require_uuid("job", id, "job_id")
        return await info.context.database.client_write(
            info.context.store, change, info.context.store, job_id
        ), []
    except domain.WrongStatus as error:
        job = await current_loaders.get().load(jobs.by_ids, error.job_id)
        return job, [refusal(message=str(error), path=input_path(error), status=error.status)]
    except DomainError as error:
        return None, [refusal_of(error)]


async def _cancel_job(
    info: Info,
    input: Annotated[CancelJobInput, strawberry.argument(description="The job to cancel.")],
) -> CancelJobPayload:
    job, errors = await change_job(info, input.job_id, service.cancel, JobNotCancellable)
    return CancelJobPayload(job=job, errors=errors)


async def _retry_job(
    info: Info,
    input: Annotated[RetryJobInput, strawberry.argument(description="The job to retry.")],
) -> RetryJobPayload:
    reset_loaders(info.context.database, info.context.caller, info.context.budget)
    refusal: UserError
    try:
        caller = info.context.caller
        caller.check(Scope.JOBS_WRITE)
        job_id = require_uuid("job", input.job_id, "job_id")
        requested = await info.context.database.client_write(
            info.context.store,
            service.retry,
            info.context.requester,
            job_id,
            lambda scopes: caller.check(Scope.JOBS_WRITE, *scopes),
        )
    except domain.JobNotRetryable as error:
        refusal = JobNotRetryable(message=str(error), path=input_path(error), status=error.status)
    except DomainError as error:
        refusal = refusal_of(error)
    else:
        return RetryJobPayload(job=requested.job, replayed=requested.replayed, errors=[])
    return RetryJobPayload(job=None, replayed=False, errors=[refusal])


async def _cancel_jobs(
    info: Info,
    input: Annotated[CancelJobsInput, strawberry.argument(description="The jobs to cancel.")],
) -> CancelJobsPayload:
    reset_loaders(info.context.database, info.context.caller, info.context.budget)
    try:
        info.context.caller.check(Scope.JOBS_WRITE)
        cancellations = await info.context.database.client_write(
            info.context.store,
            service.cancel_matching,
            info.context.store,
            input.filter.to_storage(),
        )
    except DomainError as error:
        return CancelJobsPayload(outcomes=[], remaining=0, errors=[refusal_of(error)])
    outcomes = []
    for outcome in cancellations.outcomes:
        refusal = outcome.refusal
        not_cancelled = None
        if refusal:
            not_cancelled = JobNotCancellable(message=str(refusal), path=[], status=refusal.status)
        outcomes.append(
            CancelJobOutcome(job=outcome.job, cancelled=refusal is None, error=not_cancelled)
        )
    return CancelJobsPayload(outcomes=outcomes, remaining=cancellations.remaining, errors=[])


@strawberry.type
class JobMutations:
    cancel_job: CancelJobPayload = mutation(_cancel_job, "Cancel a PENDING job.")
    retry_job: RetryJobPayload = mutation(
        _retry_job, "Queue a FAILED job again, as a new job at the end of the queue."
    )
    cancel_jobs: CancelJobsPayload = mutation(
        _cancel_jobs,
        f"Cancel up to {MAX_CANCELLED} matching PENDING jobs in one transaction, oldest first; "
        "report an outcome for every job examined.",
    )
