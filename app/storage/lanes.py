"""Lanes: each store's queue as one lockable row, its leases and forecast."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from app.domain.forecast import Pace, QueueForecast, RunningJob
from app.domain.jobs import JobStatus
from app.storage import jobs
from app.storage.engine.database import before_commit, now
from app.storage.sql.column_types import Instant, literal
from app.storage.sql.dialects import dialect_of, in_keys, in_keys_values, insert_ignore, no_index
from app.storage.sql.rows import RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Job, Lane


@dataclass(frozen=True, slots=True)
class QueueState:
    """The present state of a store's queue."""

    pending: int
    oldest_pending_at: datetime | None
    running: Job | None
    pace: Pace
    pause: "PauseState | None" = None


@dataclass(frozen=True, slots=True)
class PauseState:
    """The pause of a queue, which starts no jobs meanwhile."""

    at: datetime
    reason: str | None
    by: str | None
    """Subject of the caller."""


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Position of a pending job (1 is next) and its estimated start."""

    position: int
    start_at: datetime | None


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The events a store's log has: those after `pruned`, up to `head`."""

    pruned: int
    head: int


@dataclass(slots=True)
class LockedLane:
    """A store's lane, locked until the transaction ends.

    Changes of its fields are written right before the commit.
    """

    store: str
    epoch: int
    holder: UUID | None
    lease_until: datetime | None
    job_seq: int
    event_seq: int
    pruned_seq: int
    front_turn: int
    last_created_at: datetime | None
    paused_at: datetime | None
    pause_reason: str | None
    paused_by: str | None
    pending: int
    pending_items: int
    pace_seconds: float
    pace_items: float


def lock(session: Session, store: str) -> LockedLane:
    """Lock the store's lane until the transaction ends; insert it if missing."""
    locked: dict[str, LockedLane] = session.info.setdefault("lanes", {})
    if store not in locked:
        rows = _LOCK.rows(session, {"store": store})
        if not rows:
            insert_ignore(session, Lane, [Lane(store=store).model_dump()])
            rows = _LOCK.rows(session, {"store": store})
        decoders = zip(_LOCK.decoders(session), rows[0], strict=True)
        lane = LockedLane(*(decode(value) if decode else value for decode, value in decoders))
        locked[store] = lane
        before_commit(session, partial(_write, session, lane, replace(lane)))
    return locked[store]


def _write(session: Session, lane: LockedLane, stored: LockedLane) -> None:
    if lane != stored:
        values = {name: getattr(lane, name) for name in _COLUMNS}
        changed = _WRITE.changed(session, {"of": lane.store, **values})
        assert changed == 1, "the lane is locked"


_COLUMNS = [field.name for field in fields(LockedLane)]
_LOCK = CompiledStatement(
    lambda _: (
        sa.select(*(getattr(Lane, name) for name in _COLUMNS))
        .where(col(Lane.store) == sa.bindparam("store"))
        .with_for_update()
    )
)
_WRITE = CompiledStatement(
    lambda _: (
        sa.update(Lane)
        .where(col(Lane.store) == sa.bindparam("of"))
        .values(dict.fromkeys(set(_COLUMNS) - {"store"}))
    )
)


def _read(session: Session, store: str) -> Lane | None:
    """Read the store's lane without a lock."""
    rows: list[Lane] = _READ.rows(session, {"store": store})
    return rows[0] if rows else None


_READ = RowQuery(Lane, lambda _: col(Lane.store) == sa.bindparam("store"))


def log_bounds(session: Session, store: str) -> LogBounds:
    """The present bounds of the store's event log."""
    rows = _LOG_BOUNDS.rows(session, {"store": store})
    return LogBounds(*rows[0]) if rows else LogBounds(0, 0)


_LOG_BOUNDS = CompiledStatement(
    lambda _: sa.select(col(Lane.pruned_seq), col(Lane.event_seq)).where(
        col(Lane.store) == sa.bindparam("store")
    )
)


def event_head(session: Session, store: str) -> int:
    """The number of the store's last event, 0 before the first."""
    return log_bounds(session, store).head


def claimable_stores(session: Session, stores: Collection[str] | None = None) -> list[str]:
    """The stores with a job to run, longest wait first.

    That is a pending job in a queue without pause or running job, or a started job whose lease
    expired. `stores` restricts the search; None means all stores.
    """
    if stores is None:
        return [store for (store,) in _CLAIMABLE.rows(session, {"now": now(session)})]
    query = _claimable_query().where(col(Lane.store).in_(stores))
    return list(session.execute(query, {"now": now(session)}).scalars())


