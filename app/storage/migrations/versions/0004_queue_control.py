"""Ranks of jobs, retries, traces of requests, pauses of queues, and the copied nodes of a copy."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

INSTANT = sa.DateTime(timezone=True)
PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    op.add_column("job", sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("traceparent", sa.String(length=64), nullable=True))
    op.add_column("job", sa.Column("retry_of", sa.Uuid(), nullable=True))
    op.execute("UPDATE job SET turn = job_seq")
    op.drop_index("ix_job_lane", table_name="job")
    op.create_index("ix_job_status", "job", ["store", "status", "job_seq"])
    op.create_index(
        "ix_job_turn",
        "job",
        ["store", "turn", "items"],
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )
    op.create_index("ix_job_retry_of", "job", ["retry_of"])

    op.add_column(
        "lane", sa.Column("front_turn", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("lane", sa.Column("paused_at", INSTANT, nullable=True))
    op.add_column("lane", sa.Column("pause_reason", sa.Text(), nullable=True))
    op.add_column("lane", sa.Column("paused_by", sa.String(length=255), nullable=True))

    op.add_column(
        "hierarchy",
        sa.Column("copied_node_no", sa.BigInteger(), server_default="0", nullable=False),
    )
    # Unknown for existing copies: nodes added to one since count as copied.
    op.execute("UPDATE hierarchy SET copied_node_no = last_node_no WHERE copied_from IS NOT NULL")
