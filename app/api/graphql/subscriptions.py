"""Everything that can be followed."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

import strawberry
from strawberry import UNSET

from app.api.graphql.context import Context, Info
from app.api.graphql.cursors import given
from app.api.graphql.fields.declarations import FIELD_SOURCE, ReferenceField
from app.api.graphql.types.events import EVENTS, JobEvent
from app.api.graphql.types.jobs import JobFilter
from app.domain.errors import NotFound
from app.domain.ids import uuid_of
from app.storage.jobs import JobFilter as StoredFilter

FOLLOWED = ReferenceField("An event is told once for all who follow it with one operation.")

Resume = Annotated[
    str | None,
    strawberry.argument(
        description="The cursor of the last event that was received: everything behind it follows, "
        "nothing is lost or repeated. Refused with the code CURSOR_EXPIRED once the events behind "
        "it are no longer kept (30 days by default)."
    ),
]


def _position(context: Context, after: str | None) -> int | None:
    cursor = context.resume_from or given(after)
    return None if cursor is None else EVENTS.decode(cursor, "after")[0]


async def _job_updates(
    info: Info,
    id: Annotated[strawberry.ID, strawberry.argument(description="The job to follow.")],
    after: Resume = UNSET,
) -> Any:
    job_id = uuid_of(id)
    if job_id is None:
        raise NotFound("job", id, ("id",))
    context = info.context
    seq = _position(context, after)
    return await context.feed.job_updates(context.store, job_id, seq)


async def _job_events(
    info: Info,
    filter: Annotated[
        JobFilter | None,
        strawberry.argument(
            description="Which events, by the job as of the event; all by default."
        ),
    ] = UNSET,
    after: Resume = UNSET,
) -> Any:
    context = info.context
    seq = _position(context, after)
    wanted = filter.stored() if filter else StoredFilter()
    return await context.feed.job_events(context.store, wanted, seq)


@strawberry.type(description="Everything that can be followed.")
class Subscription:
    job_updates: AsyncGenerator[JobEvent, None] = strawberry.subscription(
        resolver=_job_updates,
        description="One job: a SNAPSHOT first (or all events past `after`), then its changes; "
        "completes behind the last one.",
        metadata={FIELD_SOURCE: FOLLOWED},
    )
    job_events: AsyncGenerator[JobEvent, None] = strawberry.subscription(
        resolver=_job_events,
        description="Every matching job of the store: all events past `after`, else from now on.",
        metadata={FIELD_SOURCE: FOLLOWED},
    )
