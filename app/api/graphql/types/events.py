"""Events of jobs, as subscriptions deliver them."""

from datetime import datetime
from typing import Any

import strawberry

from app.api.graphql.cursors import Cursors, whole
from app.api.graphql.fields.declarations import (
    expression,
)
from app.api.graphql.scalars import describe
from app.api.graphql.types.jobs import Job
from app.domain.events import JobEventType
from app.domain.jobs import JobStatus
from app.services.feed import FeedEvent

describe(
    JobEventType,
    "What an event says of its job.",
    {
        JobEventType.SNAPSHOT: "How the job stood when the subscription began.",
        JobEventType.CREATED: "It was asked for.",
        JobEventType.MOVED: "It came to the front of those that wait.",
        JobEventType.STARTED: "It began to run.",
        JobEventType.PROGRESS: "It came further: the latest state, at most 4 a "
        "second, not kept in the log.",
        JobEventType.SUCCEEDED: "It is done.",
        JobEventType.FAILED: "It failed.",
        JobEventType.CANCELLED: "It was cancelled.",
    },
)


EVENTS = Cursors("events", whole)


@strawberry.type(
    description="One change of one job. Changes of status arrive in commit order, none lost, "
    "none twice."
)
class JobEvent:
    cursor: str = expression(
        lambda happening: EVENTS.encode((happening.seq,)),
        "Pass as `after` to resume behind this event.",
    )
    type: JobEventType = strawberry.field(description="What happened.")
    at: datetime = strawberry.field(description="When it happened.")
    previous_status: JobStatus | None = strawberry.field(
        description="The status before; null for CREATED, MOVED, SNAPSHOT and PROGRESS."
    )
    job: Job = strawberry.field(description="The job as of this event, not as of now.")

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return isinstance(row, FeedEvent)
