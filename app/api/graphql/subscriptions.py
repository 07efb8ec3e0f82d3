"""The subscription root: event streams of jobs."""

from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry
from strawberry import UNSET

from app.api.graphql.context import Context, Info
from app.api.graphql.cursors import none_if_unset
from app.api.graphql.fields.subscription import subscription
from app.api.graphql.types.events import EVENTS, JobEvent
from app.api.graphql.types.jobs import JobFilter
from app.domain.errors import NotFound
from app.domain.ids import uuid_of
from app.services.feed import FeedEvent
from app.storage import jobs

Resume = Annotated[
    str | None,
    strawberry.argument(
        description="Cursor of the last received event: all later events follow, none lost or "
        "repeated. Refused with the code CURSOR_EXPIRED once later events have been deleted, by "
        "default after 30 days."
    ),
]


def _resume_seq(context: Context, after: str | None) -> int | None:
    cursor = context.resume_from or none_if_unset(after)
    return None if cursor is None else EVENTS.decode(cursor, "after")[0]


async def _job_updates(
    info: Info,
    id: Annotated[strawberry.ID, strawberry.argument(description="ID of the job to follow.")],
    after: Resume = UNSET,
) -> AsyncGenerator[FeedEvent, None]:
    job_id = uuid_of(id)
    if job_id is None:
        raise NotFound("job", id, ("id",))
    context = info.context
    seq = _resume_seq(context, after)
    return await context.feed.job_updates(context.store, job_id, seq)


async def _job_events(
    info: Info,
    filter: Annotated[
        JobFilter | None,
        strawberry.argument(
            description="Conditions on the job as of the event. Default: all jobs."
        ),
    ] = UNSET,
    after: Resume = UNSET,
) -> AsyncGenerator[FeedEvent, None]:
    context = info.context
    seq = _resume_seq(context, after)
    job_filter = filter.to_storage() if filter else jobs.JobFilter()
    return await context.feed.job_events(context.store, job_filter, seq)


@strawberry.type(description="Event streams.")
class Subscription:
    job_updates: AsyncGenerator[JobEvent, None] = subscription(
        _job_updates,
        "Follow one job: first a SNAPSHOT, or all events after `after`, then every change. "
        "Completes after the final event.",
    )
    job_events: AsyncGenerator[JobEvent, None] = subscription(
        _job_events,
        "Follow all matching jobs of the store: all events after `after`, or new events only.",
    )
