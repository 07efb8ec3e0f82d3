"""The last node number of a hierarchy, which is not reused, and tombstones of deleted nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "hierarchy", sa.Column("last_node_no", sa.BigInteger(), server_default="0", nullable=False)
    )
    # Nodes could not be deleted before, so the greatest number is the last assigned one.
    op.execute(
        "UPDATE hierarchy SET last_node_no = coalesce((SELECT node.node_no FROM node"
        " WHERE node.hierarchy_pk = hierarchy.pk ORDER BY node.node_no DESC LIMIT 1), 0)"
    )
    op.create_table(
        "cut_node",
        sa.Column("hierarchy_pk", sa.BigInteger(), nullable=False),
        sa.Column("node_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hierarchy_pk", "node_no", name=op.f("pk_cut_node")),
        sqlite_with_rowid=False,
    )
