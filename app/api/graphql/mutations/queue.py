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
    refusal_of,
)
from app.api.graphql.fields.declarations import mutation
from app.api.graphql.fields.loaders import reset_loaders
from app.api.graphql.mutations.jobs import changed
from app.api.graphql.mutations.payloads import QueueError
from app.api.graphql.types.jobs import Job
from app.api.graphql.types.queue import JobQueue, job_queue
from app.domain import errors
from app.domain.callers import Scope
from app.domain.jobs import REASON_LIMIT, JobStatus
from app.services import queue as lane_service

P = ParamSpec("P")


@strawberry.type(description="Only a PENDING job can be moved.")
class JobNotMovable(UserError):
    status: JobStatus = strawberry.field(description="The status the job is in.")


MoveJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotMovable,
    strawberry.union("MoveJobError", description="Why a job is not moved."),
]


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
    loaders = reset_loaders(info.context.database, info.context.caller)
    try:
        info.context.caller.check(Scope.JOBS_WRITE)
        await info.context.database.write(change, *args, **kwargs)
    except errors.DomainError as error:
        return QueuePayload(queue=None, errors=[refusal_of(error)])
    return QueuePayload(queue=await loaders.read(job_queue, loaders.caller), errors=[])


@strawberry.type
class QueueMutations:
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
