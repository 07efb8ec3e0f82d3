"""Jobs: finding and listing them, and the conditional updates that move them on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.errors import InvalidInput
from app.domain.jobs import JobStatus, JobType
from app.storage.columns import stored_enum
from app.storage.database import now
from app.storage.dialects import HOUR_FORMAT, among, hour_of, timestamp_of, unforeseen
from app.storage.filters import Conditions, matching
from app.storage.pages import Key, Listing, Order, OrderBy, Page, Window, page, pages
from app.storage.spans import Counted, Span, keys_of
from app.storage.tables import IdempotencyKey, Job, JobError


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions that all have to hold; None asks for nothing."""

    status: Collection[JobStatus] | None = None
    type: Collection[JobType] | None = None
    hierarchy_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def admits(self, job: Job) -> bool:
        """Whether a job in hand meets the conditions, as `listing` would judge it."""
        return (
            (self.status is None or job.status in self.status)
            and (self.type is None or job.type in self.type)
            and (self.hierarchy_id is None or self.hierarchy_id in (job.source_id, job.result_id))
            and (self.created_after is None or job.created_at > self.created_after)
            and (self.created_before is None or job.created_at < self.created_before)
        )


FILTERED: Mapping[str, Any] = {
    "id": col(Job.id),
    "type": col(Job.type),
    "status": col(Job.status),
    "created_at": col(Job.created_at),
    "updated_at": col(Job.updated_at),
}
"""What conditions on jobs may be about."""

HOUR = timedelta(hours=1)

LATEST_FIRST = (OrderBy(col(Job.job_seq), True),)


def by_ids(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, Job]:
    """The store's jobs among these ids."""
    found = session.exec(select(Job).where(Job.store == store, col(Job.id).in_(ids)))
    return {job.id: job for job in found}


def by_id(session: Session, store: str, id: UUID) -> Job | None:
    """The store's job of that id."""
    return by_ids(session, store, [id]).get(id)


def listing(
    session: Session, store: str, filter: JobFilter, ascending: bool, window: Window
) -> Page[Job]:
    """A page of a store's jobs in the order of their creation, or against it."""
    order = (OrderBy(col(Job.job_seq), not ascending),)
    return page(session, Listing((Job,), _matching(store, filter), order), window)


def count(session: Session, store: str, filter: JobFilter) -> int:
    """How many jobs of a store match."""
    return session.exec(select(sa.func.count(col(Job.pk))).where(*_matching(store, filter))).one()


def span(
    session: Session, store: str, filter: Conditions, order: Order, span: Span
) -> Counted[Job]:
    """A span of a store's jobs, in that order."""
    where = (col(Job.store) == store, *matching(filter, FILTERED))
    pks = [pk for (pk,) in keys_of(session, [Listing((Job,), where, order, spine=Job)], span)]
    by_pk = {job.pk: job for job in session.exec(select(Job).where(col(Job.pk).in_(pks)))}
    total = session.exec(select(sa.func.count(col(Job.pk))).where(*where)).one()
    return Counted([by_pk[pk] for pk in pks], total)


def span_of_errors(session: Session, job: Job, span: Span) -> Counted[JobError]:
    """A span of the job's errors, the first one first."""
    of_job = JobError.job_pk == job.pk
    found = session.exec(
        select(JobError)
        .where(of_job)
        .order_by(col(JobError.pk))
        .offset(span.offset)
        .limit(unforeseen(span.limit))
    ).all()
    return Counted(found, session.exec(select(sa.func.count()).where(of_job)).one())


def of_hierarchies(
    session: Session, store: str, hierarchies: Sequence[UUID], window: Window
) -> dict[UUID, Page[Job]]:
    """A page of the duplications from or into each hierarchy, newest first."""
    return pages(session, _of_hierarchy, hierarchies, window, store=store)


def counts_of_hierarchies(
    session: Session, store: str, hierarchies: Sequence[UUID]
) -> dict[UUID, int]:
    """How many duplications there are from or into each hierarchy."""
    counts = dict.fromkeys(hierarchies, 0)
    for side in (col(Job.source_id), col(Job.result_id)):
        for id, number in session.exec(
            select(side, sa.func.count())
            .where(Job.store == store, side.in_(hierarchies))
            .group_by(side)
        ):
            if id is not None:
                counts[id] += number
    return counts


