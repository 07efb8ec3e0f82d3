"""A store's queue: counts, running job, pause, and statistics per hour."""

from datetime import datetime
from typing import Annotated

import strawberry

from app.api.graphql.context import Info
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.reference import reference_field
from app.api.graphql.fields.source import Declared
from app.api.graphql.types.events import EVENTS
from app.api.graphql.types.jobs import Job
from app.domain.callers import Caller
from app.domain.errors import InvalidInput
from app.domain.jobs import JobStatus
from app.storage import job_stats, lanes
from app.storage.engine.transaction import Transaction
from app.storage.job_stats import JobHour

MAX_HOURS = 7 * 24
"""Maximum number of hours per request."""

HOURS_COST = 100
"""Price of the statistics: they examine every job of their hours."""


def _count(status: JobStatus) -> Declared:
    return expression(
        lambda hour: hour.counts.get(status, 0), f"Number of these jobs that are {status.name}."
    )


@strawberry.type(description="Pause of a queue: no job starts.")
class QueuePause:
    at: datetime = strawberry.field(description="Time of the pause.")
    reason: str | None = strawberry.field(description="Reason from the request; null if omitted.")
    by: str | None = strawberry.field(
        description="Subject of the token that paused the queue; null without authentication."
    )


@strawberry.type(description="Jobs created within one hour, counted by their current status.")
class QueueHour:
    begins: datetime = strawberry.field(description="Start of the hour, on the hour.")
    pending: int = _count(JobStatus.PENDING)
    started: int = _count(JobStatus.STARTED)
    success: int = _count(JobStatus.SUCCESS)
    failed: int = _count(JobStatus.FAILED)
    cancelled: int = _count(JobStatus.CANCELLED)
    average_seconds: float | None = strawberry.field(
        description="Average run time in seconds of those that ended, SUCCESS or FAILED; null if "
        "none has."
    )
    longest_seconds: float | None = strawberry.field(
        description="Longest run time in seconds of those that ended; null if none has."
    )


async def _hours(
    info: Info,
    hours: Annotated[
        int,
        strawberry.argument(
            description=f"Number of hours, 1 to {MAX_HOURS}. Default: 24. The last one is the "
            "current, incomplete hour."
        ),
    ] = 24,
) -> list[JobHour]:
    if not 1 <= hours <= MAX_HOURS:
        raise InvalidInput(f"hours is {hours}; 1 to {MAX_HOURS} are allowed.", ("hours",))
    # Reads every job of these hours, so it runs on a scan thread.
    store = info.context.store
    return await info.context.database.client_scan(store, job_stats.by_hour, store, hours)


@strawberry.type(description="Current state of the store's queue.")
class JobQueue:
    pending: int = strawberry.field(description="Number of PENDING jobs.")
    running: Job | None = strawberry.field(description="The STARTED job; null if none.")
    oldest_pending_at: datetime | None = strawberry.field(
        description="Creation time of the oldest PENDING job; null if none."
    )
    cursor: str = strawberry.field(
        description="End of the event log in the same snapshot: pass it to jobEvents as `after` to "
        "receive all later events. If selected before lists in one query, it is not newer than "
        "they are."
    )
    pause: QueuePause | None = strawberry.field(
        description="Set while no job starts; the running one continues. No event reports pauses."
    )
    hours: list[QueueHour] = reference_field(
        _hours,
        "Statistics of the latest hours, oldest first.",
        "Every job of these hours is read, on a scan thread.",
        cost=HOURS_COST,
        length=MAX_HOURS,
    )


def job_queue(tx: Transaction, caller: Caller) -> JobQueue:
    """Read the queue of the caller's store and the end of its event log in one snapshot."""
    queue, head = lanes.queue_state(tx, caller.store), lanes.event_head(tx, caller.store)
    return JobQueue(
        pending=queue.pending,
        running=queue.running,  # type: ignore[arg-type]  # resolved from the row
        oldest_pending_at=queue.oldest_pending_at,
        cursor=EVENTS.encode((head,)),
        pause=queue.pause,  # type: ignore[arg-type]  # resolved from the row
    )
