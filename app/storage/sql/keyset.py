"""Keyset pagination: a page of one list, or of one list per parent in a single statement."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import SQLModel

from app.domain.filters import Sort
from app.storage.engine.statements import AnyColumn, AnyRow, AnySelect, BindValues, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.column_types import type_of
from app.storage.sql.dialects import (
    KeyTable,
    key_table,
    key_table_values,
    opaque_limit,
)
from app.storage.sql.rows import ALL_COLUMNS, Projection, column_names, row_class_of, row_maker

RowT = TypeVar("RowT")
RowT_co = TypeVar("RowT_co", covariant=True)
MappedT = TypeVar("MappedT")
ParentT = TypeVar("ParentT", bound=Hashable)
Key = AnyRow
"""A row's values of the columns that order its list: a position that inserts and deletes of other
rows do not move."""


class Identified(Protocol):
    """A row with a public id."""

    @property
    def id(self) -> UUID: ...


IdentifiedT = TypeVar("IdentifiedT", bound=Identified)


class OrderBy(NamedTuple):
    """One column of a list's order."""

    column: AnyColumn
    descending: bool = False


Order = tuple[OrderBy, ...]
"""Columns that order a list, the first one first."""


def order_by(sort: Sort, orders: Mapping[str, Order]) -> Order:
    """Return the order of `sort`; `orders` has the ascending order of each attribute."""
    return tuple(
        OrderBy(column, descending is not sort.descending)
        for column, descending in orders[sort.attribute]
    )


@dataclass(frozen=True, slots=True)
class KeysetWindow:
    """Up to `limit` rows between two keys, both exclusive; the last ones if `backward`."""

    limit: int
    after: Key | None = None
    before: Key | None = None
    backward: bool = False

    def resolved(self, key_of: Callable[[UUID, str], Key]) -> "KeysetWindow":
        """Replace public ids as bounds by keys.

        `key_of` gets an id and the name of its bound, `after` or `before`.
        """
        return replace(
            self,
            after=self.after and key_of(self.after[0], "after"),
            before=self.before and key_of(self.before[0], "before"),
        )


@dataclass(frozen=True, slots=True)
class KeysetPage(Generic[RowT_co]):
    """Rows with their keys in the list's order, and whether more rows precede or follow."""

    rows: Sequence[tuple[Key, RowT_co]] = ()
    has_next: bool = False
    has_previous: bool = False

    def map(self, convert: Callable[[RowT_co], MappedT]) -> "KeysetPage[MappedT]":
        """Convert each row."""
        rows = [(key, convert(row)) for key, row in self.rows]
        return KeysetPage(rows, self.has_next, self.has_previous)

    def by_id(self: "KeysetPage[IdentifiedT]") -> "KeysetPage[IdentifiedT]":
        """Replace keys by the rows' public ids.

        Keys that number the rows of all stores reveal how many rows other stores have.
        """
        rows = [((row.id,), row) for _, row in self.rows]
        return KeysetPage(rows, self.has_next, self.has_previous)


@dataclass(frozen=True, eq=False)
class KeysetQuery(Generic[RowT]):
    """A list as SQL: its table, join and filter conditions, and the order.

    The order ends with columns that are unique within one list. A list per parent comes from a
    function that makes a new query per call, because a statement may contain it twice, under two
    aliases.
    """

    entity: type[SQLModel]
    """The table of the list's rows, or an alias of it."""
    where: tuple[sa.ColumnElement[bool], ...]
    order: Order
    others: tuple[AnyColumn, ...] = ()
    """Other columns of a row."""
    make: Callable[..., RowT] | None = None
    """Makes a row of the list from a row of the table and the values of `others`."""
    key_entity: type[SQLModel] | None = None
    """The table that has exactly one row per row of the list, if it is not `entity`."""
    parent_condition: Callable[..., sa.ColumnElement[bool]] | None = None
    """Makes the condition that a row is in a parent's list, from the parts of the parent's key."""
    contiguous_index: bool = True
    """True if the index with this order has the order's columns next to each other."""

    @property
    def primary_key(self) -> list[AnyColumn]:
        """The columns that identify a row of the list."""
        entity = self.key_entity or self.entity
        return [getattr(entity, column.key) for column in sa.inspect(entity).mapper.primary_key]

    def is_in_list_of(self, parents: KeyTable) -> sa.ColumnElement[bool]:
        """Return the condition that a row is in the list of a parent."""
        assert self.parent_condition is not None
        return self.parent_condition(*parents.parts)


