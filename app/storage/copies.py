"""Copies of a tree's rows under another hierarchy's key: plain INSERT ... SELECT."""

from datetime import datetime
from functools import lru_cache

import sqlalchemy as sa

from app.storage.engine.statements import AnySelect
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import opaque_limit
from app.storage.sql.keyset import Key
from app.storage.subtrees import is_deleted
from app.storage.tables import Node, NodeProduct, ProductNode

CopiedRow = Node | NodeProduct | ProductNode

ASSOCIATION_CHUNK_FACTOR = {"sqlite": 6, "postgresql": 12}
"""Associations per chunk, as a multiple of nodes per chunk.

Writing six associations takes as long as writing one node with its indexes. On SQLite urgent writes
wait for a chunk, so chunks of equal duration give the fewest transactions for a given longest wait:
with 5,000 rows of either per chunk, a copy of 100k nodes and 1M associations takes 1.4 times as
long. On PostgreSQL only a stopping worker waits for a chunk, some 100 ms; there twice as many make
a copy take 1.1 times as long as plain SQL instead of 1.3 times.
"""


def copy_nodes(
    tx: Transaction, source_pk: int, copy_pk: int, after: Key | None, rows: int, at: datetime
) -> tuple[int, Key | None]:
    """Copy up to `rows` nodes after the key `after`.

    `at` becomes their creation time. Returns the number of copied nodes and the key of the last
    one, None if there are no more.
    """
    return _copy_chunk(tx, Node, source_pk, copy_pk, after, rows, created_at=at, updated_at=at)


def copy_associations(
    tx: Transaction, source_pk: int, copy_pk: int, after: Key | None, rows: int, skip_deleted: bool
) -> tuple[int, Key | None]:
    """Copy the products of nodes and their curation, as `copy_nodes` copies nodes.

    Up to `rows` times ASSOCIATION_CHUNK_FACTOR at once. `skip_deleted` leaves out the associations
    of deleted nodes, and is needed only if the source has any.
    """
    keys = source_pk, copy_pk, after, rows * _chunk_factor(tx)
    return _copy_chunk(tx, NodeProduct, *keys, skip_deleted)


def copy_reverse_associations(
    tx: Transaction, source_pk: int, copy_pk: int, after: Key | None, rows: int, skip_deleted: bool
) -> tuple[int, Key | None]:
    """Copy the nodes of products, as `copy_associations` copies the products of nodes."""
    keys = source_pk, copy_pk, after, rows * _chunk_factor(tx)
    return _copy_chunk(tx, ProductNode, *keys, skip_deleted)


def _chunk_factor(tx: Transaction) -> int:
    return ASSOCIATION_CHUNK_FACTOR[tx.dialect.name]


def _copy_chunk(
    tx: Transaction,
    table: type[CopiedRow],
    source_pk: int,
    copy_pk: int,
    after: Key | None,
    rows: int,
    skip_deleted: bool = False,
    **replaced: object,
) -> tuple[int, Key | None]:
    insert, find_last = _statements(table, after is not None, skip_deleted, tuple(replaced))
    after_key = {f"after_{index}": value for index, value in enumerate(after or ())}
    keys = {"source": source_pk, "copy": copy_pk, "rows": rows}
    written = tx.changed(insert, {**keys, **after_key, **replaced})
    if written < rows:
        return written, None
    [last] = tx.rows(find_last, {"copy": copy_pk})
    return written, last


@lru_cache
def _statements(
    table: type[CopiedRow], has_after: bool, skip_deleted: bool, replaced: tuple[str, ...]
) -> tuple[sa.Insert, AnySelect]:
    """The statements that copy a chunk and find the copy's last key.

    Finding that key in the copy is cheaper than in the source. Cached, because building the
    statements takes as long as running them.
    """
    mapper = sa.inspect(table)
    owner, *key = mapper.primary_key
    columns = [column.name for column in mapper.columns]
    values = {owner.name: "copy", **{name: name for name in replaced}}
    source = (
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
    if skip_deleted:
        source = source.where(~is_deleted(table))
    if has_after:
        after = [
            sa.bindparam(f"after_{index}", type_=column.type) for index, column in enumerate(key)
        ]
        source = source.where(sa.tuple_(*key) > sa.tuple_(*after))
    find_last = (
        sa.select(*key)
        .where(owner == sa.bindparam("copy"))
        .order_by(*(column.desc() for column in key))
        .limit(1)
    )
    return sa.insert(mapper.local_table).from_select(columns, source), find_last
