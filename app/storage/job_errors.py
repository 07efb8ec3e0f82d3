"""Job errors: the reasons why a job failed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.errors import InvalidInput
from app.storage import jobs
from app.storage.engine.statements import PreparedChange, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import in_keys, in_keys_values, opaque_limit
from app.storage.sql.keyset import (
    ROW_LIMIT,
    Key,
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    OrderBy,
    read_pages,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.sql.rows import RowQuery
from app.storage.tables import Job, JobError, JobErrorRow, JobRow


def offset_page(tx: Transaction, job: JobRow, window: OffsetWindow) -> OffsetPage[JobErrorRow]:
    """A page of the job's errors, oldest first."""
    values = {"job_pk": job.pk}
    rows = _PAGE.rows(tx, {**values, "offset": window.offset, "rows": window.limit})
    [(total,)] = tx.rows(_COUNT, values)
    return OffsetPage(rows, total)


_IS_OF_JOB = col(JobError.job_pk) == sa.bindparam("job_pk")
_PAGE = RowQuery(
    JobErrorRow,
    lambda _: _IS_OF_JOB,
    lambda query: (
        query.order_by(col(JobError.pk))
        .offset(sa.bindparam("offset", type_=sa.Integer))
        .limit(opaque_limit(ROW_LIMIT))
    ),
)
_COUNT = PreparedQuery(lambda _: sa.select(sa.func.count()).where(_IS_OF_JOB))


def add(tx: Transaction, job: JobRow, code: str, message: str, at: datetime) -> None:
    """Add an error to the job, as of its present version."""
    error = {"id": uuid4(), "code": code, "message": message, "created_at": at}
    tx.changed(_ADD, {**error, "job_pk": job.pk, "job_version": job.version})


_ADD = PreparedChange(
    lambda _: sa.insert(JobError).values(
        dict.fromkeys(("id", "job_pk", "job_version", "code", "message", "created_at"))
    )
)


def by_ids(tx: Transaction, store: str, ids: Collection[UUID]) -> dict[UUID, JobErrorRow]:
    """The errors of the store's jobs among `ids`, by id."""
    errors = _BY_IDS.rows(tx, {"store": store, **in_keys_values(tx.dialect.name, ids)})
    return {error.id: error for error in errors}


_BY_IDS = RowQuery(
    JobErrorRow,
    lambda dialect: sa.and_(
        col(JobError.job_pk) == col(Job.pk),
        jobs.IN_STORE,
        in_keys(dialect, col(JobError.id)),
    ),
)


JobVersion = tuple[int, int]
"""A job's pk and one of its versions."""


def of_jobs(
    tx: Transaction, store: str, versions: Sequence[JobVersion], window: KeysetWindow
) -> dict[JobVersion, KeysetPage[JobErrorRow]]:
    """A page of each job's errors at that version, oldest first.

    Keys are the errors' public ids. Raises InvalidInput for the cursor of a deleted error.
    """

    def key_of(id: UUID, argument: str) -> Key:
        error = by_ids(tx, store, [id]).get(id)
        if error is None:
            raise InvalidInput("The error of this cursor is gone: begin again.", (argument,))
        return (error.pk,)

    pages_by_job = read_pages(tx, _job_query, versions, window.resolved(key_of), store=store)
    return {version: page.by_id() for version, page in pages_by_job.items()}


def counts_of_jobs(
    tx: Transaction, store: str, versions: Sequence[JobVersion]
) -> dict[JobVersion, int]:
    """Count the errors each job had at that version."""
    error_versions: dict[int, list[int]] = {}
    pks = {pk for pk, _ in versions}
    for pk, version in tx.rows(
        _ERROR_VERSIONS, {"store": store, **in_keys_values(tx.dialect.name, pks)}
    ):
        error_versions.setdefault(pk, []).append(version)
    return {
        (pk, version): sum(since <= version for since in error_versions.get(pk, ()))
        for pk, version in versions
    }


_ERROR_VERSIONS = PreparedQuery(
    lambda dialect: sa.select(col(JobError.job_pk), col(JobError.job_version)).where(
        col(JobError.job_pk) == col(Job.pk),
        jobs.IN_STORE,
        in_keys(dialect, col(JobError.job_pk)),
    )
)


def _job_query() -> KeysetQuery[JobErrorRow]:
    error = aliased(JobError)
    job = aliased(Job)
    return KeysetQuery(
        entity=error,
        where=(col(job.pk) == col(error.job_pk), col(job.store) == sa.bindparam("store")),
        parent_condition=lambda pk, version: sa.and_(
            col(error.job_pk) == pk, col(error.job_version) <= version
        ),
        order=(OrderBy(col(error.pk)),),
    )
