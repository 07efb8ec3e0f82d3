"""Idempotency keys: each stands for one job for a time."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Session, col

from app.storage.jobs import _COLUMNS, _NAMES
from app.storage.sql.dialects import upsert
from app.storage.sql.rows import row_of
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import IdempotencyKey, Job


def by_key(session: Session, store: str, key: str, since: datetime) -> tuple[Job, str] | None:
    """The job a key stands for and the digest of its input, if the key was used since then."""
    found = _BY_KEY.rows(session, {"store": store, "key": key, "since": since})
    if not found:
        return None
    digest, *job = found[0]
    return row_of(session, Job, _NAMES)(job), digest


_BY_KEY = CompiledStatement(
    lambda _: sa.select(col(IdempotencyKey.digest), *_COLUMNS).where(
        col(IdempotencyKey.store) == sa.bindparam("store"),
        col(IdempotencyKey.key) == sa.bindparam("key"),
        col(IdempotencyKey.created_at) > sa.bindparam("since"),
        col(Job.pk) == col(IdempotencyKey.job_pk),
    )
)


def keep_key(session: Session, job: Job, key: str, digest: str) -> None:
    """Let the key stand for this job from its creation on, whatever it stood for before."""
    values = {"digest": digest, "job_pk": job.pk, "created_at": job.created_at}
    _KEEP_KEY.changed(session, {"store": job.store, "key": key, **values})


_KEEP_KEY = CompiledStatement(lambda dialect: upsert(dialect, IdempotencyKey))
