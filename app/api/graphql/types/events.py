"""Job events, as subscriptions deliver them."""

from datetime import datetime

import strawberry

from app.api.graphql.cursors import Cursors, int_part
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.snapshot import snapshot
from app.api.graphql.scalars import describe_enum
from app.api.graphql.types.jobs import Job
from app.domain.events import JobEventType
from app.domain.jobs import JobStatus
from app.services.feed import FeedEvent
from app.storage import lanes
from app.storage.lanes import QueuePosition

describe_enum(
    JobEventType,
    "Type of a job event.",
    {
        JobEventType.SNAPSHOT: "State of the job when the subscription began.",
        JobEventType.CREATED: "The job was created.",
        JobEventType.MOVED: "The job moved to the front of the queue.",
        JobEventType.STARTED: "The job started.",
        JobEventType.PROGRESS: "The job made progress: its latest state, at most 4 per second, "
        "not kept in the event log.",
        JobEventType.SUCCEEDED: "The job succeeded.",
        JobEventType.FAILED: "The job failed.",
        JobEventType.CANCELLED: "The job was cancelled.",
    },
)

EVENTS = Cursors("events", int_part)


def _queue_position(event: FeedEvent) -> tuple[int, QueuePosition] | None:
    return (event.job.pk, event.queue_position) if event.queue_position else None


@strawberry.type(
    description="A change of one job. Status changes arrive in commit order, each exactly once."
)
class JobEvent:
    cursor: str = expression(
        lambda event: EVENTS.encode((event.seq,)),
        "Pass it as `after` to resume after this event.",
    )
    type: JobEventType = strawberry.field(description="Type of the event.")
    at: datetime = strawberry.field(description="Time of the change.")
    previous_status: JobStatus | None = strawberry.field(
        description="Status before the change; null for CREATED, MOVED, SNAPSHOT and PROGRESS."
    )
    job: Job = snapshot(
        lambda event: event.job,
        lanes.queue_positions,
        _queue_position,
        "The job as of this event, not its current state.",
    )

    @classmethod
    def is_type_of(cls, row: object, _info: object) -> bool:
        return isinstance(row, FeedEvent)
