"""The first tables. This revision has no downgrade."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "hierarchy",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("locales", sa.JSON(), nullable=False),
        sa.Column("copied_from", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("node_count", sa.BigInteger(), nullable=False),
        sa.Column("association_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_hierarchy")),
        sa.UniqueConstraint("id", name=op.f("uq_hierarchy_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("hierarchy", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_hierarchy_state"), ["state"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_hierarchy_store_created_at_id"),
            ["store", "created_at", "id"],
            unique=False,
        )

    op.create_table(
        "idempotency_key",
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("job_pk", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("store", "key", name=op.f("pk_idempotency_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column("job_seq", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("requested_by", sa.String(length=255), nullable=True),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("result_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("include_products", sa.Boolean(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("completed_items", sa.BigInteger(), nullable=False),
        sa.Column("total_items", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("checkpoint", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_job")),
        sa.UniqueConstraint("id", name=op.f("uq_job_id")),
        sa.UniqueConstraint("store", "job_seq", name=op.f("uq_job_store_job_seq")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index("ix_job_lane", ["store", "status", "job_seq", "items"], unique=False)
        batch_op.create_index("ix_job_result", ["result_id", "job_seq"], unique=False)
        batch_op.create_index("ix_job_source", ["source_id", "job_seq"], unique=False)
        batch_op.create_index(
            "uq_job_started",
            ["store"],
            unique=True,
            sqlite_where=sa.text("status = 'started'"),
            postgresql_where=sa.text("status = 'started'"),
        )

    op.create_table(
        "job_event",
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_pk", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("previous_status", sa.String(length=32), nullable=True),
        sa.Column("snapshot", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("store", "seq", name=op.f("pk_job_event")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("job_event", schema=None) as batch_op:
        batch_op.create_index("ix_job_event_job", ["job_pk", "seq"], unique=False)

    op.create_table(
        "lane",
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("job_seq", sa.BigInteger(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pending", sa.BigInteger(), nullable=False),
        sa.Column("pending_items", sa.BigInteger(), nullable=False),
        sa.Column("pace_seconds", sa.Float(), nullable=False),
        sa.Column("pace_items", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("store", name=op.f("pk_lane")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "node_product",
        sa.Column("hierarchy_pk", sa.BigInteger(), nullable=False),
        sa.Column("node_no", sa.BigInteger(), nullable=False),
        sa.Column("product_pk", sa.BigInteger(), nullable=False),
        sa.Column("curated_position", sa.SmallInteger(), nullable=True),
        sa.PrimaryKeyConstraint(
            "hierarchy_pk", "node_no", "product_pk", name=op.f("pk_node_product")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "product",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("store", sa.String(length=255), nullable=False),
        sa.Column(
            "sku",
            sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
            nullable=True,
        ),
        sa.Column("name", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_product")),
        sa.UniqueConstraint("id", name=op.f("uq_product_id")),
        sa.UniqueConstraint("store", "sku", name=op.f("uq_product_store_sku")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "product_node",
        sa.Column("hierarchy_pk", sa.BigInteger(), nullable=False),
        sa.Column("product_pk", sa.BigInteger(), nullable=False),
        sa.Column("node_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hierarchy_pk", "product_pk", "node_no", name=op.f("pk_product_node")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_error",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_pk", sa.BigInteger(), nullable=False),
        sa.Column("job_version", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_pk"], ["job.pk"], name=op.f("fk_job_error_job_pk_job")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_job_error")),
        sa.UniqueConstraint("id", name=op.f("uq_job_error_id")),
    )
    with op.batch_alter_table("job_error", schema=None) as batch_op:
        batch_op.create_index("ix_job_error_job", ["job_pk", "pk"], unique=False)

    op.create_table(
        "node",
        sa.Column("hierarchy_pk", sa.BigInteger(), nullable=False),
        sa.Column("node_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("parent_no", sa.BigInteger(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("sort_order", sa.BigInteger(), server_default="-2147483649", nullable=False),
        sa.Column("touched", sa.BigInteger(), nullable=False),
        sa.Column("locales", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["hierarchy_pk"], ["hierarchy.pk"], name=op.f("fk_node_hierarchy_pk_hierarchy")
        ),
        sa.PrimaryKeyConstraint("hierarchy_pk", "node_no", name=op.f("pk_node")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("node", schema=None) as batch_op:
        batch_op.create_index(
            "ix_node_children", ["hierarchy_pk", "parent_no", "sort_order", "touched"], unique=False
        )
        batch_op.create_index("ix_node_depth", ["hierarchy_pk", "depth", "node_no"], unique=False)
