"""admin_attributes and shopper_attributes of hierarchies and nodes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

JSON_FIELDS = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    # Nullable and without a default, so that neither database rewrites a row.
    for table in ("hierarchy", "node"):
        for name in ("admin_attributes", "shopper_attributes"):
            op.add_column(table, sa.Column(name, JSON_FIELDS, nullable=True))