class _PageQuery(Generic[RowT]):
    """A statement that reads rows of a list, and the decoding of its results.

    Its columns are those of the row's table, the other columns, the keys if they are read, and for
    a list per parent the parent's number.
    """

    def __init__(
        self,
        query: KeysetQuery[RowT],
        projection: Projection,
        build: "Callable[[str, _PageQuery[RowT]], AnySelect]",
    ) -> None:
        table = sa.inspect(query.entity).mapper.class_
        self.names = column_names(table, projection)
        self.order = query.order
        self.row_class = row_class_of(table)
        self.others = len(query.others)
        self.keys = len(query.order) if projection.keys else 0
        self.make = query.make
        self.statement = PreparedQuery(lambda dialect: build(dialect, self))

    def columns(self, query: KeysetQuery[RowT]) -> list[sa.Label[Any]]:
        """Return the columns of this query, or of another one made by the same function."""
        own = [getattr(query.entity, name) for name in self.names]
        order = [column for column, _ in query.order[: self.keys]]
        return [
            column.label(f"column_{index}")
            for index, column in enumerate((*own, *query.others, *order))
        ]

    def rows(
        self, tx: Transaction, raw_rows: Sequence[AnyRow], *, keyed: bool
    ) -> Sequence[tuple[Key, RowT]]:
        """Decode the driver's rows, each with its key, which is empty unless `keyed`."""
        # Any: without `make` the list's rows are those of the table, which RowT does not express.
        make_row: Callable[[AnyRow], Any] = row_maker(tx.dialect, self.row_class, self.names)
        make = self.make
        if make is None and not keyed:
            return list(zip(repeat(()), map(make_row, raw_rows)))
        own, last = len(self.names), len(self.names) + self.others
        decoders = self.statement.for_dialect(tx.dialect).decoders

        def decoded(raw: AnyRow, first: int, last: int) -> AnyRow:
            return tuple(
                decode(value) if decode else value
                for value, decode in zip(raw[first:last], decoders[first:last], strict=True)
            )

        return [
            (
                decoded(raw, last, last + self.keys) if keyed else (),
                make(make_row(raw), *decoded(raw, own, last)) if make else make_row(raw),
            )
            for raw in raw_rows
        ]


def read_page(
    tx: Transaction,
    query: KeysetQuery[RowT],
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
    lists: Sequence[BindValues] = ({},),
) -> KeysetPage[RowT]:
    """Read one page of a list, or of several lists merged: the parameters' values of each.

    Each list is read by its index; a database would sort all rows of a union.
    """
    projection = projection._replace(keys=projection.keys or len(lists) > 1)
    page_query = _list_query(query, projection, _shape_of(window))
    bounds = {"rows": window.limit + 1, **_bound_values(query.order, window)}
    parts = [
        raw_rows
        for values in lists
        if (raw_rows := tx.raw_rows(page_query.statement, {**bounds, **values}))
    ]
    keyed = projection.keys or len(parts) > 1
    rows = [row for part in parts for row in page_query.rows(tx, part, keyed=keyed)]
    if len(parts) > 1:
        # Sorting is stable, so by the last column first.
        for index, (_, descending) in reversed(tuple(enumerate(query.order))):
            rows.sort(key=lambda row: row[0][index], reverse=descending is not window.backward)
    return _page_of(rows, window)


def read_pages(
    tx: Transaction,
    make_query: Callable[[], KeysetQuery[RowT]],
    parents: Sequence[ParentT],
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
    **values: object,
) -> dict[ParentT, KeysetPage[RowT]]:
    """Read the same page of every parent's list in one statement, each list by its index.

    A parent is its key, a tuple if that has several parts. Every parent has a page, possibly empty.
    `values` are those of the query's own parameters.
    """
    if not parents:
        return {}
    keys = [parent if isinstance(parent, tuple) else (parent,) for parent in parents]
    page_query = _query_per_parent(
        make_query, tuple(map(type, keys[0])), projection, _shape_of(window)
    )
    raw_rows = tx.raw_rows(
        page_query.statement,
        {
            "rows": window.limit + 1,
            **key_table_values(tx.dialect.name, keys),
            **_bound_values(page_query.order, window),
            **values,
        },
    )
    rows: dict[ParentT, list[tuple[Key, RowT]]] = {parent: [] for parent in parents}
    keyed_rows = page_query.rows(tx, raw_rows, keyed=projection.keys)
    for raw, row in zip(raw_rows, keyed_rows, strict=True):
        rows[parents[int(raw[-1])]].append(row)
    return {parent: _page_of(own, window) for parent, own in rows.items()}


class _WindowShape(NamedTuple):
    """The direction and the bounds of a window, without their values."""

    backward: bool
    after: bool
    before: bool


def _shape_of(window: KeysetWindow) -> _WindowShape:
    return _WindowShape(window.backward, window.after is not None, window.before is not None)


ROW_LIMIT = sa.bindparam("rows", type_=sa.Integer)


@lru_cache(maxsize=256)
def _list_query(
    query: KeysetQuery[RowT], projection: Projection, shape: _WindowShape
) -> _PageQuery[RowT]:
    def build(_dialect: str, page_query: _PageQuery[RowT]) -> AnySelect:
        return (
            sa.select(*page_query.columns(query))
            .where(*query.where, *_bound_conditions(query, shape))
            .order_by(*sql_order(query.order, shape.backward))
            .limit(opaque_limit(ROW_LIMIT))
        )

    return _PageQuery(query, projection, build)


