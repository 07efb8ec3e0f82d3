"""Idempotency keys: each maps to one job for a limited time."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Session, col

from app.storage import jobs
from app.storage.sql.dialects import upsert
from app.storage.sql.rows import row_class
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import IdempotencyKey, Job


def find(session: Session, store: str, key: str, since: datetime) -> tuple[Job, str] | None:
    """The key's job and input digest, if saved after `since`."""
    rows = _FIND.rows(session, {"store": store, "key": key, "since": since})
    if not rows:
        return None
    digest, *job = rows[0]
    return row_class(session, Job, jobs.COLUMN_NAMES)(job), digest


_FIND = CompiledStatement(
    lambda _: sa.select(col(IdempotencyKey.digest), *jobs.COLUMNS).where(
        col(IdempotencyKey.store) == sa.bindparam("store"),
        col(IdempotencyKey.key) == sa.bindparam("key"),
        col(IdempotencyKey.created_at) > sa.bindparam("since"),
        col(Job.pk) == col(IdempotencyKey.job_pk),
    )
)


def save(session: Session, job: Job, key: str, digest: str) -> None:
    """Map the key to this job, in place of an earlier one."""
    values = {"digest": digest, "job_pk": job.pk, "created_at": job.created_at}
    _SAVE.changed(session, {"store": job.store, "key": key, **values})


_SAVE = CompiledStatement(lambda dialect: upsert(dialect, IdempotencyKey))
