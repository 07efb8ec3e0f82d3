"""Errors of jobs."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.errors import InvalidInput
from app.storage.jobs import _OF_STORE
from app.storage.sql.dialects import dialect_of, keys_for, one_of, opaque_limit
from app.storage.sql.keyset import Key, KeysetPage, KeysetQuery, KeysetWindow, OrderBy, pages
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.sql.rows import RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Job, JobError


def offset_page(session: Session, job: Job, span: OffsetWindow) -> OffsetPage[JobError]:
    """A span of the job's errors, the first one first."""
    of_job = JobError.job_pk == job.pk
    found = session.exec(
        select(JobError)
        .where(of_job)
        .order_by(col(JobError.pk))
        .offset(span.offset)
        .limit(opaque_limit(span.limit))
    ).all()
    return OffsetPage(found, session.exec(select(sa.func.count()).where(of_job)).one())


def add(session: Session, job: Job, code: str, message: str, at: datetime) -> None:
    """Note why the job failed, as of the version it is in."""
    assert job.pk is not None
    session.add(
        JobError(job_pk=job.pk, job_version=job.version, code=code, message=message, created_at=at)
    )


def by_ids(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, JobError]:
    """The errors of the store's jobs among these ids."""
    found = _BY_IDS.rows(session, {"store": store, **keys_for(dialect_of(session), ids)})
    return {error.id: error for error in found}


_BY_IDS = RowQuery(
    JobError,
    lambda dialect: sa.and_(
        col(JobError.job_pk) == col(Job.pk),
        _OF_STORE,
        one_of(dialect, col(JobError.id)),
    ),
)


JobVersion = tuple[int, int]
"""A job's pk and one of its versions."""


def of_jobs(
    session: Session, store: str, jobs: Sequence[JobVersion], window: KeysetWindow
) -> dict[JobVersion, KeysetPage[JobError]]:
    """A page of the errors each job had at that version, the first one first, each by its id.

    Raises InvalidInput for a place at an error that is no longer seen.
    """

    def key_of(id: UUID, argument: str) -> Key:
        error = by_ids(session, store, [id]).get(id)
        if error is None:
            raise InvalidInput("The error of this cursor is gone: begin again.", (argument,))
        return (error.pk,)

    found = pages(session, _of_job, jobs, window.placed(key_of), store=store)
    return {job: page.by_id() for job, page in found.items()}


def counts_of_jobs(
    session: Session, store: str, jobs: Sequence[JobVersion]
) -> dict[JobVersion, int]:
    """How many errors each job had at that version."""
    versions: dict[int, list[int]] = {}
    pks = {pk for pk, _ in jobs}
    for pk, version in _ERROR_VERSIONS.rows(
        session, {"store": store, **keys_for(dialect_of(session), pks)}
    ):
        versions.setdefault(pk, []).append(version)
    return {
        (pk, version): sum(since <= version for since in versions.get(pk, ()))
        for pk, version in jobs
    }


_ERROR_VERSIONS = CompiledStatement(
    lambda dialect: sa.select(col(JobError.job_pk), col(JobError.job_version)).where(
        col(JobError.job_pk) == col(Job.pk),
        _OF_STORE,
        one_of(dialect, col(JobError.job_pk)),
    )
)


def _of_job() -> KeysetQuery:
    error: Any = aliased(JobError)
    job: Any = aliased(Job)
    return KeysetQuery(
        entities=(error,),
        where=(job.pk == error.job_pk, job.store == sa.bindparam("store")),
        spine=error,
        belongs=lambda pk, version: sa.and_(error.job_pk == pk, error.job_version <= version),
        order=(OrderBy(error.pk),),
    )
