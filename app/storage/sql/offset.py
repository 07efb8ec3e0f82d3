"""Offset pagination; for cursors see `keyset`."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from app.storage.engine.statements import AnyColumn, AnyQuery, AnySelect, BindValues, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import opaque_limit
from app.storage.sql.keyset import ROW_LIMIT, Key, KeysetQuery, OrderBy, sql_order

RowT = TypeVar("RowT")


class OffsetWindow(NamedTuple):
    """Up to `limit` rows after the first `offset` ones."""

    offset: int
    limit: int


class OffsetPage(NamedTuple, Generic[RowT]):
    """The rows of a window, and the number of rows of the whole list."""

    rows: Sequence[RowT]
    total: int


def read_page_keys(
    tx: Transaction, queries: Sequence[KeysetQuery[RowT]], window: OffsetWindow, values: BindValues
) -> Sequence[Key]:
    """Read the primary keys, all integers, of the rows of several lists of one order, merged.

    `values` are those of the queries' parameters. Keys are in the index: skipping 90,000 whole rows
    took twenty times as long.
    """
    offset, limit = window
    bounds = {"offset": offset, "rows": limit, "end": offset + limit}
    return tx.rows(_keys_statement(tuple(queries)), {**bounds, **values})


@lru_cache(maxsize=128)
def _keys_statement(queries: tuple[KeysetQuery[RowT], ...]) -> AnyQuery:
    keys = _keys(queries[0]) if len(queries) == 1 else _merged_keys(queries)
    page = keys.offset(sa.bindparam("offset", type_=sa.Integer)).limit(opaque_limit(ROW_LIMIT))
    return PreparedQuery(lambda _: page)


def _keys(query: KeysetQuery[RowT], *columns: AnyColumn) -> AnySelect:
    """Select the primary keys of a list's rows, and `columns`, in the list's order."""
    keys: list[AnyColumn] = [
        column.label(f"key_{no}") for no, column in enumerate(query.primary_key)
    ]
    return sa.select(*keys, *columns).where(*query.where).order_by(*sql_order(query.order))


def _merged_keys(queries: Sequence[KeysetQuery[RowT]]) -> AnySelect:
    # Each list is read by its index, up to the end of the window; a union would be sorted.
    end = opaque_limit(sa.bindparam("end", type_=sa.Integer))
    parts = [
        _keys(query, *(column.label(f"order_{no}") for no, (column, _) in enumerate(query.order)))
        .limit(end)
        .subquery()
        for query in queries
    ]
    merged = sa.union_all(*map(sa.select, parts)).subquery()
    keys = [column for column in merged.c if column.key.startswith("key_")]
    order = tuple(
        OrderBy(merged.c[f"order_{no}"], descending)
        for no, (_, descending) in enumerate(queries[0].order)
    )
    return sa.select(*keys).order_by(*sql_order(order))
