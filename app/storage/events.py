"""The event log of each store: gapless numbers in commit order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

import sqlalchemy as sa
from sqlmodel import col

from app.domain.events import CursorExpired, JobEventType, event_of
from app.domain.jobs import JobStatus
from app.domain.lanes import LockedLane
from app.storage import lanes
from app.storage.engine.statements import AnySelect, PreparedChange
from app.storage.engine.transaction import Transaction
from app.storage.lanes import QueuePosition
from app.storage.sql.keyset import ROW_LIMIT
from app.storage.sql.rows import ALL_COLUMNS, RowQuery, column_names, row_from_json
from app.storage.tables import Job, JobEvent, JobEventRow, JobRow, Lane


def append(
    tx: Transaction,
    lane: LockedLane,
    job: JobRow,
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
    tx.changed(_APPEND, event)
    tx.announce(job.store)


_SNAPSHOT = [
    name for name in column_names(Job, ALL_COLUMNS) if name not in ("checkpoint", "traceparent")
]
_APPEND = PreparedChange(
    lambda _: sa.insert(JobEvent).values(dict.fromkeys(column_names(JobEvent, ALL_COLUMNS)))
)


@dataclass(frozen=True, slots=True)
class EventRange:
    """Consecutive events of a store, or of one of its jobs."""

    events: Sequence[JobEventRow]
    covered_seq: int
    """The number up to which `events` is complete."""


def after(
    tx: Transaction, store: str, seq: int, limit: int, job_pk: int | None = None
) -> EventRange:
    """The next `limit` events after `seq`, of all jobs or one.

    Raises CursorExpired if events after `seq` have been pruned.
    """
    bounds = lanes.log_bounds(tx, store)
    if seq < bounds.pruned:
        raise CursorExpired
    values = {"store": store, "seq": seq, "rows": limit}
    if job_pk is None:
        events = _AFTER.rows(tx, values)
    else:
        events = _AFTER_OF_JOB.rows(tx, {**values, "job_pk": job_pk})
    covered_seq = events[-1].seq if len(events) == limit else bounds.head
    return EventRange(events, max(covered_seq, seq))


def _in_order(query: AnySelect) -> AnySelect:
    return query.order_by(col(JobEvent.seq)).limit(ROW_LIMIT)


_IS_AFTER = sa.and_(
    col(JobEvent.store) == sa.bindparam("store"), col(JobEvent.seq) > sa.bindparam("seq")
)
_AFTER = RowQuery(JobEventRow, lambda _: _IS_AFTER, _in_order)
_AFTER_OF_JOB = RowQuery(
    JobEventRow,
    lambda _: sa.and_(_IS_AFTER, col(JobEvent.job_pk) == sa.bindparam("job_pk")),
    _in_order,
)


def oldest(tx: Transaction, store: str, before: datetime, limit: int) -> Sequence[JobEventRow]:
    """The oldest `limit` events of the log that are earlier than `before`."""
    pruned = lanes.log_bounds(tx, store).pruned
    events = _AFTER.rows(tx, {"store": store, "seq": pruned, "rows": limit})
    return list(takewhile(lambda event: event.at < before, events))


def stores_with_older(tx: Transaction, before: datetime) -> Sequence[str]:
    """The stores whose oldest event is earlier than `before`."""
    stores = tx.rows(
        sa.select(col(Lane.store)).where(
            col(JobEvent.store) == col(Lane.store),
            col(JobEvent.seq) == col(Lane.pruned_seq) + 1,
            col(JobEvent.at) < before,
        )
    )
    return [store for (store,) in stores]


def prune(tx: Transaction, lane: LockedLane, seq: int) -> None:
    """Delete the events up to `seq` of the lane's store."""
    tx.changed(
        sa.delete(JobEvent).where(col(JobEvent.store) == lane.store, col(JobEvent.seq) <= seq)
    )
    lane.pruned_seq = seq


def job_of(event: JobEventRow) -> JobRow:
    """The job as of the event."""
    return row_from_json(JobRow, event.snapshot)


def queue_position_of(event: JobEventRow) -> QueuePosition | None:
    """The job's queue position as of the event, if it was pending."""
    if "standing" not in event.snapshot:
        return None
    position, start_at = event.snapshot["standing"]
    return QueuePosition(position, datetime.fromisoformat(start_at) if start_at else None)
