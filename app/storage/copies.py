"""Rows of one tree written again under another hierarchy's key: plain INSERT ... SELECT."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, SQLModel

from app.storage.pages import Key
from app.storage.tables import Node, NodeProduct, ProductNode


def nodes(
    session: Session, source_pk: int, copy_pk: int, after: Key | None, rows: int, at: datetime
) -> tuple[int, Key | None]:
    """Copy up to `rows` nodes past the key `after`, as created at `at`.

    Returns how many, and the key of the last one, None when there are no more.
    """
    return _chunk(session, Node, source_pk, copy_pk, after, rows, created_at=at, updated_at=at)


def associations(
    session: Session, source_pk: int, copy_pk: int, after: Key | None, rows: int
) -> tuple[int, Key | None]:
    """`nodes`, for the products of each node and their curation."""
    return _chunk(session, NodeProduct, source_pk, copy_pk, after, rows)


def reverse_associations(
    session: Session, source_pk: int, copy_pk: int, after: Key | None, rows: int
) -> tuple[int, Key | None]:
    """`nodes`, for the nodes of each product."""
    return _chunk(session, ProductNode, source_pk, copy_pk, after, rows)


def _chunk(
    session: Session,
    table: type[SQLModel],
    source_pk: int,
    copy_pk: int,
    after: Key | None,
    rows: int,
    **replaced: Any,
) -> tuple[int, Key | None]:
    mapper = sa.inspect(table)
    owner, *key = mapper.primary_key
    place = sa.tuple_(*key)
    part = [owner == source_pk]
    if after is not None:
        part.append(place > sa.tuple_(*after))
    last = session.execute(
        sa.select(*key).where(*part).order_by(*key).limit(1).offset(rows - 1)
    ).first()
    if last is not None:
        part.append(place <= sa.tuple_(*last))
    values = {owner.name: copy_pk, **replaced}
    columns = list(mapper.columns)
    rows_there = (
        sa.select(
            *(
                sa.literal(values[column.name], column.type) if column.name in values else column
                for column in columns
            )
        )
        .where(*part)
        .order_by(*key)
    )
    written = session.exec(
        sa.insert(table).from_select([column.name for column in columns], rows_there)
    )
    return written.rowcount, None if last is None else tuple(last)
