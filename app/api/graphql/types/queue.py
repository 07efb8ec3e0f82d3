"""A store's queue: pause, hours, the running job."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import strawberry
from sqlmodel import Session

from app.api.graphql.context import Info
from app.api.graphql.fields.declarations import expression, reference_field
from app.api.graphql.types.events import EVENTS
from app.api.graphql.types.jobs import Job
from app.domain.callers import Caller
from app.domain.errors import InvalidInput
from app.domain.jobs import JobStatus
from app.storage import job_stats, lanes
from app.storage.job_stats import JobHour

MAX_HOURS = 7 * 24
"""Hours of a queue that are told of at once."""


def _counted(status: JobStatus) -> Callable[[JobHour], int]:
    return lambda hour: hour.counts.get(status, 0)


@strawberry.type(description="Since when a queue starts no job, and why.")
class QueuePause:
    at: datetime = strawberry.field(description="When it was paused.")
    reason: str | None = strawberry.field(description="What was said to be the reason.")
    by: str | None = strawberry.field(
        description="Who paused it, where requests are authenticated."
    )


@strawberry.type(
    description="The jobs that were asked for in one hour, by the status they have now."
)
class QueueHour:
    begins: datetime = strawberry.field(description="When the hour begins; each is a whole one.")
    pending: int = expression(_counted(JobStatus.PENDING), "How many of them wait.")
    started: int = expression(_counted(JobStatus.STARTED), "How many of them run.")
    success: int = expression(_counted(JobStatus.SUCCESS), "How many of them are done.")
    failed: int = expression(_counted(JobStatus.FAILED), "How many of them failed.")
    cancelled: int = expression(_counted(JobStatus.CANCELLED), "How many of them were cancelled.")
    average_seconds: float | None = strawberry.field(
        description="How long those took that ran to an end, done or failed; null without any."
    )
    longest_seconds: float | None = strawberry.field(
        description="How long the longest of them took; null without any."
    )


async def _hours(
    info: Info,
    hours: Annotated[
        int,
        strawberry.argument(
            description=f"How many, 1 to {MAX_HOURS}; 24 by default. The last one has only begun."
        ),
    ] = 24,
) -> Any:
    if not 1 <= hours <= MAX_HOURS:
        raise InvalidInput(f"hours is {hours}; 1 to {MAX_HOURS} are allowed.", ("hours",))
    # Every job of these hours is looked at.
    return await info.context.database.scan(job_stats.by_hour, info.context.store, hours)


@strawberry.type(description="The store's queue as it stands.")
class JobQueue:
    pending: int = strawberry.field(description="How many jobs wait.")
    running: Job | None = strawberry.field(description="The one that runs.")
    oldest_pending_at: datetime | None = strawberry.field(
        description="When the one that has waited longest was asked for."
    )
    cursor: str = strawberry.field(
        description="The end of the event log in the same picture: pass it to jobEvents as "
        "`after` to hear all that follows. Asked for ahead of lists in one query, it is no newer "
        "than they are."
    )
    pause: QueuePause | None = strawberry.field(
        description="Set while no job is started; the one that runs goes on. No event tells of it."
    )
    hours: list[QueueHour] = reference_field(
        _hours,
        "The last hours of the queue, the first one first.",
        "Every job of these hours is looked at, on a thread for such reads.",
    )


def job_queue(session: Session, caller: Caller) -> JobQueue:
    """The queue of the caller's store, and the end of its log at the same moment."""
    queue, head = lanes.queue(session, caller.store), lanes.event_head(session, caller.store)
    return JobQueue(
        pending=queue.pending,
        running=queue.running,  # type: ignore[arg-type]  # resolved from the row
        oldest_pending_at=queue.oldest_pending_at,
        cursor=EVENTS.encode((head,)),
        pause=queue.pause,  # type: ignore[arg-type]  # resolved from the row
    )
