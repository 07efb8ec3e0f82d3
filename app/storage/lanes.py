"""Lanes: a store's queue as a whole, locked, measured and looked ahead in."""

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
from app.storage.sql.dialects import dialect_of, insert_ignore, keys_for, no_index, one_of
from app.storage.sql.rows import RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Job, Lane


@dataclass(frozen=True, slots=True)
class QueueState:
    """A store's queue as it stands."""

    pending: int
    oldest_pending_at: datetime | None
    running: Job | None
    pace: Pace
    pause: "PauseState | None" = None


@dataclass(frozen=True, slots=True)
class PauseState:
    """Since when a queue starts no job, why, and who said so."""

    at: datetime
    reason: str | None
    by: str | None


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Where a pending job stands (1 = next) and when it should start."""

    position: int
    start_at: datetime | None


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The part of a store's event log that is there: everything past `pruned` up to `head`."""

    pruned: int
    head: int


@dataclass(slots=True)
class LockedLane:
    """A store's lane, as the table has it, which nobody else changes until the transaction ends.
    What is changed of it is written right before that."""

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
    """The store's lane, made if there was none, locked until the transaction ends."""
    locked: dict[str, LockedLane] = session.info.setdefault("lanes", {})
    if store not in locked:
        found = _LOCK.rows(session, {"store": store})
        if not found:
            insert_ignore(session, Lane, [Lane(store=store).model_dump()])
            found = _LOCK.rows(session, {"store": store})
        decoders = zip(_LOCK.processors(session), found[0], strict=True)
        lane = LockedLane(*(decode(value) if decode else value for decode, value in decoders))
        locked[store] = lane
        before_commit(session, partial(_write, session, lane, replace(lane)))
    return locked[store]


def _write(session: Session, lane: LockedLane, found: LockedLane) -> None:
    if lane != found:
        values = {name: getattr(lane, name) for name in _COLUMNS}
        literal = _WRITE.changed(session, {"of": lane.store, **values})
        assert literal == 1, "the lane is locked"


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


def _lane(session: Session, store: str) -> Lane | None:
    """The store's lane as it is, for whoever changes nothing."""
    found: list[Lane] = _LANE.rows(session, {"store": store})
    return found[0] if found else None


_LANE = RowQuery(Lane, lambda _: col(Lane.store) == sa.bindparam("store"))


def log_bounds(session: Session, store: str) -> LogBounds:
    """Where the store's log begins and ends now."""
    found = _LOG_BOUNDS.rows(session, {"store": store})
    return LogBounds(*found[0]) if found else LogBounds(0, 0)


_LOG_BOUNDS = CompiledStatement(
    lambda _: sa.select(col(Lane.pruned_seq), col(Lane.event_seq)).where(
        col(Lane.store) == sa.bindparam("store")
    )
)


def event_head(session: Session, store: str) -> int:
    """The number of the store's last event, 0 before the first."""
    return log_bounds(session, store).head


def claimable(session: Session, stores: Collection[str] | None = None) -> list[str]:
    """Stores, among those given if any are, where something waits to be run, the longest wait
    first: a pending job, no pause and nobody running, or a started job whose lease ran out."""
    if stores is None:
        return [store for (store,) in _CLAIMABLE.rows(session, {"now": now(session)})]
    among = _claimable().where(col(Lane.store).in_(stores))
    return list(session.execute(among, {"now": now(session)}).scalars())


def _claimable() -> sa.Select[Any]:
    def any_job(status: JobStatus) -> sa.ColumnElement[bool]:
        return sa.exists().where(col(Job.store) == col(Lane.store), col(Job.status) == status)

    free = sa.or_(
        col(Lane.lease_until).is_(None), col(Lane.lease_until) <= sa.bindparam("now", type_=Instant)
    )
    waiting = sa.or_(
        any_job(JobStatus.STARTED),
        sa.and_(col(Lane.paused_at).is_(None), any_job(JobStatus.PENDING)),
    )
    waits_since = (
        sa.select(col(Job.created_at))
        .where(col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
        .scalar_subquery()
    )
    return sa.select(col(Lane.store)).where(free, waiting).order_by(waits_since.nulls_first())


_CLAIMABLE = CompiledStatement(lambda _: _claimable())


def extend_lease(session: Session, store: str, epoch: int, until: datetime) -> bool:
    """Keep the lane while somebody holds it in this epoch; whether so."""
    extended = session.exec(
        sa.update(Lane)
        .where(col(Lane.store) == store, col(Lane.epoch) == epoch, col(Lane.holder).is_not(None))
        .values(lease_until=until)
    )
    return extended.rowcount == 1


def release(session: Session, store: str, epoch: int, pause: timedelta) -> bool:
    """Let go of the lane if this epoch still holds it, and whether so. Its started job is for
    whoever comes next once the pause is over."""
    released = session.exec(
        sa.update(Lane)
        .where(col(Lane.store) == store, col(Lane.epoch) == epoch, col(Lane.holder).is_not(None))
        .values(holder=None, lease_until=now(session) + pause)
    )
    return released.rowcount == 1


def end_all_leases(session: Session) -> None:
    """Make every started job claimable: for the one process that knows no other is alive."""
    session.exec(
        sa.update(Lane).where(col(Lane.lease_until).is_not(None)).values(lease_until=now(session))
    )


def queue_forecast(session: Session, lane: Lane | LockedLane) -> QueueForecast:
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


def queue(session: Session, store: str) -> QueueState:
    """The store's queue as it stands."""
    lane = _lane(session, store)
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
    """Where each of these jobs stands in the store's queue; those not pending are left out."""
    # Counted for one; for several a window over all of them is not slower.
    counting = _POSITION if len(job_pks) == 1 else _POSITIONS
    found = counting.rows(session, {"store": store, **keys_for(dialect_of(session), job_pks)})
    lane = _lane(session, store)
    if lane is None:
        return {}
    known, at = queue_forecast(session, lane), now(session)
    return {
        pk: QueuePosition(position, known.start_time(at, position - 1, int(to_here) - items))
        for pk, position, to_here, items in found
    }


def _positions(dialect: str) -> sa.Select[Any]:
    last = sa.select(sa.func.max(col(Job.turn))).where(one_of(dialect, col(Job.pk)))
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
    return sa.select(pending).where(one_of(dialect, pending.c.pk))


_POSITIONS = CompiledStatement(_positions)


def _position(dialect: str) -> sa.Select[Any]:
    ahead: Any = aliased(Job)
    goes_first = sa.and_(
        *jobs.is_pending(sa.bindparam("store"), ahead), ahead.turn <= col(Job.turn)
    )
    return (
        sa.select(col(Job.pk), sa.func.count(), sa.func.sum(ahead.items), col(Job.items))
        .join_from(Job, ahead, goes_first)
        .where(
            one_of(dialect, col(Job.pk)),
            no_index(col(Job.store)) == sa.bindparam("store"),
            no_index(col(Job.status)) == literal(JobStatus.PENDING),
        )
        .group_by(col(Job.pk), col(Job.items))
    )


_POSITION = CompiledStatement(_position)
