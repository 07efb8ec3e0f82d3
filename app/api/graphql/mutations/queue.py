"""What else can be done with a store's queue: retried, cancelled by the dozen, put into another
order, paused. Expected refusals come as typed errors in the payload."""

from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec

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
from app.api.graphql.fields.loaders import read_anew
from app.api.graphql.mutations.jobs import JobNotCancellable, changed
from app.api.graphql.types.jobs import Job, JobFilter, JobQueue, job_queue
from app.domain import errors
from app.domain import jobs as domain
from app.domain.callers import Scope
from app.domain.ids import known_uuid
from app.domain.jobs import REASON_LIMIT, JobStatus
from app.services import jobs as service
from app.services import queue as lane_service
from app.services.jobs import MOST_CANCELLED

P = ParamSpec("P")


@strawberry.type(description="Only a FAILED job can be tried again.")
class JobNotRetryable(UserError):
    status: JobStatus = strawberry.field(description="The status the job is in.")


@strawberry.type(description="Only a PENDING job can be moved.")
class JobNotMovable(UserError):
    status: JobStatus = strawberry.field(description="The status the job is in.")


RetryJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotRetryable,
    strawberry.union("RetryJobError", description="Why a job is not tried again."),
]
MoveJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotMovable,
    strawberry.union("MoveJobError", description="Why a job is not moved."),
]
QueueError = Annotated[
    NotFound | Forbidden | InvalidInput,
    strawberry.union("QueueError", description="Why the queue stays as it is."),
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
        description=f"What became of each job that matched, at most {MOST_CANCELLED}: PENDING ones "
        "first, then by age."
    )
    remaining: int = strawberry.field(
        description="PENDING jobs that matched too and were not looked at: ask again for them."
    )
    errors: list[QueueError] = strawberry.field(
        description="Why nothing was cancelled at all; empty when the outcomes tell."
    )


@strawberry.input(description="Which job to move to the front.")
class MoveJobInput:
    job_id: strawberry.ID = strawberry.field(description="The PENDING job.")


@strawberry.type(description="What became of the request.")
class MoveJobPayload:
    job: Job | None = strawberry.field(description="The job as it now stands, even when refused.")
    errors: list[MoveJobError] = strawberry.field(
        description="Why it was refused; empty when it was not."
    )


@strawberry.input(description="Why to pause the queue.")
class PauseQueueInput:
    reason: str | None = strawberry.field(
        default=UNSET,
        description=f"1 to {REASON_LIMIT} characters, not blank; none by default. "
        "Of a queue that is paused already it is the new reason.",
    )


@strawberry.type(description="What became of the request.")
class QueuePayload:
    queue: JobQueue | None = strawberry.field(
        description="The queue as it now stands; null when refused."
    )
    errors: list[QueueError] = strawberry.field(
        description="Why it was refused; empty when it was not."
    )


async def _retry_job(
    info: Info,
    input: Annotated[RetryJobInput, strawberry.argument(description="What to try again.")],
) -> Any:
    read_anew(info.context.database, info.context.caller)
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
    read_anew(info.context.database, info.context.caller)
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


async def _move_job(
    info: Info,
    input: Annotated[MoveJobInput, strawberry.argument(description="What to move.")],
) -> Any:
    job, errors = await changed(info, input.job_id, lane_service.move_to_front, JobNotMovable)
    return MoveJobPayload(job=job, errors=errors)


async def _pause_queue(
    info: Info,
    input: Annotated[
        PauseQueueInput | None, strawberry.argument(description="Why; none by default.")
    ] = UNSET,
) -> Any:
    reason = given(input.reason) if input else None
    return await _steer(info, lane_service.pause, info.context.requester, reason)


async def _resume_queue(info: Info) -> Any:
    return await _steer(info, lane_service.resume, info.context.store)


async def _steer(
    info: Info,
    change: Callable[Concatenate[Session, P], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> QueuePayload:
    loaders = read_anew(info.context.database, info.context.caller)
    try:
        info.context.caller.check(Scope.JOBS_WRITE)
        await info.context.database.write(change, *args, **kwargs)
    except errors.DomainError as error:
        return QueuePayload(queue=None, errors=[refusal_of(error)])
    return QueuePayload(queue=await loaders.read(job_queue, loaders.caller), errors=[])


@strawberry.type
class SteeringMutations:
    retry_job: RetryJobPayload = mutation(
        _retry_job,
        "Queues a FAILED job once more, as a new job behind all others.",
    )
    cancel_jobs: CancelJobsPayload = mutation(
        _cancel_jobs,
        f"Cancels up to {MOST_CANCELLED} PENDING jobs that match, in one transaction, "
        "and tells of each job that matched what became of it.",
    )
    move_job: MoveJobPayload = mutation(
        _move_job,
        "Lets a PENDING job be the next of its store to start. Its createdAt stays.",
    )
    pause_queue: QueuePayload = mutation(
        _pause_queue,
        "Starts no more jobs of the store; the one that runs goes on, and jobs can "
        "still be asked for.",
    )
    resume_queue: QueuePayload = mutation(_resume_queue, "Starts the store's jobs again.")
