"""Lanes: a store's queue as a whole, locked, measured and looked ahead in."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.jobs import JobStatus, Pace, estimated_end
from app.storage.database import now
from app.storage.tables import Job, Lane


@dataclass(frozen=True, slots=True)
class Queue:
    """A store's queue as it stands."""

    pending: int
    pending_items: int
    oldest_pending_at: datetime | None
    running: Job | None
    pace: Pace

    def start_behind(self, at: datetime, jobs: int, items: int) -> datetime | None:
        """When a job should start that waits behind `jobs` pending ones with `items` in all.

        None while nothing has shown yet how long such work takes.
        """
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
        wait = self.pace.seconds_for(items) if jobs else 0.0
        if free_at is None or wait is None:
            return None
        return max(at, free_at) + timedelta(seconds=wait)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a pending job stands (1 = next) and when it should start."""

    position: int
    start_at: datetime | None


def lock(session: Session, store: str) -> Lane:
    """The store's lane, made if there was none, locked until the transaction ends."""
    wanted = select(Lane).where(Lane.store == store).with_for_update()
    lane = session.exec(wanted).first()
    if lane is None:
        session.add(Lane(store=store))
        session.flush()
        lane = session.exec(wanted).one()
    return lane


def event_head(session: Session, store: str) -> int:
    """The number of the store's last event, 0 before the first."""
    return session.exec(select(Lane.event_seq).where(Lane.store == store)).first() or 0


def claimable(session: Session) -> list[str]:
    """Stores where something waits to be run: a pending job and nobody running, or a started
    job whose lease ran out."""

    def any_job(status: JobStatus) -> sa.ColumnElement[bool]:
        return sa.exists().where(col(Job.store) == col(Lane.store), col(Job.status) == status)

    free = sa.or_(col(Lane.lease_until).is_(None), col(Lane.lease_until) <= now(session))
    waiting = sa.or_(any_job(JobStatus.STARTED), any_job(JobStatus.PENDING))
    return list(session.exec(select(Lane.store).where(free, waiting).order_by(Lane.store)))


def extend_lease(session: Session, store: str, epoch: int, until: datetime) -> bool:
    """Keep the lane while somebody holds it in this epoch; whether so."""
    extended = session.exec(
        sa.update(Lane)
        .where(col(Lane.store) == store, col(Lane.epoch) == epoch, col(Lane.holder).is_not(None))
        .values(lease_until=until)
    )
    return extended.rowcount == 1


def end_all_leases(session: Session) -> None:
    """Make every started job claimable: for the one process that knows no other is alive."""
    session.exec(
        sa.update(Lane).where(col(Lane.lease_until).is_not(None)).values(lease_until=now(session))
    )


def queue(session: Session, store: str) -> Queue:
    """The store's queue as it stands."""
    pending, items, oldest = session.exec(
        select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(Job.items), 0),
            sa.func.min(Job.created_at, type_=Job.__table__.c.created_at.type),  # type: ignore[attr-defined]
        ).where(Job.store == store, Job.status == JobStatus.PENDING)
    ).one()
    running = session.exec(
        select(Job).where(Job.store == store, Job.status == JobStatus.STARTED)
    ).first()
    lane = session.exec(select(Lane).where(Lane.store == store)).first()
    pace = Pace(lane.pace_seconds, lane.pace_items) if lane else Pace()
    return Queue(pending, int(items), oldest, running, pace)


def outlooks(session: Session, store: str, job_pks: Collection[int]) -> dict[int, Outlook]:
    """Where each of these jobs stands in the store's queue; those not pending are left out."""
    pending = (
        select(
            Job.pk,
            sa.func.row_number().over(order_by=col(Job.job_seq)).label("position"),
            sa.func.sum(Job.items).over(order_by=col(Job.job_seq)).label("items_to_here"),
            Job.items,
        )
        .where(Job.store == store, Job.status == JobStatus.PENDING)
        .subquery()
    )
    found = session.execute(sa.select(pending).where(pending.c.pk.in_(job_pks))).all()
    if not found:
        return {}
    standing = queue(session, store)
    at = now(session)
    return {
        pk: Outlook(position, standing.start_behind(at, position - 1, int(to_here) - items))
        for pk, position, to_here, items in found
    }
