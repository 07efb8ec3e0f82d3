"""Jobs: lookups, lists, and the conditional updates that advance them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.filters import Condition, Conditions, Operator, Sort
from app.domain.job_times import in_order
from app.domain.job_types import ArgsT, JobArgs, JobResult, args_class
from app.domain.jobs import JobStatus, JobType
from app.storage.engine.statements import AnyColumn, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.column_types import literal
from app.storage.sql.dialects import any_of_array, in_keys, in_keys_values, no_index
from app.storage.sql.filters import FilterShape, bind_values, conditions_for, filter_shape
from app.storage.sql.keyset import (
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    Order,
    OrderBy,
    order_by,
    read_page,
    read_pages,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow, read_page_keys
from app.storage.sql.rows import (
    ALL_COLUMNS,
    ID_COLUMN,
    Projection,
    RowInsert,
    RowQuery,
    RowUpdate,
)
from app.storage.tables import IdempotencyKey, Job, JobError, JobRow


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Conditions on jobs, all of which must hold. None sets no condition."""

    status: Collection[JobStatus] | None = None
    type: Collection[JobType] | None = None
    hierarchy_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> Conditions:
        """The conditions on single columns, so all but `hierarchy_id`."""
        candidates: Sequence[tuple[str, Operator, Collection[object] | None]] = (
            ("status", Operator.IN, self.status),
            ("type", Operator.IN, self.type),
            ("created_at", Operator.GT, (self.created_after,)),
            ("created_at", Operator.LT, (self.created_before,)),
        )
        return [
            Condition(attribute, operator, list(values))
            for attribute, operator, values in candidates
            if values is not None and values != (None,)
        ]

    def matches(self, job: JobRow) -> bool:
        """Return True if `listing` would include the job."""
        return (
            (self.status is None or job.status in self.status)
            and (self.type is None or job.type in self.type)
            and (self.hierarchy_id is None or self.hierarchy_id in (job.subject_id, job.result_id))
            and (self.created_after is None or job.created_at > self.created_after)
            and (self.created_before is None or job.created_at < self.created_before)
        )


FILTER_COLUMNS: Mapping[str, AnyColumn] = {
    "id": col(Job.id),
    "type": col(Job.type),
    "status": col(Job.status),
    "created_at": col(Job.created_at),
    "updated_at": col(Job.updated_at),
}
"""The column of each attribute that clients can filter by."""

ORDERS: Mapping[str, Order] = {
    "created_at": (OrderBy(col(Job.job_seq)),),
    "updated_at": (OrderBy(col(Job.updated_at)), OrderBy(col(Job.job_seq))),
}
"""The ascending order of each attribute that clients can sort by."""

NEWEST_FIRST = Sort("created_at", descending=True)


def by_ids(
    tx: Transaction, store: str, ids: Collection[UUID], projection: Projection = ALL_COLUMNS
) -> dict[UUID, JobRow]:
    """The store's jobs among `ids`, by id."""
    values = {"store": store, **in_keys_values(tx.dialect.name, ids)}
    jobs = _BY_IDS.rows(tx, values, projection.union(ID_COLUMN))
    return {job.id: job for job in jobs}


IN_STORE = no_index(col(Job.store)) == sa.bindparam("store", type_=sa.Text)
"""Condition on the parameter `store`, for lookups by another index."""

_BY_IDS = RowQuery(
    JobRow,
    lambda dialect: sa.and_(IN_STORE, in_keys(dialect, col(Job.id))),
)


def by_id(tx: Transaction, store: str, id: UUID) -> JobRow | None:
    return by_ids(tx, store, [id]).get(id)