@lru_cache(maxsize=256)
def _query_per_parent(
    make_query: Callable[[], KeysetQuery[RowT]],
    types: tuple[type, ...],
    projection: Projection,
    shape: _WindowShape,
) -> _PageQuery[RowT]:
    def build(dialect: str, page_query: _PageQuery[RowT]) -> AnySelect:
        select = _lateral_join if dialect == "postgresql" else _correlated_seek
        return select(make_query, key_table(dialect, types), page_query, shape)

    return _PageQuery(make_query(), projection, build)


def _lateral_join(
    make_query: Callable[[], KeysetQuery[RowT]],
    parents: KeyTable,
    page_query: _PageQuery[RowT],
    shape: _WindowShape,
) -> AnySelect:
    """Join each parent to a subquery with a LIMIT of its own (PostgreSQL).

    This forces an index seek per parent without table statistics too. As one join over all parents,
    a page was seen to read millions of rows of tables that had not been analysed yet.
    """
    query = make_query()
    columns = page_query.columns(query)
    rows = (
        sa.select(
            *columns,
            *(column.label(f"order_{index}") for index, (column, _) in enumerate(query.order)),
        )
        .where(*query.where, query.is_in_list_of(parents), *_bound_conditions(query, shape))
        .order_by(*sql_order(query.order, shape.backward))
        .limit(opaque_limit(ROW_LIMIT))
        .correlate(parents.rows)
        .lateral()
    )
    order = tuple(
        OrderBy(rows.c[f"order_{index}"], descending)
        for index, (_, descending) in enumerate(query.order)
    )
    return (
        sa.select(*(rows.c[column.name] for column in columns), parents.number)
        .select_from(sa.join(parents.rows, rows, sa.true()))
        .order_by(parents.number, *sql_order(order, shape.backward))
    )


def _correlated_seek(
    make_query: Callable[[], KeysetQuery[RowT]],
    parents: KeyTable,
    page_query: _PageQuery[RowT],
    shape: _WindowShape,
) -> AnySelect:
    """Select rows whose key is in a correlated subquery with a LIMIT (SQLite, without LATERAL).

    A window function over all rows of all parents was measured twenty times slower.
    """
    inner, outer = make_query(), make_query()
    keys = (
        sa.select(*inner.primary_key)
        .where(*inner.where, inner.is_in_list_of(parents), *_bound_conditions(inner, shape))
        .order_by(*sql_order(inner.order, shape.backward))
        .limit(ROW_LIMIT)
        .correlate(parents.rows)
    )
    return (
        sa.select(*page_query.columns(outer), parents.number)
        .select_from(
            sa.join(
                parents.rows, sa.inspect(outer.key_entity or outer.entity).selectable, sa.true()
            )
        )
        .where(*outer.where, sa.tuple_(*outer.primary_key).in_(keys))
        .order_by(parents.number, *sql_order(outer.order, shape.backward))
    )


def sql_order(order: Order, backward: bool = False) -> list[AnyColumn]:
    """Return the order as SQL, reversed if `backward`."""
    return [
        column.desc() if descending is not backward else column.asc()
        for column, descending in order
    ]


def _bound_conditions(
    query: KeysetQuery[RowT], shape: _WindowShape
) -> Iterator[sa.ColumnElement[bool]]:
    order = query.order
    reversed_order = tuple(OrderBy(column, not descending) for column, descending in order)
    if shape.after:
        yield _beyond(order, "after", query.contiguous_index)
    if shape.before:
        yield _beyond(reversed_order, "before", query.contiguous_index)


def _beyond(order: Order, bound: str, contiguous_index: bool) -> sa.ColumnElement[bool]:
    """Return the condition that a row is strictly beyond the bound in the given order.

    A comparison of tuples seeks to the bound if an index has the columns next to each other and all
    in one direction. For any other index the outer comparison repeats part of the inner ones, and
    the index seeks to that part.
    """
    last = len(order) - 1
    values = [
        sa.bindparam(f"{bound}_{last - index}", type_=type_of(column))
        for index, (column, _) in enumerate(order)
    ]
    (column, descending), value, rest = order[0], values[0], order[1:]
    if contiguous_index and all(other is descending for _, other in rest):
        key, bound_key = sa.tuple_(*(column for column, _ in order)), sa.tuple_(*values)
        return key < bound_key if descending else key > bound_key
    beyond = column < value if descending else column > value
    if not rest:
        return beyond
    at_or_beyond = column <= value if descending else column >= value
    return sa.and_(at_or_beyond, sa.or_(beyond, _beyond(rest, bound, contiguous_index)))


def _bound_values(order: Order, window: KeysetWindow) -> dict[str, object]:
    last = len(order) - 1
    return {
        f"{bound}_{last - index}": value
        for bound, key in (("after", window.after), ("before", window.before))
        for index, value in enumerate(key or ())
    }


def _page_of(rows: list[tuple[Key, RowT]], window: KeysetWindow) -> KeysetPage[RowT]:
    """Make a page of up to `limit` + 1 rows: the extra one proves that there are more."""
    has_more = len(rows) > window.limit
    rows = rows[: window.limit]
    if window.backward:
        return KeysetPage(rows[::-1], has_next=window.before is not None, has_previous=has_more)
    return KeysetPage(rows, has_next=has_more, has_previous=window.after is not None)
