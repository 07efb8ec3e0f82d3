"""Lanes: a store's queue as a whole, locked, measured and looked ahead in."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.jobs import JobStatus, Pace, estimated_end
from app.storage import jobs
from app.storage.database import now
from app.storage.dialects import add_missing
from app.storage.tables import Job, Lane


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of how long things take in a store: the job that runs, the pace so far, and
    whether any other is started at all."""

    running: Job | None
    pace: Pace
    paused: bool = False

    def start_behind(self, at: datetime, ahead: int, items: int) -> datetime | None:
        """When a job should start that waits behind `ahead` pending ones with `items` in all.

        None while nothing has shown yet how long such work takes, and while the queue is paused.
        """
        if self.paused:
            return None
        free_at: datetime | None = at
        if self.running:
            running = self.running
            free_at = estimated_end(
                running.started_at or at,
                at,
                running.completed_items,
                running.total_items or running.items,
                self.pace,
            )
        wait = self.pace.seconds_for(items) if ahead else 0.0
        if free_at is None or wait is None:
            return None
        return max(at, free_at) + timedelta(seconds=wait)


@dataclass(frozen=True, slots=True)
class Queue:
    """A store's queue as it stands."""

    pending: int
    oldest_pending_at: datetime | None
    outlook: Outlook
    pause: "Pause | None" = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a queue starts no job, why, and who said so."""

    at: datetime
    reason: str | None
    by: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a pending job stands (1 = next) and when it should start."""

    position: int
    start_at: datetime | None


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The part of a store's event log that is there: everything past `pruned` up to `head`."""

    pruned: int
    head: int


def lock(session: Session, store: str) -> Lane:
    """The store's lane, made if there was none, locked until the transaction ends."""
    wanted = select(Lane).where(Lane.store == store).with_for_update()
    lane = session.exec(wanted).first()
    if lane is None:
        add_missing(session, Lane, [Lane(store=store).model_dump()])
        lane = session.exec(wanted).one()
    return lane


def log_bounds(session: Session, store: str) -> LogBounds:
    """Where the store's log begins and ends now."""
    found = session.exec(select(Lane.pruned_seq, Lane.event_seq).where(Lane.store == store)).first()
    return LogBounds(*found) if found else LogBounds(0, 0)


def event_head(session: Session, store: str) -> int:
    """The number of the store's last event, 0 before the first."""
    return log_bounds(session, store).head


def claimable(session: Session, stores: Collection[str] | None = None) -> list[str]:
    """Stores, among those given if any are, where something waits to be run, the longest wait
    first: a pending job, no pause and nobody running, or a started job whose lease ran out."""

    def any_job(status: JobStatus) -> sa.ColumnElement[bool]:
        return sa.exists().where(col(Job.store) == col(Lane.store), col(Job.status) == status)

    free = sa.or_(col(Lane.lease_until).is_(None), col(Lane.lease_until) <= now(session))
    waiting = sa.or_(
        any_job(JobStatus.STARTED),
        sa.and_(col(Lane.paused_at).is_(None), any_job(JobStatus.PENDING)),
    )
    among = [] if stores is None else [col(Lane.store).in_(stores)]
    waits_since = (
        select(Job.created_at)
        .where(col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
        .scalar_subquery()
    )
    return list(
        session.exec(
            select(Lane.store).where(free, waiting, *among).order_by(waits_since.nulls_first())
        )
    )


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


def outlook(session: Session, lane: Lane) -> Outlook:
    """What is known of how long things take in the lane's store."""
    running = jobs.started(session, lane.store)
    return Outlook(running, Pace(lane.pace_seconds, lane.pace_items), lane.paused_at is not None)


def queue(session: Session, store: str) -> Queue:
    """The store's queue as it stands."""
    lane = session.get(Lane, store)
    if lane is None:
        return Queue(0, None, Outlook(None, Pace()))
    pause = Pause(lane.paused_at, lane.pause_reason, lane.paused_by) if lane.paused_at else None
    oldest = jobs.oldest_pending_at(session, store)
    return Queue(lane.pending, oldest, outlook(session, lane), pause)


def standings(session: Session, store: str, job_pks: Collection[int]) -> dict[int, Standing]:
    """Where each of these jobs stands in the store's queue; those not pending are left out."""
    last = select(sa.func.max(Job.turn)).where(col(Job.pk).in_(job_pks)).scalar_subquery()
    pending = (
        select(
            Job.pk,
            sa.func.row_number().over(order_by=col(Job.turn)).label("position"),
            sa.func.sum(Job.items).over(order_by=col(Job.turn)).label("items_to_here"),
            Job.items,
        )
        .where(*jobs.pending(store), col(Job.turn) <= last)
        .subquery()
    )
    found = session.execute(sa.select(pending).where(pending.c.pk.in_(job_pks))).all()
    lane = session.get(Lane, store)
    if lane is None:
        return {}
    known, at = outlook(session, lane), now(session)
    return {
        pk: Standing(position, known.start_behind(at, position - 1, int(to_here) - items))
        for pk, position, to_here, items in found
    }
