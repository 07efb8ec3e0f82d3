"""Rows of one tree written again under another hierarchy's key: plain INSERT ... SELECT."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, SQLModel

from app.storage.pages import Key
from app.storage.tables import Node, NodeProduct, ProductNode

NARROW = 6
"""Associations a chunk for each node a chunk: as long as writing one node with its indexes takes.

Chunks of one length are the fewest transactions for the longest wait they cause: with 5,000 rows
of either a chunk, a copy of 100k nodes and 1M associations took 1.4 times as long.
"""


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
    """`nodes`, for the products of each node and their curation; up to `rows * NARROW` of them."""
    return _chunk(session, NodeProduct, source_pk, copy_pk, after, rows * NARROW)


def reverse_associations(
    session: Session, source_pk: int, copy_pk: int, after: Key | None, rows: int
) -> tuple[int, Key | None]:
    """`associations`, for the nodes of each product."""
    return _chunk(session, ProductNode, source_pk, copy_pk, after, rows * NARROW)


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
    values = {owner.name: copy_pk, **replaced}
    there = (
        sa.select(
            *(
                sa.literal(values[column.name], column.type) if column.name in values else column
                for column in mapper.columns
            )
        )
        .where(owner == source_pk)
        .order_by(*key)
        .limit(rows)
    )
    if after is not None:
        there = there.where(sa.tuple_(*key) > sa.tuple_(*after))
    names = [column.name for column in mapper.columns]
    written = session.exec(sa.insert(table).from_select(names, there)).rowcount
    if written < rows:
        return written, None
    # The copy's own last key: to look ahead for it in the source would read each chunk twice.
    last = session.execute(
        sa.select(*key)
        .where(owner == copy_pk)
        .order_by(*(column.desc() for column in key))
        .limit(1)
    ).one()
    return written, tuple(last)