def listing(
    tx: Transaction,
    store: str,
    filter: JobFilter,
    ascending: bool,
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> KeysetPage[JobRow]:
    """A page of a store's matching jobs by creation, `ascending` or descending."""
    values = {"store": store, "about": filter.hierarchy_id, **bind_values(filter.conditions())}
    query = _list_query(_filter_key(filter), Sort("created_at", descending=not ascending))
    return read_page(tx, query, window, projection, [values])


def count(tx: Transaction, store: str, filter: JobFilter) -> int:
    """Count a store's matching jobs."""
    values = {"store": store, "about": filter.hierarchy_id, **bind_values(filter.conditions())}
    [(count,)] = tx.rows(_count_statement(_filter_key(filter)), values)
    return count


_FilterKey = tuple[FilterShape, bool]
"""The conditions on columns without their values, and whether `hierarchy_id` is set."""


def _filter_key(filter: JobFilter) -> _FilterKey:
    return filter_shape(filter.conditions()), filter.hierarchy_id is not None


@lru_cache(maxsize=128)
def _list_query(filter: _FilterKey, sort: Sort) -> KeysetQuery[JobRow]:
    shape, has_hierarchy = filter
    about = [_is_about(Job, sa.bindparam("about", type_=sa.Uuid))] if has_hierarchy else []
    where = (
        col(Job.store) == sa.bindparam("store"),
        *about,
        *conditions_for(shape, FILTER_COLUMNS),
    )
    return KeysetQuery(Job, where, order_by(sort, ORDERS))


@lru_cache(maxsize=128)
def _count_statement(filter: _FilterKey) -> PreparedQuery[int]:
    where = _list_query(filter, NEWEST_FIRST).where
    return PreparedQuery(lambda _: sa.select(sa.func.count(col(Job.pk))).where(*where))


def offset_page(
    tx: Transaction, store: str, filter: Conditions, sort: Sort | None, window: OffsetWindow
) -> OffsetPage[JobRow]:
    """A page of a store's matching jobs, by default newest first."""
    key = filter_shape(filter), False
    values = {"store": store, **bind_values(filter)}
    query = _list_query(key, sort or NEWEST_FIRST)
    pks = [pk for (pk,) in read_page_keys(tx, [query], window, values)]
    by_pk = {job.pk: job for job in _BY_PKS.rows(tx, in_keys_values(tx.dialect.name, pks))}
    [(total,)] = tx.rows(_count_statement(key), values)
    return OffsetPage([by_pk[pk] for pk in pks], total)


_BY_PKS = RowQuery(JobRow, lambda dialect: in_keys(dialect, col(Job.pk)))


def of_hierarchies(
    tx: Transaction,
    store: str,
    hierarchies: Sequence[UUID],
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> dict[UUID, KeysetPage[JobRow]]:
    """A page of the jobs that read or created each hierarchy, newest first."""
    return read_pages(tx, _hierarchy_query, hierarchies, window, projection, store=store)


def counts_of_hierarchies(
    tx: Transaction, store: str, hierarchies: Sequence[UUID]
) -> dict[UUID, int]:
    """Count the jobs that read or created each hierarchy."""
    counts = dict.fromkeys(hierarchies, 0)
    values = {"store": store, **in_keys_values(tx.dialect.name, hierarchies)}
    for statement in _HIERARCHY_COUNTS:
        for id, number in tx.rows(statement, values):
            counts[id] += number
    return counts


def _hierarchy_counts(side: AnyColumn) -> PreparedQuery[UUID, int]:
    """Count jobs per hierarchy in the column `side`."""
    return PreparedQuery(
        lambda dialect: (
            sa.select(side, sa.func.count()).where(IN_STORE, in_keys(dialect, side)).group_by(side)
        )
    )


_HIERARCHY_COUNTS = [_hierarchy_counts(col(Job.subject_id)), _hierarchy_counts(col(Job.result_id))]


def is_pending(
    store: sa.BindParameter[str], job: type[Job] = Job
) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions that `job` is a pending job of the store."""
    # A literal status, so that the database can use the partial index on pending jobs.
    return col(job.store) == store, col(job.status) == literal(JobStatus.PENDING)


def first_pending(tx: Transaction, store: str) -> JobRow | None:
    """The pending job that starts next."""
    return _FIRST_PENDING.first(tx, {"store": store})


_FIRST_PENDING = RowQuery(
    JobRow,
    lambda _: sa.and_(*is_pending(sa.bindparam("store"))),
    lambda query: query.order_by(col(Job.turn)).limit(1),
)


def oldest_pending_at(tx: Transaction, store: str) -> datetime | None:
    """The creation time of the oldest pending job."""
    rows = tx.rows(_OLDEST_PENDING_AT, {"store": store})
    return rows[0][0] if rows else None


_OLDEST_PENDING_AT = PreparedQuery(
    lambda _: (
        sa.select(col(Job.created_at))
        .where(*is_pending(sa.bindparam("store")))
        .order_by(col(Job.job_seq))
        .limit(1)
    )
)


def queued(
    tx: Transaction, store: str, window: KeysetWindow, projection: Projection = ALL_COLUMNS
) -> KeysetPage[JobRow]:
    """A page of a store's pending jobs, in starting order."""
    return read_page(tx, _QUEUED, window, projection, [{"store": store}])


_QUEUED: KeysetQuery[JobRow] = KeysetQuery(
    Job, is_pending(sa.bindparam("store")), (OrderBy(col(Job.turn)),)
)


def newest_retries(tx: Transaction, store: str, ids: Collection[UUID]) -> dict[UUID, JobRow]:
    """The newest retry of each job, by the retried id."""
    jobs = _RETRIES.rows(tx, in_keys_values(tx.dialect.name, ids))
    # The store is checked here: with a condition on it, PostgreSQL can read all the store's jobs.
    return {job.retry_of: job for job in jobs if job.store == store and job.retry_of}


def _is_newest_retry(dialect: str) -> sa.ColumnElement[bool]:
    # A job that keeps failing can have many retries.
    newest = (
        sa.select(sa.func.max(col(Job.pk)))
        .where(in_keys(dialect, col(Job.retry_of)))
        .group_by(col(Job.retry_of))
    )
    return any_of_array(col(Job.pk), newest)


_RETRIES = RowQuery(JobRow, _is_newest_retry)


def started(tx: Transaction, store: str) -> JobRow | None:
    """The store's started job; its process may have died."""
    return _STARTED.first(tx, {"store": store})


_STARTED = RowQuery(
    JobRow,
    # A literal status, so that the database can use the partial index on started jobs.
    lambda _: sa.and_(
        col(Job.store) == sa.bindparam("store"), col(Job.status) == literal(JobStatus.STARTED)
    ),
)


def add(tx: Transaction, **values: object) -> JobRow:
    """Insert a job. Columns that are not in `values` get their defaults."""
    return _INSERT.row(tx, **values)


_INSERT = RowInsert(JobRow)


def update(tx: Transaction, job: JobRow, **values: object) -> JobRow | None:
    """Write `values` and increment the version, unless the job has changed.

    The condition is that status and epoch are still those of `job`: of two concurrent updates one
    succeeds. Times are kept in order. Returns the updated job, or None.
    """
    expected = {"had_pk": job.pk, "had_status": job.status, "had_epoch": job.epoch}
    return _UPDATE.row(tx, expected, **in_order(job.created_at, job.started_at, values))


_UPDATE = RowUpdate(
    JobRow,
    lambda _: sa.and_(
        col(Job.pk) == sa.bindparam("had_pk"),
        col(Job.status) == sa.bindparam("had_status"),
        col(Job.epoch) == sa.bindparam("had_epoch"),
    ),
    version=col(Job.version) + 1,
)


def args_of(job: JobRow, kind: type[ArgsT]) -> ArgsT:
    """Return the arguments of a job of the type of `kind`, without a check of their rules."""
    args: ArgsT = _ADAPTERS[kind].validate_python(job.args)
    return args


def any_args_of(job: JobRow) -> JobArgs | None:
    """Return a job's arguments, None for a type that this version lacks."""
    kind = args_class(job.type)
    return None if kind is None else args_of(job, kind)


def result_of(job: JobRow) -> JobResult | None:
    """Return a job's result, None before SUCCESS and for a type that this version lacks."""
    kind = args_class(job.type)
    if job.result is None or kind is None:
        return None
    result: JobResult = _ADAPTERS[kind.result].validate_python(job.result)
    return result


def as_json(value: JobArgs | JobResult) -> dict[str, object]:
    """Return the fields of arguments or a result as JSON values."""
    fields: dict[str, object] = _ADAPTERS[type(value)].dump_python(value, mode="json")
    return fields


class _Adapters(dict[type, TypeAdapter[Any]]):
    """The conversion of each class of arguments and results from and to JSON values."""

    def __missing__(self, kind: type) -> TypeAdapter[Any]:
        adapter = self[kind] = TypeAdapter(kind)
        return adapter


_ADAPTERS = _Adapters()


def delete(tx: Transaction, pks: Collection[int]) -> None:
    """Delete jobs with their errors and idempotency keys."""
    tx.changed(sa.delete(JobError).where(col(JobError.job_pk).in_(pks)))
    tx.changed(sa.delete(IdempotencyKey).where(col(IdempotencyKey.job_pk).in_(pks)))
    tx.changed(sa.delete(Job).where(col(Job.pk).in_(pks)))


def _is_about(job: type[Job], hierarchy_id: sa.BindParameter[UUID]) -> sa.ColumnElement[bool]:
    """Condition that the job reads or created the hierarchy."""
    return sa.or_(col(job.subject_id) == hierarchy_id, col(job.result_id) == hierarchy_id)


def _hierarchy_query() -> KeysetQuery[JobRow]:
    job = aliased(Job)
    return KeysetQuery(
        entity=job,
        where=(col(job.store) == sa.bindparam("store"),),
        parent_condition=lambda id: _is_about(job, id),
        order=(OrderBy(col(job.job_seq), True),),
    )
