"""Jobs: finding and listing them, and the conditional updates that move them on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.filters import Condition, Conditions, Operator
from app.domain.jobs import JobStatus, JobType
from app.storage.sql.column_types import literal
from app.storage.sql.dialects import any_of_array, dialect_of, keys_for, no_index, one_of
from app.storage.sql.filters import FilterShape, bind_values, conditions_for, filter_shape, matching
from app.storage.sql.keyset import (
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    Order,
    OrderBy,
    page,
    pages,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow, page_keys
from app.storage.sql.rows import ALL_COLUMNS, ID_COLUMN, Projection, RowQuery, columns_of, row_of
from app.storage.sql.statements import BindValues, CompiledStatement
from app.storage.tables import IdempotencyKey, Job, JobError


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions that all have to hold; None asks for nothing."""

    status: Collection[JobStatus] | None = None
    type: Collection[JobType] | None = None
    hierarchy_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> Conditions:
        """Those on attributes of a job, one by one."""
        said: Sequence[tuple[str, Operator, Any]] = (
            ("status", Operator.IN, self.status),
            ("type", Operator.IN, self.type),
            ("created_at", Operator.GT, (self.created_after,)),
            ("created_at", Operator.LT, (self.created_before,)),
        )
        return [
            Condition(attribute, operator, list(values))
            for attribute, operator, values in said
            if values not in (None, (None,))
        ]

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


LATEST_FIRST = (OrderBy(col(Job.job_seq), True),)

_NAMES = columns_of(Job, ALL_COLUMNS)
_COLUMNS: Sequence[Any] = [getattr(Job, name) for name in _NAMES]


def by_ids(
    session: Session, store: str, ids: Collection[UUID], wanted: Projection = ALL_COLUMNS
) -> dict[UUID, Job]:
    """The store's jobs among these ids."""
    values = {"store": store, **keys_for(dialect_of(session), ids)}
    found = _BY_IDS.rows(session, values, wanted.together(ID_COLUMN))
    return {job.id: job for job in found}


_OF_STORE = no_index(col(Job.store)) == sa.bindparam("store", type_=sa.Text)
_BY_IDS = RowQuery(
    Job,
    lambda dialect: sa.and_(_OF_STORE, one_of(dialect, col(Job.id))),
)


def by_id(session: Session, store: str, id: UUID) -> Job | None:
    """The store's job of that id."""
    return by_ids(session, store, [id]).get(id)


def listing(
    session: Session,
    store: str,
    filter: JobFilter,
    ascending: bool,
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
) -> KeysetPage[Job]:
    """A page of a store's jobs in the order of their creation, or against it."""
    values = {"store": store, "about": filter.hierarchy_id, **bind_values(filter.conditions())}
    return page(session, _listing(_shape_of(filter), ascending), window, wanted, [values])


def count(session: Session, store: str, filter: JobFilter) -> int:
    """How many jobs of a store match."""
    values = {"store": store, "about": filter.hierarchy_id, **bind_values(filter.conditions())}
    [(count,)] = _counting(_shape_of(filter)).rows(session, values)
    return int(count)


_Shape = tuple[FilterShape, bool]
"""The conditions on attributes, and whether there is one on the hierarchy."""


def _shape_of(filter: JobFilter) -> _Shape:
    return filter_shape(filter.conditions()), filter.hierarchy_id is not None


@lru_cache(maxsize=128)
def _listing(filter: _Shape, ascending: bool) -> KeysetQuery:
    shape, about_one = filter
    about = [_about(Job, sa.bindparam("about", type_=sa.Uuid))] if about_one else []
    where = (col(Job.store) == sa.bindparam("store"), *about, *conditions_for(shape, FILTERED))
    return KeysetQuery((Job,), where, (OrderBy(col(Job.job_seq), not ascending),))


@lru_cache(maxsize=128)
def _counting(filter: _Shape) -> CompiledStatement:
    where = _listing(filter, ascending=True).where
    return CompiledStatement(lambda _: sa.select(sa.func.count(col(Job.pk))).where(*where))


def offset_page(
    session: Session, store: str, filter: Conditions, order: Order, span: OffsetWindow
) -> OffsetPage[Job]:
    """A span of a store's jobs, in that order."""
    where = (col(Job.store) == store, *matching(filter, FILTERED))
    pks = [pk for (pk,) in page_keys(session, [KeysetQuery((Job,), where, order, spine=Job)], span)]
    by_pk = {job.pk: job for job in session.exec(select(Job).where(col(Job.pk).in_(pks)))}
    total = session.exec(select(sa.func.count(col(Job.pk))).where(*where)).one()
    return OffsetPage([by_pk[pk] for pk in pks], total)


def of_hierarchies(
    session: Session,
    store: str,
    hierarchies: Sequence[UUID],
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
) -> dict[UUID, KeysetPage[Job]]:
    """A page of the duplications from or into each hierarchy, newest first."""
    return pages(session, _of_hierarchy, hierarchies, window, wanted, store=store)


def counts_of_hierarchies(
    session: Session, store: str, hierarchies: Sequence[UUID]
) -> dict[UUID, int]:
    """How many duplications there are from or into each hierarchy."""
    counts = dict.fromkeys(hierarchies, 0)
    values = {"store": store, **keys_for(dialect_of(session), hierarchies)}
    for side in _COUNTS_OF_SIDES:
        made, _ = side.processors(session)
        for id, number in side.rows(session, values):
            counts[made(id) if made else id] += number
    return counts


