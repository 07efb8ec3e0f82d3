"""Job errors: the reasons why a job failed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.errors import InvalidInput
from app.storage import jobs
from app.storage.sql.dialects import dialect_of, in_keys, in_keys_values, opaque_limit
from app.storage.sql.keyset import Key, KeysetPage, KeysetQuery, KeysetWindow, OrderBy, read_pages
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.sql.rows import RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Job, JobError


def offset_page(session: Session, job: Job, window: OffsetWindow) -> OffsetPage[JobError]:
    """A page of the job's errors, oldest first."""
    is_of_job = JobError.job_pk == job.pk
    rows = session.exec(
        select(JobError)
        .where(is_of_job)
        .order_by(col(JobError.pk))
        .offset(window.offset)
        .limit(opaque_limit(window.limit))
    ).all()
    return OffsetPage(rows, session.exec(select(sa.func.count()).where(is_of_job)).one())


def add(session: Session, job: Job, code: str, message: str, at: datetime) -> None:
    """Add an error to the job, as of its present version."""
    assert job.pk is not None
    session.add(
        JobError(job_pk=job.pk, job_version=job.version, code=code, message=message, created_at=at)
    )


def by_ids(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, JobError]:
    """The errors of the store's jobs among `ids`, by id."""
    errors = _BY_IDS.rows(session, {"store": store, **in_keys_values(dialect_of(session), ids)})
    return {error.id: error for error in errors}


_BY_IDS = RowQuery(
    JobError,
    lambda dialect: sa.and_(
        col(JobError.job_pk) == col(Job.pk),
        jobs.IN_STORE,
        in_keys(dialect, col(JobError.id)),
    ),
)


JobVersion = tuple[int, int]
"""A job's pk and one of its versions."""


def of_jobs(
    session: Session, store: str, versions: Sequence[JobVersion], window: KeysetWindow
) -> dict[JobVersion, KeysetPage[JobError]]:
    """A page of each job's errors at that version, oldest first.

    Keys are the errors' public ids. Raises InvalidInput for the cursor of a deleted error.
    """

    def key_of(id: UUID, argument: str) -> Key:
        error = by_ids(session, store, [id]).get(id)
        if error is None:
            raise InvalidInput("The error of this cursor is gone: begin again.", (argument,))
        return (error.pk,)

    pages_by_job = read_pages(session, _job_query, versions, window.resolved(key_of), store=store)
    return {version: page.by_id() for version, page in pages_by_job.items()}


def counts_of_jobs(
    session: Session, store: str, versions: Sequence[JobVersion]
) -> dict[JobVersion, int]:
    """Count the errors each job had at that version."""
    error_versions: dict[int, list[int]] = {}
    pks = {pk for pk, _ in versions}
    for pk, version in _ERROR_VERSIONS.rows(
        session, {"store": store, **in_keys_values(dialect_of(session), pks)}
    ):
        error_versions.setdefault(pk, []).append(version)
    return {
        (pk, version): sum(since <= version for since in error_versions.get(pk, ()))
        for pk, version in versions
    }


_ERROR_VERSIONS = CompiledStatement(
    lambda dialect: sa.select(col(JobError.job_pk), col(JobError.job_version)).where(
        col(JobError.job_pk) == col(Job.pk),
        jobs.IN_STORE,
        in_keys(dialect, col(JobError.job_pk)),
    )
)


def _job_query() -> KeysetQuery:
    error: Any = aliased(JobError)
    job: Any = aliased(Job)
    return KeysetQuery(
        entities=(error,),
        where=(job.pk == error.job_pk, job.store == sa.bindparam("store")),
        row_entity=error,
        parent_condition=lambda pk, version: sa.and_(
            error.job_pk == pk, error.job_version <= version
        ),
        order=(OrderBy(error.pk),),
    )
