"""Idempotency keys: each maps to one job for a limited time."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import col

from app.storage.engine.statements import AnyQuery, PreparedChange, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import upsert
from app.storage.sql.rows import all_columns, row_maker
from app.storage.tables import IdempotencyKey, Job, JobRow


def find(tx: Transaction, store: str, key: str, since: datetime) -> tuple[JobRow, str] | None:
    """The key's job and input digest, if saved after `since`."""
    rows = tx.raw_rows(_FIND, {"store": store, "key": key, "since": since})
    if not rows:
        return None
    digest, *job = rows[0]
    return row_maker(tx.dialect, JobRow)(job), digest


_FIND: AnyQuery = PreparedQuery(
    lambda _: sa.select(col(IdempotencyKey.digest), *all_columns(Job)).where(
        col(IdempotencyKey.store) == sa.bindparam("store"),
        col(IdempotencyKey.key) == sa.bindparam("key"),
        col(IdempotencyKey.created_at) > sa.bindparam("since"),
        col(Job.pk) == col(IdempotencyKey.job_pk),
    )
)


def save(tx: Transaction, job: JobRow, key: str, digest: str) -> None:
    """Map the key to this job, in place of an earlier one."""
    values = {"digest": digest, "job_pk": job.pk, "created_at": job.created_at}
    tx.changed(_SAVE, {"store": job.store, "key": key, **values})


_SAVE = PreparedChange(lambda dialect: upsert(dialect, IdempotencyKey))