def _counts_of_side(side: Any) -> CompiledStatement:
    return CompiledStatement(
        lambda dialect: (
            sa.select(side, sa.func.count()).where(_OF_STORE, one_of(dialect, side)).group_by(side)
        )
    )


_COUNTS_OF_SIDES = [_counts_of_side(col(Job.source_id)), _counts_of_side(col(Job.result_id))]


def pending(store: Any, job: Any = Job) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions on a store's jobs that wait."""
    # Written out, so that the index on those that wait is known to have all of them.
    return job.store == store, job.status == literal(JobStatus.PENDING)


def first_pending(session: Session, store: str) -> Job | None:
    """The pending job whose turn is next."""
    found = _jobs(session, _FIRST_PENDING, {"store": store})
    return found[0] if found else None


_FIRST_PENDING = CompiledStatement(
    lambda _: (
        sa.select(*_COLUMNS).where(*pending(sa.bindparam("store"))).order_by(col(Job.turn)).limit(1)
    )
)


def oldest_pending_at(session: Session, store: str) -> datetime | None:
    """When the pending job that has waited longest was asked for."""
    return session.exec(
        select(Job.created_at)
        .where(Job.store == store, Job.status == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
    ).first()


def queued(
    session: Session, store: str, window: KeysetWindow, wanted: Projection = ALL_COLUMNS
) -> KeysetPage[Job]:
    """A page of a store's pending jobs, in the order in which they will run."""
    return page(session, _QUEUED, window, wanted, [{"store": store}])


_QUEUED = KeysetQuery((Job,), pending(sa.bindparam("store")), (OrderBy(col(Job.turn)),))


def retries(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, Job]:
    """The newest job that tries each of these jobs again."""
    found = _RETRIES.rows(session, keys_for(dialect_of(session), ids))
    # The store is looked at in the end: asked for it too, PostgreSQL was seen to read all its jobs.
    return {job.retry_of: job for job in found if job.store == store}


def _newest_retries(dialect: str) -> sa.ColumnElement[bool]:
    # Of one that fails again and again there may be many.
    newest = (
        sa.select(sa.func.max(col(Job.pk)))
        .where(one_of(dialect, col(Job.retry_of)))
        .group_by(col(Job.retry_of))
    )
    return any_of_array(col(Job.pk), newest)


_RETRIES = RowQuery(Job, _newest_retries)


def started(session: Session, store: str) -> Job | None:
    """The job that runs, or ran when its process died."""
    found: list[Job] = _STARTED.rows(session, {"store": store})
    return found[0] if found else None


_STARTED = RowQuery(
    Job,
    # Written out, so that the index on the one that runs is known to have it.
    lambda _: sa.and_(
        col(Job.store) == sa.bindparam("store"), col(Job.status) == literal(JobStatus.STARTED)
    ),
)


def add(session: Session, **values: Any) -> Job:
    """A new job. `values` are columns of it; the others are as the table's entity has them."""
    [job] = _jobs(session, _ADD, {**_DEFAULTS, "id": uuid4(), **values})
    return job


_DEFAULTS = {
    name: field.default for name, field in Job.model_fields.items() if not field.is_required()
}
_ADD = CompiledStatement(
    lambda _: sa.insert(Job).values(dict.fromkeys(set(_NAMES) - {"pk"})).returning(*_COLUMNS)
)


def _jobs(session: Session, statement: CompiledStatement, values: BindValues) -> list[Job]:
    """The jobs that a statement finds or has written, which gives all of their columns."""
    return list(map(row_of(session, Job, _NAMES), statement.rows(session, values)))


def change(session: Session, job: Job, **values: Any) -> Job | None:
    """Write `values`, and a version more, if the job still has the status and epoch `job` has.

    Returns the job as it then is, or None when it no longer had them: of two who try, one does.
    """
    had = {"had_pk": job.pk, "had_status": job.status, "had_epoch": job.epoch}
    changed = _jobs(session, _changing(tuple(values)), {**had, **values})
    return changed[0] if changed else None


# As many as there are ways to change a job.
@cache
def _changing(names: tuple[str, ...]) -> CompiledStatement:
    return CompiledStatement(
        lambda _: (
            sa.update(Job)
            .where(
                col(Job.pk) == sa.bindparam("had_pk"),
                col(Job.status) == sa.bindparam("had_status"),
                col(Job.epoch) == sa.bindparam("had_epoch"),
            )
            .values(version=Job.version + 1, **dict.fromkeys(names))
            .returning(*_COLUMNS)
        )
    )


def delete(session: Session, pks: Collection[int]) -> None:
    """Delete jobs with their errors and the keys that stand for them."""
    session.exec(sa.delete(JobError).where(col(JobError.job_pk).in_(pks)))
    session.exec(sa.delete(IdempotencyKey).where(col(IdempotencyKey.job_pk).in_(pks)))
    session.exec(sa.delete(Job).where(col(Job.pk).in_(pks)))


def _about(job: Any, hierarchy_id: Any) -> sa.ColumnElement[bool]:
    return sa.or_(job.source_id == hierarchy_id, job.result_id == hierarchy_id)


def _of_hierarchy() -> KeysetQuery:
    job: Any = aliased(Job)
    return KeysetQuery(
        entities=(job,),
        where=(job.store == sa.bindparam("store"),),
        spine=job,
        belongs=lambda id: _about(job, id),
        order=(OrderBy(job.job_seq, True),),
    )
