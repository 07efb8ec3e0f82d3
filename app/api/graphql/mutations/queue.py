"""Mutations of a store's queue: move, pause, resume."""

from collections.abc import Callable
from typing import Annotated, Concatenate, ParamSpec

import strawberry
from strawberry import UNSET

from app.api.graphql.context import Info
from app.api.graphql.cursors import none_if_unset
from app.api.graphql.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    UserError,
    refusal_of,
)
from app.api.graphql.fields.loaders import reset_loaders
from app.api.graphql.fields.mutation import mutation
from app.api.graphql.mutations.jobs import change_job
from app.api.graphql.mutations.payloads import ERRORS, QueueError
from app.api.graphql.types.jobs import Job
from app.api.graphql.types.queue import JobQueue, job_queue
from app.domain.callers import Scope
from app.domain.errors import DomainError
from app.domain.jobs import REASON_LIMIT, JobStatus
from app.services import queue as service
from app.storage import tables
from app.storage.engine.transaction import Transaction

P = ParamSpec("P")


@strawberry.type(description="Only a PENDING job can be moved.")
class JobNotMovable(UserError):
    status: JobStatus = strawberry.field(description="Current status of the job.")


MoveJobError = Annotated[
    NotFound | Forbidden | InvalidInput | JobNotMovable,
    strawberry.union("MoveJobError", description="Reason why a job was not moved."),
]


@strawberry.input(description="Job to move to the front of the queue.")
class MoveJobInput:
    job_id: strawberry.ID = strawberry.field(description="ID of the PENDING job.")


@strawberry.type(description="Result of moveJob.")
class MoveJobPayload:
    job: tables.JobRow | None = strawberry.field(
        graphql_type=Job | None,
        description="The job in its current state, also if it cannot be moved.",
    )
    errors: list[MoveJobError] = strawberry.field(description=ERRORS)


@strawberry.input(description="Reason of a pause.")
class PauseQueueInput:
    reason: str | None = strawberry.field(
        default=UNSET,
        description=f"1 to {REASON_LIMIT} characters, not blank. Default: null. Replaces the "
        "reason of a queue that is already paused.",
    )


@strawberry.type(description="Result of pauseQueue or resumeQueue.")
class QueuePayload:
    queue: JobQueue | None = strawberry.field(
        description="The queue after the change; null if refused."
    )
    errors: list[QueueError] = strawberry.field(description=ERRORS)


async def _move_job(
    info: Info,
    input: Annotated[MoveJobInput, strawberry.argument(description="The job to move.")],
) -> MoveJobPayload:
    job, errors = await change_job(info, input.job_id, service.move_to_front, JobNotMovable)
    return MoveJobPayload(job=job, errors=errors)


async def _pause_queue(
    info: Info,
    input: Annotated[
        PauseQueueInput | None, strawberry.argument(description="The reason. Default: null.")
    ] = UNSET,
) -> QueuePayload:
    reason = none_if_unset(input.reason) if input else None
    return await _change_queue(info, service.pause, info.context.requester, reason)


async def _resume_queue(info: Info) -> QueuePayload:
    return await _change_queue(info, service.resume, info.context.store)


async def _change_queue(
    info: Info,
    change: Callable[Concatenate[Transaction, P], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> QueuePayload:
    loaders = reset_loaders(info.context.database, info.context.caller, info.context.budget)
    try:
        info.context.caller.check(Scope.JOBS_WRITE)
        await info.context.database.client_write(info.context.store, change, *args, **kwargs)
    except DomainError as error:
        return QueuePayload(queue=None, errors=[refusal_of(error)])
    return QueuePayload(queue=await loaders.read(job_queue, loaders.caller), errors=[])


@strawberry.type
class QueueMutations:
    move_job: MoveJobPayload = mutation(
        _move_job,
        "Move a PENDING job to the front of its store's queue. Its createdAt does not change.",
    )
    pause_queue: QueuePayload = mutation(
        _pause_queue,
        "Stop starting jobs of the store. The running job continues, and new jobs are accepted.",
    )
    resume_queue: QueuePayload = mutation(_resume_queue, "Start jobs of the store again.")