def pending(store: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions on a store's jobs that wait."""
    # Written out, so that the index on those that wait is known to have all of them.
    status = sa.literal(JobStatus.PENDING, stored_enum(JobStatus), literal_execute=True)
    return col(Job.store) == store, col(Job.status) == status


def first_pending(session: Session, store: str) -> Job | None:
    """The pending job whose turn is next."""
    return session.exec(select(Job).where(*pending(store)).order_by(col(Job.turn)).limit(1)).first()


def oldest_pending_at(session: Session, store: str) -> datetime | None:
    """When the pending job that has waited longest was asked for."""
    return session.exec(
        select(Job.created_at)
        .where(Job.store == store, Job.status == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
    ).first()


def queued(session: Session, store: str, window: Window) -> Page[Job]:
    """A page of a store's pending jobs, in the order in which they will run."""
    return page(session, Listing((Job,), pending(store), (OrderBy(col(Job.turn)),)), window)


def retries(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, Job]:
    """The newest job that tries each of these jobs again."""
    # Of one that fails again and again there may be many. The store is looked at in the end: asked
    # for it too, PostgreSQL was seen to read all of its jobs.
    newest = (
        select(sa.func.max(Job.pk)).where(col(Job.retry_of).in_(ids)).group_by(col(Job.retry_of))
    )
    found = session.exec(select(Job).where(among(col(Job.pk), newest)))
    return {job.retry_of: job for job in found if job.retry_of and job.store == store}


def started(session: Session, store: str) -> Job | None:
    """The job that runs, or ran when its process died."""
    return session.exec(
        select(Job).where(Job.store == store, Job.status == JobStatus.STARTED)
    ).first()


@dataclass(frozen=True, slots=True)
class Hour:
    """The jobs of a store that were asked for in one hour: how many have each status now, and the
    seconds that those took which ran to an end."""

    begins: datetime
    counts: Mapping[JobStatus, int]
    average_seconds: float | None
    longest_seconds: float | None


def latest_hours(session: Session, store: str, number: int) -> list[Hour]:
    """That many hours up to the one that has just begun, the first one first, those without jobs
    too."""
    this_hour = now(session).replace(minute=0, second=0, microsecond=0)
    since = this_hour - (number - 1) * HOUR
    hour = hour_of(col(Job.created_at))
    took = timestamp_of(col(Job.completed_at)) - timestamp_of(col(Job.started_at))
    # The numbers of jobs are in the order of their creation: only younger ones are looked at.
    older = (
        select(Job.job_seq)
        .where(Job.store == store, col(Job.created_at) < since)
        .order_by(col(Job.job_seq).desc())
        .limit(unforeseen(1))
        .scalar_subquery()
    )
    found = session.execute(
        sa.select(
            hour,
            col(Job.status),
            sa.func.count(),
            sa.func.count(took),
            sa.func.sum(took),
            sa.func.max(took),
        )
        .where(
            col(Job.store) == store,
            col(Job.job_seq) > sa.func.coalesce(older, 0),
            col(Job.created_at) < since + number * HOUR,
        )
        .group_by(hour, col(Job.status))
    ).all()
    hours = [since + place * HOUR for place in range(number)]
    of_hour: dict[str, list[Any]] = {begins.strftime(HOUR_FORMAT): [] for begins in hours}
    for name, *counted in found:
        of_hour[name].append(counted)
    return [_hour(*of) for of in zip(hours, of_hour.values(), strict=True)]


def _hour(begins: datetime, counted: Sequence[Any]) -> Hour:
    counts = {status: number for status, number, *_ in counted}
    ran = sum(number for _, _, number, *_ in counted)
    took = sum(float(seconds or 0) for *_, seconds, _ in counted)
    longest = [float(seconds) for *_, seconds in counted if seconds is not None]
    return Hour(begins, counts, took / ran if ran else None, max(longest, default=None))


def change(session: Session, job: Job, **values: Any) -> Job | None:
    """Write `values`, and a version more, if the job still has the status and epoch `job` has.

    Returns the job as it then is, or None when it no longer had them: of two who try, one does.
    """
    return session.exec(
        sa.update(Job)
        .where(col(Job.pk) == job.pk, col(Job.status) == job.status, col(Job.epoch) == job.epoch)
        .values(version=Job.version + 1, **values)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).scalar_one_or_none()


def add_error(session: Session, job: Job, code: str, message: str, at: datetime) -> None:
    """Note why the job failed, as of the version it is in."""
    assert job.pk is not None
    session.add(
        JobError(job_pk=job.pk, job_version=job.version, code=code, message=message, created_at=at)
    )


def errors_by_ids(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, JobError]:
    """The errors of the store's jobs among these ids."""
    found = session.exec(
        select(JobError).where(
            JobError.job_pk == Job.pk, Job.store == store, col(JobError.id).in_(ids)
        )
    )
    return {error.id: error for error in found}


JobVersion = tuple[int, int]
"""A job's pk and one of its versions."""


def errors(
    session: Session, store: str, jobs: Sequence[JobVersion], window: Window
) -> dict[JobVersion, Page[JobError]]:
    """A page of the errors each job had at that version, the first one first, each by its id.

    Raises InvalidInput for a place at an error that is no longer seen.
    """

    def key_of(id: UUID, argument: str) -> Key:
        error = errors_by_ids(session, store, [id]).get(id)
        if error is None:
            raise InvalidInput("The error of this cursor is gone: begin again.", (argument,))
        return (error.pk,)

    found = pages(session, _errors, jobs, window.placed(key_of), store=store)
    return {job: page.by_id() for job, page in found.items()}


def error_counts(session: Session, store: str, jobs: Sequence[JobVersion]) -> dict[JobVersion, int]:
    """How many errors each job had at that version."""
    versions: dict[int, list[int]] = {}
    for pk, version in session.exec(
        select(JobError.job_pk, JobError.job_version).where(
            JobError.job_pk == Job.pk,
            Job.store == store,
            col(JobError.job_pk).in_({pk for pk, _ in jobs}),
        )
    ):
        versions.setdefault(pk, []).append(version)
    return {
        (pk, version): sum(since <= version for since in versions.get(pk, ()))
        for pk, version in jobs
    }


def by_key(session: Session, store: str, key: str, since: datetime) -> tuple[Job, str] | None:
    """The job a key stands for and the digest of its input, if the key was used since then."""
    found = session.exec(
        select(Job, IdempotencyKey.digest).where(
            IdempotencyKey.store == store,
            IdempotencyKey.key == key,
            IdempotencyKey.created_at > since,
            Job.pk == IdempotencyKey.job_pk,
        )
    ).first()
    return (found[0], found[1]) if found else None


def keep_key(session: Session, job: Job, key: str, digest: str) -> None:
    """Let the key stand for this job from its creation on, whatever it stood for before."""
    assert job.pk is not None
    session.merge(
        IdempotencyKey(
            store=job.store, key=key, digest=digest, job_pk=job.pk, created_at=job.created_at
        )
    )


def delete(session: Session, pks: Collection[int]) -> None:
    """Delete jobs with their errors and the keys that stand for them."""
    session.exec(sa.delete(JobError).where(col(JobError.job_pk).in_(pks)))
    session.exec(sa.delete(IdempotencyKey).where(col(IdempotencyKey.job_pk).in_(pks)))
    session.exec(sa.delete(Job).where(col(Job.pk).in_(pks)))


def _matching(store: str, filter: JobFilter) -> tuple[sa.ColumnElement[bool], ...]:
    conditions: list[sa.ColumnElement[bool]] = [col(Job.store) == store]
    if filter.status is not None:
        conditions.append(col(Job.status).in_(filter.status))
    if filter.type is not None:
        conditions.append(col(Job.type).in_(filter.type))
    if filter.hierarchy_id is not None:
        conditions.append(_about(Job, filter.hierarchy_id))
    if filter.created_after is not None:
        conditions.append(col(Job.created_at) > filter.created_after)
    if filter.created_before is not None:
        conditions.append(col(Job.created_at) < filter.created_before)
    return tuple(conditions)


def _about(job: Any, hierarchy_id: Any) -> sa.ColumnElement[bool]:
    return sa.or_(job.source_id == hierarchy_id, job.result_id == hierarchy_id)


def _of_hierarchy() -> Listing:
    job: Any = aliased(Job)
    return Listing(
        entities=(job,),
        where=(job.store == sa.bindparam("store"),),
        spine=job,
        belongs=lambda id: _about(job, id),
        order=(OrderBy(job.job_seq, True),),
    )


def _errors() -> Listing:
    error: Any = aliased(JobError)
    job: Any = aliased(Job)
    return Listing(
        entities=(error,),
        where=(job.pk == error.job_pk, job.store == sa.bindparam("store")),
        spine=error,
        belongs=lambda pk, version: sa.and_(error.job_pk == pk, error.job_version <= version),
        order=(OrderBy(error.pk),),
    )
