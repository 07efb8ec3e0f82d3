"""Lanes: each store's queue as one lockable row, its leases and forecast."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.forecast import Pace, QueueForecast, RunningJob
from app.domain.job_times import MAX_LEASE
from app.domain.jobs import JobStatus
from app.domain.lanes import LockedLane
from app.storage import jobs
from app.storage.engine.statements import AnyQuery, PreparedChange, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.column_types import Instant, literal
from app.storage.sql.dialects import in_keys, in_keys_values, insert_ignore, no_index
from app.storage.sql.rows import RowQuery
from app.storage.tables import Job, JobRow, Lane, LaneRow


@dataclass(frozen=True, slots=True)
class QueueState:
    """The present state of a store's queue."""

    pending: int
    oldest_pending_at: datetime | None
    running: JobRow | None
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


def lock(tx: Transaction, store: str) -> LockedLane:
    """Lock the store's lane until the transaction ends; insert it if missing."""
    if store not in tx.locked_lanes:
        rows = tx.rows(_LOCK, {"store": store})
        if not rows:
            insert_ignore(tx, Lane, [{"store": store}])
            rows = tx.rows(_LOCK, {"store": store})
        lane = LockedLane(*rows[0])
        tx.locked_lanes[store] = lane
        tx.before_commit(partial(_write, tx, lane, replace(lane)))
    return tx.locked_lanes[store]


def _write(tx: Transaction, lane: LockedLane, stored: LockedLane) -> None:
    if lane != stored:
        values = {name: getattr(lane, name) for name in _COLUMNS}
        changed = tx.changed(_WRITE, {"of": lane.store, **values})
        assert changed == 1, "the lane is locked"


_COLUMNS = [field.name for field in fields(LockedLane)]
_LOCK: AnyQuery = PreparedQuery(
    lambda _: (
        sa.select(*(getattr(Lane, name) for name in _COLUMNS))
        .where(col(Lane.store) == sa.bindparam("store"))
        .with_for_update()
    )
)
_WRITE = PreparedChange(
    lambda _: (
        sa.update(Lane)
        .where(col(Lane.store) == sa.bindparam("of"))
        .values(dict.fromkeys(set(_COLUMNS) - {"store"}))
    )
)


def _read(tx: Transaction, store: str) -> LaneRow | None:
    """Read the store's lane without a lock."""
    return _READ.first(tx, {"store": store})


_READ = RowQuery(LaneRow, lambda _: col(Lane.store) == sa.bindparam("store"))


def log_bounds(tx: Transaction, store: str) -> LogBounds:
    """The present bounds of the store's event log."""
    rows = tx.rows(_LOG_BOUNDS, {"store": store})
    return LogBounds(*rows[0]) if rows else LogBounds(0, 0)


_LOG_BOUNDS = PreparedQuery(
    lambda _: sa.select(col(Lane.pruned_seq), col(Lane.event_seq)).where(
        col(Lane.store) == sa.bindparam("store")
    )
)


def event_head(tx: Transaction, store: str) -> int:
    """The number of the store's last event, 0 before the first."""
    return log_bounds(tx, store).head


def is_free(
    now: datetime | sa.ColumnElement[datetime], latest: datetime | sa.ColumnElement[datetime]
) -> sa.ColumnElement[bool]:
    """The condition that no lease of a lane holds, by the rule of `job_times.is_leased`.

    `latest` is the end of the longest lease that begins now.
    """
    until = col(Lane.lease_until)
    return sa.or_(until.is_(None), until <= now, until > latest)


def claimable_stores(tx: Transaction, stores: Collection[str] | None = None) -> list[str]:
    """The stores with a job to run, longest wait first.

    That is a pending job in a queue without pause or running job, or a started job whose lease
    expired. `stores` restricts the search; None means all stores.
    """
    query = _CLAIMABLE if stores is None else _claimable_query().where(col(Lane.store).in_(stores))
    now = tx.now()
    return [store for (store,) in tx.rows(query, {"now": now, "latest": now + MAX_LEASE})]


def _claimable_query() -> sa.Select[str]:
    def any_job(status: JobStatus) -> sa.ColumnElement[bool]:
        return sa.exists().where(col(Job.store) == col(Lane.store), col(Job.status) == status)

    free = is_free(sa.bindparam("now", type_=Instant), sa.bindparam("latest", type_=Instant))
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
    return sa.select(col(Lane.store)).where(free, has_work).order_by(waiting_since.nulls_first())


