"""The log may begin later than with its first event, and keys go with the jobs they stand for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "lane", sa.Column("pruned_seq", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_index("ix_idempotency_key_job", "idempotency_key", ["job_pk"])
