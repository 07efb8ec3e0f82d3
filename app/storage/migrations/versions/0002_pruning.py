"""Pruned event logs, and an index to delete idempotency keys with their jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "lane", sa.Column("pruned_seq", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_index("ix_idempotency_key_job", "idempotency_key", ["job_pk"])