_CLAIMABLE = PreparedQuery(lambda _: _claimable_query())


def extend_lease(tx: Transaction, store: str, epoch: int, until: datetime) -> bool:
    """Extend the lane's lease to `until`. Return False if `epoch` no longer holds it."""
    return tx.changed(_EXTEND, {"of": store, "held": epoch, "lease_until": until}) == 1


def release(tx: Transaction, store: str, epoch: int, pause: timedelta) -> bool:
    """Release the lane. Return False if `epoch` no longer holds it.

    Its started job can be claimed by any worker after `pause`.
    """
    values = {"holder": None, "lease_until": tx.now() + pause}
    return tx.changed(_RELEASE, {"of": store, "held": epoch, **values}) == 1


def _update_held(*names: str) -> PreparedChange:
    """Update columns of a lane that an epoch holds."""
    return PreparedChange(
        lambda _: (
            sa.update(Lane)
            .where(
                col(Lane.store) == sa.bindparam("of"),
                col(Lane.epoch) == sa.bindparam("held"),
                col(Lane.holder).is_not(None),
            )
            .values(dict.fromkeys(names))
        )
    )


_EXTEND = _update_held("lease_until")
_RELEASE = _update_held("holder", "lease_until")


def end_all_leases(tx: Transaction) -> None:
    """Make all started jobs claimable, for a process that runs alone."""
    leased = col(Lane.lease_until).is_not(None)
    tx.changed(sa.update(Lane).where(leased).values(lease_until=tx.now()))


def forecast(tx: Transaction, lane: LaneRow | LockedLane) -> QueueForecast:
    """Read the inputs for start-time estimates of the lane's store."""
    job = jobs.started(tx, lane.store)
    running = (
        RunningJob(job.started_at, job.completed_items, job.total_items or job.items)
        if job
        else None
    )
    return QueueForecast(running, _pace(lane), lane.paused_at is not None)


def _pace(lane: LaneRow | LockedLane) -> Pace:
    return Pace(lane.pace_seconds, lane.pace_items)


def queue_state(tx: Transaction, store: str) -> QueueState:
    """Read the present state of the store's queue."""
    lane = _read(tx, store)
    if lane is None:
        return QueueState(0, None, None, Pace())
    pause = (
        PauseState(lane.paused_at, lane.pause_reason, lane.paused_by) if lane.paused_at else None
    )
    oldest = jobs.oldest_pending_at(tx, store)
    return QueueState(lane.pending, oldest, jobs.started(tx, store), _pace(lane), pause)


def queue_positions(
    tx: Transaction, store: str, job_pks: Collection[int]
) -> dict[int, QueuePosition]:
    """The queue position of each pending job among `job_pks`."""
    # Counting is faster for one job; for several, a window over the queue is not slower.
    statement = _POSITION if len(job_pks) == 1 else _POSITIONS
    rows = tx.rows(statement, {"store": store, **in_keys_values(tx.dialect.name, job_pks)})
    lane = _read(tx, store)
    if lane is None:
        return {}
    queue, at = forecast(tx, lane), tx.now()
    return {
        # PostgreSQL returns sums of integers as decimals.
        pk: QueuePosition(position, queue.start_time(at, position - 1, int(items_to_here) - items))
        for pk, position, items_to_here, items in rows
    }


def _positions_query(dialect: str) -> sa.Select[int, int, int, int]:
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


_POSITIONS = PreparedQuery(_positions_query)


def _position_query(dialect: str) -> sa.Select[int, int, int, int]:
    ahead = aliased(Job)
    is_ahead = sa.and_(
        *jobs.is_pending(sa.bindparam("store"), ahead), col(ahead.turn) <= col(Job.turn)
    )
    return (
        sa.select(col(Job.pk), sa.func.count(), sa.func.sum(col(ahead.items)), col(Job.items))
        .join_from(Job, ahead, is_ahead)
        .where(
            in_keys(dialect, col(Job.pk)),
            no_index(col(Job.store)) == sa.bindparam("store"),
            no_index(col(Job.status)) == literal(JobStatus.PENDING),
        )
        .group_by(col(Job.pk), col(Job.items))
    )


_POSITION = PreparedQuery(_position_query)
