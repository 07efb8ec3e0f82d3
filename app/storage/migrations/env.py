"""Alembic's entry point: runs revisions on the connection from `upgrade`."""

from typing import Literal

import sqlalchemy as sa
import sqlmodel
from alembic import context
from alembic.autogenerate.api import AutogenContext

from app.storage.tables import Hierarchy


def render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Render our column types as plain ones, so that revisions do not import our code."""
    match item:
        case sa.TypeDecorator():
            return f"sa.{item.impl_instance!r}"
        case sa.Enum():
            return f"sa.String(length={item.length})"
        case sqlmodel.AutoString():
            return f"sa.String(length={item.length})"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Hierarchy.metadata,
    render_as_batch=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
