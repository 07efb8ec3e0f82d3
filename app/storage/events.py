"""The event log of each store: numbered without gaps, in commit order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.events import CursorExpired, JobEventType, event_of
from app.domain.jobs import JobStatus
from app.storage import lanes
from app.storage.engine.database import announce
from app.storage.lanes import LockedLane, QueuePosition
from app.storage.sql.rows import ALL_COLUMNS, columns_of
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Job, JobEvent, Lane


def append(
    session: Session,
    lane: LockedLane,
    job: Job,
    previous: JobStatus | None,
    at: datetime,
    standing: QueuePosition | None = None,
    type: JobEventType | None = None,
) -> None:
    """Log that `job` has come to its status, or else what `type` says, in the transaction that
    brought it there.

    The lane is locked by the caller, so numbers are taken in the order of commits. The snapshot
    is the whole job, with its standing while it was pending.
    """
    lane.event_seq += 1
    snapshot = {name: getattr(job, name) for name in _SNAPSHOT}
    if standing:
        snapshot["standing"] = [standing.position, standing.start_at]
    event = {
        "store": job.store,
        "seq": lane.event_seq,
        "job_pk": job.pk,
        "type": type or event_of(job.status),
        "at": at,
        "previous_status": previous,
        "snapshot": snapshot,
    }
    _APPEND.changed(session, event)
    announce(session, job.store)


_SNAPSHOT = [
    name for name in columns_of(Job, ALL_COLUMNS) if name not in ("checkpoint", "traceparent")
]
_APPEND = CompiledStatement(
    lambda _: sa.insert(JobEvent).values(dict.fromkeys(columns_of(JobEvent, ALL_COLUMNS)))
)


@dataclass(frozen=True, slots=True)
class EventRange:
    """Events in order, and the number up to which there are no others of the kind asked for."""

    events: Sequence[JobEvent]
    reaches: int


def after(
    session: Session, store: str, seq: int, limit: int, job_pk: int | None = None
) -> EventRange:
    """The next `limit` events past `seq`, of one job where it is given.

    Raises CursorExpired when some of those past it are no longer there.
    """
    bounds = lanes.log_bounds(session, store)
    if seq < bounds.pruned:
        raise CursorExpired
    wanted = select(JobEvent).where(JobEvent.store == store, JobEvent.seq > seq)
    if job_pk is not None:
        wanted = wanted.where(JobEvent.job_pk == job_pk)
    found = session.exec(wanted.order_by(col(JobEvent.seq)).limit(limit)).all()
    reaches = found[-1].seq if len(found) == limit else bounds.head
    return EventRange(found, max(reaches, seq))


def oldest(session: Session, store: str, before: datetime, limit: int) -> Sequence[JobEvent]:
    """The first `limit` events of the log, up to the first one that is not older than `before`."""
    pruned = lanes.log_bounds(session, store).pruned
    found = session.exec(
        select(JobEvent)
        .where(JobEvent.store == store, JobEvent.seq > pruned)
        .order_by(col(JobEvent.seq))
        .limit(limit)
    )
    return list(takewhile(lambda event: event.at < before, found))


def stores_with_older(session: Session, before: datetime) -> Sequence[str]:
    """The stores whose log begins before that."""
    return session.exec(
        select(Lane.store).where(
            JobEvent.store == Lane.store,
            JobEvent.seq == Lane.pruned_seq + 1,
            JobEvent.at < before,
        )
    ).all()


def prune(session: Session, lane: LockedLane, seq: int) -> None:
    """Let the log of the lane, which is locked, begin behind `seq`."""
    session.exec(
        sa.delete(JobEvent).where(col(JobEvent.store) == lane.store, col(JobEvent.seq) <= seq)
    )
    lane.pruned_seq = seq


def job_of(event: JobEvent) -> Job:
    """The job as it was at the event."""
    return Job.model_validate({**event.snapshot, "checkpoint": None})


def queue_position_of(event: JobEvent) -> QueuePosition | None:
    """Where the job stood in the queue at the event, while it was pending."""
    if "standing" not in event.snapshot:
        return None
    position, start_at = event.snapshot["standing"]
    return QueuePosition(position, datetime.fromisoformat(start_at) if start_at else None)
