"""The event log of each store: gapless numbers in commit order."""

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
from app.storage.sql.rows import ALL_COLUMNS, column_names
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Job, JobEvent, Lane


def append(
    session: Session,
    lane: LockedLane,
    job: Job,
    previous: JobStatus | None,
    at: datetime,
    position: QueuePosition | None = None,
    type: JobEventType | None = None,
) -> None:
    """Log a change of `job`, in the transaction that makes it.

    `type` defaults to the event of the job's status. The caller holds the lane's lock, so numbers
    follow commit order. The snapshot has the whole job, and its `position` while it is pending.
    """
    lane.event_seq += 1
    snapshot = {name: getattr(job, name) for name in _SNAPSHOT}
    if position:
        snapshot["standing"] = [position.position, position.start_at]
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
    name for name in column_names(Job, ALL_COLUMNS) if name not in ("checkpoint", "traceparent")
]
_APPEND = CompiledStatement(
    lambda _: sa.insert(JobEvent).values(dict.fromkeys(column_names(JobEvent, ALL_COLUMNS)))
)


@dataclass(frozen=True, slots=True)
class EventRange:
    """Consecutive events of a store, or of one of its jobs."""

    events: Sequence[JobEvent]
    covered_seq: int
    """The number up to which `events` is complete."""


def after(
    session: Session, store: str, seq: int, limit: int, job_pk: int | None = None
) -> EventRange:
    """The next `limit` events after `seq`, of all jobs or one.

    Raises CursorExpired if events after `seq` have been pruned.
    """
    bounds = lanes.log_bounds(session, store)
    if seq < bounds.pruned:
        raise CursorExpired
    query = select(JobEvent).where(JobEvent.store == store, JobEvent.seq > seq)
    if job_pk is not None:
        query = query.where(JobEvent.job_pk == job_pk)
    events = session.exec(query.order_by(col(JobEvent.seq)).limit(limit)).all()
    covered_seq = events[-1].seq if len(events) == limit else bounds.head
    return EventRange(events, max(covered_seq, seq))


def oldest(session: Session, store: str, before: datetime, limit: int) -> Sequence[JobEvent]:
    """The oldest `limit` events of the log that are earlier than `before`."""
    pruned = lanes.log_bounds(session, store).pruned
    events = session.exec(
        select(JobEvent)
        .where(JobEvent.store == store, JobEvent.seq > pruned)
        .order_by(col(JobEvent.seq))
        .limit(limit)
    )
    return list(takewhile(lambda event: event.at < before, events))


def stores_with_older(session: Session, before: datetime) -> Sequence[str]:
    """The stores whose oldest event is earlier than `before`."""
    return session.exec(
        select(Lane.store).where(
            JobEvent.store == Lane.store,
            JobEvent.seq == Lane.pruned_seq + 1,
            JobEvent.at < before,
        )
    ).all()


def prune(session: Session, lane: LockedLane, seq: int) -> None:
    """Delete the events up to `seq` of the lane's store."""
    session.exec(
        sa.delete(JobEvent).where(col(JobEvent.store) == lane.store, col(JobEvent.seq) <= seq)
    )
    lane.pruned_seq = seq


def job_of(event: JobEvent) -> Job:
    """The job as of the event."""
    return Job.model_validate({**event.snapshot, "checkpoint": None})


def queue_position_of(event: JobEvent) -> QueuePosition | None:
    """The job's queue position as of the event, if it was pending."""
    if "standing" not in event.snapshot:
        return None
    position, start_at = event.snapshot["standing"]
    return QueuePosition(position, datetime.fromisoformat(start_at) if start_at else None)