def _claimable_query() -> sa.Select[Any]:
    def any_job(status: JobStatus) -> sa.ColumnElement[bool]:
        return sa.exists().where(col(Job.store) == col(Lane.store), col(Job.status) == status)

    is_free = sa.or_(
        col(Lane.lease_until).is_(None), col(Lane.lease_until) <= sa.bindparam("now", type_=Instant)
    )
    has_work = sa.or_(
        any_job(JobStatus.STARTED),
        sa.and_(col(Lane.paused_at).is_(None), any_job(JobStatus.PENDING)),
    )
    waiting_since = (
        sa.select(col(Job.created_at))
        .where(col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
        .scalar_subquery()
    )
    return sa.select(col(Lane.store)).where(is_free, has_work).order_by(waiting_since.nulls_first())


_CLAIMABLE = CompiledStatement(lambda _: _claimable_query())


def extend_lease(session: Session, store: str, epoch: int, until: datetime) -> bool:
    """Extend the lane's lease to `until`. Return False if `epoch` no longer holds it."""
    extended = session.exec(
        sa.update(Lane)
        .where(col(Lane.store) == store, col(Lane.epoch) == epoch, col(Lane.holder).is_not(None))
        .values(lease_until=until)
    )
    return extended.rowcount == 1


def release(session: Session, store: str, epoch: int, pause: timedelta) -> bool:
    """Release the lane. Return False if `epoch` no longer holds it.

    Its started job can be claimed by any worker after `pause`.
    """
    released = session.exec(
        sa.update(Lane)
        .where(col(Lane.store) == store, col(Lane.epoch) == epoch, col(Lane.holder).is_not(None))
        .values(holder=None, lease_until=now(session) + pause)
    )
    return released.rowcount == 1


def end_all_leases(session: Session) -> None:
    """Make all started jobs claimable, for a process that runs alone."""
    session.exec(
        sa.update(Lane).where(col(Lane.lease_until).is_not(None)).values(lease_until=now(session))
    )


def forecast(session: Session, lane: Lane | LockedLane) -> QueueForecast:
    """Read the inputs for start-time estimates of the lane's store."""
    job = jobs.started(session, lane.store)
    running = (
        RunningJob(job.started_at, job.completed_items, job.total_items or job.items)
        if job
        else None
    )
    return QueueForecast(running, _pace(lane), lane.paused_at is not None)


def _pace(lane: Lane | LockedLane) -> Pace:
    return Pace(lane.pace_seconds, lane.pace_items)


def queue_state(session: Session, store: str) -> QueueState:
    """Read the present state of the store's queue."""
    lane = _read(session, store)
    if lane is None:
        return QueueState(0, None, None, Pace())
    pause = (
        PauseState(lane.paused_at, lane.pause_reason, lane.paused_by) if lane.paused_at else None
    )
    oldest = jobs.oldest_pending_at(session, store)
    return QueueState(lane.pending, oldest, jobs.started(session, store), _pace(lane), pause)


def queue_positions(
    session: Session, store: str, job_pks: Collection[int]
) -> dict[int, QueuePosition]:
    """The queue position of each pending job among `job_pks`."""
    # Counting is faster for one job; for several, a window over the queue is not slower.
    statement = _POSITION if len(job_pks) == 1 else _POSITIONS
    rows = statement.rows(session, {"store": store, **in_keys_values(dialect_of(session), job_pks)})
    lane = _read(session, store)
    if lane is None:
        return {}
    queue, at = forecast(session, lane), now(session)
    return {
        pk: QueuePosition(position, queue.start_time(at, position - 1, int(items_to_here) - items))
        for pk, position, items_to_here, items in rows
    }


def _positions_query(dialect: str) -> sa.Select[Any]:
    last = sa.select(sa.func.max(col(Job.turn))).where(in_keys(dialect, col(Job.pk)))
    pending = (
        sa.select(
            col(Job.pk),
            sa.func.row_number().over(order_by=col(Job.turn)).label("position"),
            sa.func.sum(col(Job.items)).over(order_by=col(Job.turn)).label("items_to_here"),
            col(Job.items),
        )
        .where(*jobs.is_pending(sa.bindparam("store")), col(Job.turn) <= last.scalar_subquery())
        .subquery()
    )
    return sa.select(pending).where(in_keys(dialect, pending.c.pk))


_POSITIONS = CompiledStatement(_positions_query)


def _position_query(dialect: str) -> sa.Select[Any]:
    ahead: Any = aliased(Job)
    is_ahead = sa.and_(*jobs.is_pending(sa.bindparam("store"), ahead), ahead.turn <= col(Job.turn))
    return (
        sa.select(col(Job.pk), sa.func.count(), sa.func.sum(ahead.items), col(Job.items))
        .join_from(Job, ahead, is_ahead)
        .where(
            in_keys(dialect, col(Job.pk)),
            no_index(col(Job.store)) == sa.bindparam("store"),
            no_index(col(Job.status)) == literal(JobStatus.PENDING),
        )
        .group_by(col(Job.pk), col(Job.items))
    )


_POSITION = CompiledStatement(_position_query)
