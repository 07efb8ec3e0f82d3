"""Rows of one tree written again under another hierarchy's key: plain INSERT ... SELECT."""

from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, SQLModel

from app.storage.nodes import cut
from app.storage.sql.dialects import dialect_of, opaque_limit
from app.storage.sql.keyset import Key
from app.storage.tables import Node, NodeProduct, ProductNode

NARROW = {"sqlite": 6, "postgresql": 12}
"""Associations a chunk for each node a chunk.

Six take as long to write as one node with its indexes. On SQLite, where urgent writes wait for a
chunk, chunks of one length are the fewest transactions for the longest wait they cause: with 5,000
rows of either a chunk, a copy of 100k nodes and 1M associations took 1.4 times as long. On
PostgreSQL nobody waits for one but a worker told to stop, some 100 ms, and twice as many make it
1.1 times as long as plain SQL instead of 1.3 times.
"""


def nodes(
    session: Session, source_pk: int, copy_pk: int, after: Key | None, rows: int, at: datetime
) -> tuple[int, Key | None]:
    """Copy up to `rows` nodes past the key `after`, as created at `at`.

    Returns how many, and the key of the last one, None when there are no more.
    """
    return _chunk(session, Node, source_pk, copy_pk, after, rows, created_at=at, updated_at=at)


def associations(
    session: Session, source_pk: int, copy_pk: int, after: Key | None, rows: int, any_cut: bool
) -> tuple[int, Key | None]:
    """`nodes`, for the products of each node and their curation; up to `rows * NARROW` of them.
    Where there may be any, those of deleted nodes are left out."""
    keys = source_pk, copy_pk, after, rows * _narrow(session)
    return _chunk(session, NodeProduct, *keys, any_cut)


def reverse_associations(
    session: Session, source_pk: int, copy_pk: int, after: Key | None, rows: int, any_cut: bool
) -> tuple[int, Key | None]:
    """`associations`, for the nodes of each product."""
    keys = source_pk, copy_pk, after, rows * _narrow(session)
    return _chunk(session, ProductNode, *keys, any_cut)


def _narrow(session: Session) -> int:
    return NARROW[dialect_of(session)]


def _chunk(
    session: Session,
    table: type[SQLModel],
    source_pk: int,
    copy_pk: int,
    after: Key | None,
    rows: int,
    any_cut: bool = False,
    **replaced: Any,
) -> tuple[int, Key | None]:
    write, find_last = _statements(table, after is not None, any_cut, tuple(replaced))
    place = {f"after_{number}": value for number, value in enumerate(after or ())}
    keys = {"source": source_pk, "copy": copy_pk, "rows": rows}
    written = session.execute(write, {**keys, **place, **replaced}).rowcount  # type: ignore[attr-defined]
    if written < rows:
        return written, None
    return written, tuple(session.execute(find_last, {"copy": copy_pk}).one())


@lru_cache
def _statements(
    table: type[SQLModel], goes_on: bool, any_cut: bool, replaced: tuple[str, ...]
) -> tuple[sa.Insert, sa.Select[Any]]:
    """How to write a chunk and how to find the copy's last key, which is cheaper than to look
    ahead for it in the source. Made once: making them took as long as the database took for them.
    """
    mapper = sa.inspect(table)
    owner, *key = mapper.primary_key
    columns = [column.name for column in mapper.columns]
    values = {owner.name: "copy", **{name: name for name in replaced}}
    there = (
        sa.select(
            *(
                sa.bindparam(values[column.name], type_=column.type)
                if column.name in values
                else column
                for column in mapper.columns
            )
        )
        .where(owner == sa.bindparam("source"))
        .order_by(*key)
        .limit(opaque_limit(sa.bindparam("rows", type_=sa.Integer)))
    )
    if any_cut:
        there = there.where(~cut(table))
    if goes_on:
        after = [
            sa.bindparam(f"after_{number}", type_=column.type) for number, column in enumerate(key)
        ]
        there = there.where(sa.tuple_(*key) > sa.tuple_(*after))
    find_last = (
        sa.select(*key)
        .where(owner == sa.bindparam("copy"))
        .order_by(*(column.desc() for column in key))
        .limit(1)
    )
    # On the bare table: SQLAlchemy's bulk insert of entities is for rows that are in hand.
    write = sa.insert(mapper.local_table).from_select(columns, there)
    return write.execution_options(preserve_rowcount=True), find_last
