"""Pages of rows by key: of one list, or of every list of many parents in one statement."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlmodel import Session

from app.storage.sql.dialects import KeyTable, dialect_of, key_table, key_values, opaque_limit
from app.storage.sql.rows import ALL_COLUMNS, Projection, columns_of, row_of
from app.storage.sql.statements import CompiledStatement

RowT = TypeVar("RowT")
MappedT = TypeVar("MappedT")
ParentT = TypeVar("ParentT", bound=Hashable)
Key = tuple[Any, ...]
"""A row's values in the columns its list is ordered by: where it stands, whatever comes or goes."""


class OrderBy(NamedTuple):
    """One column of a list's order; Any, because SQLModel types columns as their values."""

    column: Any
    descending: bool = False


Order = tuple[OrderBy, ...]
"""Columns by which a list is ordered, the first one first."""


@dataclass(frozen=True, slots=True)
class KeysetWindow:
    """The part of a list that is asked for: up to `limit` rows between two keys, both exclusive,
    counted from the end when `backward`."""

    limit: int
    after: Key | None = None
    before: Key | None = None
    backward: bool = False

    def placed(self, key_of: Callable[[Any, str], Key]) -> "KeysetWindow":
        """The same window with keys of rows, where its own are public ids. `key_of` is asked for
        each of them, with the name of its side."""
        return replace(
            self,
            after=self.after and key_of(self.after[0], "after"),
            before=self.before and key_of(self.before[0], "before"),
        )


@dataclass(frozen=True, slots=True)
class KeysetPage(Generic[RowT]):
    """Rows in the list's order with their keys, and whether there is more on either side."""

    rows: Sequence[tuple[Key, RowT]] = ()
    has_next: bool = False
    has_previous: bool = False

    def map(self, made: Callable[[RowT], MappedT]) -> "KeysetPage[MappedT]":
        """The same page of what `made` makes of each row."""
        rows = [(key, made(row)) for key, row in self.rows]
        return KeysetPage(rows, self.has_next, self.has_previous)

    def by_id(self) -> "KeysetPage[RowT]":
        """The same page with the rows' public ids for keys: keys that number the rows of all stores
        tell how many the others have."""
        rows: Sequence[tuple[Key, Any]] = self.rows
        return KeysetPage([((row.id,), row) for _, row in rows], self.has_next, self.has_previous)


@dataclass(frozen=True, eq=False)
class KeysetQuery:
    """A list as SQL: the entities that make a row, the conditions that join and choose them, and
    their order, which ends in columns that are unique within one list.

    Where every parent has such a list, `spine` is the entity with one row for each row of the
    list, and `belongs` tells whose a row is, given the parts of a parent's key. Such a listing is
    made anew by a function for each use, because a statement may hold it twice, under two names.
    """

    entities: tuple[Any, ...]
    where: tuple[Any, ...]
    order: Order
    spine: Any = None
    belongs: Callable[..., Any] | None = None
    side_by_side: bool = True
    """Whether the index that has the rows in this order has its columns with none in between."""

    def belongs_to(self, parents: KeyTable) -> Any:
        """Whether a row is in the list of a parent."""
        assert self.belongs is not None
        return self.belongs(*parents.parts)


class _PageQuery:
    """A statement that reads rows of a list, and what makes rows and their keys of what it finds.

    First come the columns of the rows, then those of the keys, if they are wanted, then others.
    """

    def __init__(
        self, listing: KeysetQuery, wanted: Projection, write: Callable[[str, "_PageQuery"], Any]
    ) -> None:
        entity, *others = listing.entities
        mapper = sa.inspect(entity).mapper
        self.names = columns_of(mapper.class_, wanted)
        self.order = listing.order
        self.table = mapper.class_
        self.others = len(others)
        self.keys = len(listing.order) if wanted.keys else 0
        self.statement = CompiledStatement(lambda dialect: write(dialect, self))

    def columns(self, listing: KeysetQuery) -> list[Any]:
        """The columns it reads of this listing, or of another one made by the same function."""
        entity, *others = listing.entities
        own = [getattr(entity, name) for name in self.names]
        order = [column for column, _ in listing.order[: self.keys]]
        return [
            column.label(f"column_{place}") for place, column in enumerate((*own, *others, *order))
        ]

    def found(self, session: Session, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        """What is found, as the driver gives it."""
        return self.statement.rows(session, values)

    def rows(
        self, session: Session, found: Sequence[tuple[Any, ...]], *, keyed: bool
    ) -> Sequence[tuple[Key, Any]]:
        """The rows of what was found, each behind its key where it is to have one."""
        made = row_of(session, self.table, self.names)
        if not (self.others or keyed):
            return list(zip(repeat(()), map(made, found)))
        own, last = len(self.names), len(self.names) + self.others
        processors = self.statement.processors(session)

        def decoded(raw: tuple[Any, ...], first: int, last: int) -> tuple[Any, ...]:
            return tuple(
                process(value) if process else value
                for value, process in zip(raw[first:last], processors[first:last], strict=True)
            )

        return [
            (
                decoded(raw, last, last + self.keys) if keyed else (),
                (made(raw), *decoded(raw, own, last)) if self.others else made(raw),
            )
            for raw in found
        ]


def page(
    session: Session,
    listing: KeysetQuery,
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
    lists: Sequence[Mapping[str, Any]] = ({},),
) -> KeysetPage[Any]:
    """One page of the list that has these values for parameters.

    Of several lists it is a page of all as if they were one, each read by its index: of all their
    rows together a database makes one list by sorting them.
    """
    reading = _of_one(listing, wanted._replace(keys=wanted.keys or len(lists) > 1), _sides(window))
    bounds = {"rows": window.limit + 1, **_bounds(listing.order, window)}
    found = [some for of in lists if (some := reading.found(session, {**bounds, **of}))]
    keyed = wanted.keys or len(found) > 1
    rows = [row for some in found for row in reading.rows(session, some, keyed=keyed)]
    if len(found) > 1:
        # By the last column first: sorting keeps the order of what is equal.
        for place, (_, descending) in reversed(tuple(enumerate(listing.order))):
            rows.sort(key=lambda row: row[0][place], reverse=descending is not window.backward)
    return _as_page(rows, window)


def pages(
    session: Session,
    listing: Callable[[], KeysetQuery],
    parents: Sequence[ParentT],
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
    **values: Any,
) -> dict[ParentT, KeysetPage[Any]]:
    """The same page of the list of every parent, in one statement, each read by its index.

    A parent is its key, a tuple where that has several parts. Each has a page, an empty one where
    nothing is found. `values` are those of the parameters the listing itself has.
    """
    if not parents:
        return {}
    keys = [parent if isinstance(parent, tuple) else (parent,) for parent in parents]
    reading = _of_each(listing, tuple(map(type, keys[0])), wanted, _sides(window))
    found = reading.found(
        session,
        {
            "rows": window.limit + 1,
            **key_values(dialect_of(session), keys),
            **_bounds(reading.order, window),
            **values,
        },
    )
    rows: dict[ParentT, list[tuple[Key, Any]]] = {parent: [] for parent in parents}
    for raw, row in zip(found, reading.rows(session, found, keyed=wanted.keys), strict=True):
        rows[parents[int(raw[-1])]].append(row)
    return {parent: _as_page(some, window) for parent, some in rows.items()}


class _Sides(NamedTuple):
    """Which bounds a window has, and from which end it counts: what its statement depends on."""

    backward: bool
    after: bool
    before: bool


def _sides(window: KeysetWindow) -> _Sides:
    return _Sides(window.backward, window.after is not None, window.before is not None)


ROWS = sa.bindparam("rows", type_=sa.Integer)


@lru_cache(maxsize=256)
def _of_one(listing: KeysetQuery, wanted: Projection, sides: _Sides) -> _PageQuery:
    def write(_dialect: str, reading: _PageQuery) -> sa.Select[Any]:
        return (
            sa.select(*reading.columns(listing))
            .where(*listing.where, *_between(listing, sides))
            .order_by(*sql_order(listing.order, sides.backward))
            .limit(opaque_limit(ROWS))
        )

    return _PageQuery(listing, wanted, write)


@lru_cache(maxsize=256)
def _of_each(
    listing: Callable[[], KeysetQuery], types: tuple[type, ...], wanted: Projection, sides: _Sides
) -> _PageQuery:
    def write(dialect: str, reading: _PageQuery) -> sa.Select[Any]:
        said = _joined if dialect == "postgresql" else _sought
        return said(listing, key_table(dialect, types), reading, sides)

    return _PageQuery(listing(), wanted, write)


def _joined(
    listing: Callable[[], KeysetQuery], parents: KeyTable, reading: _PageQuery, sides: _Sides
) -> sa.Select[Any]:
    """For PostgreSQL: each parent is joined to a subquery that has a LIMIT of its own, and so can
    be nothing but sought, whatever is known of the tables: as one join over all parents, a page was
    seen to read millions of rows of tables that had not been analysed yet."""
    of = listing()
    columns = reading.columns(of)
    found = (
        sa.select(
            *columns,
            *(column.label(f"order_{place}") for place, (column, _) in enumerate(of.order)),
        )
        .where(*of.where, of.belongs_to(parents), *_between(of, sides))
        .order_by(*sql_order(of.order, sides.backward))
        .limit(opaque_limit(ROWS))
        .correlate(parents.rows)
        .lateral()
    )
    order = tuple(
        OrderBy(found.c[f"order_{place}"], descending)
        for place, (_, descending) in enumerate(of.order)
    )
    return (
        sa.select(*(found.c[column.name] for column in columns), parents.number)
        .select_from(sa.join(parents.rows, found, sa.true()))
        .order_by(parents.number, *sql_order(order, sides.backward))
    )


def _sought(
    listing: Callable[[], KeysetQuery], parents: KeyTable, reading: _PageQuery, sides: _Sides
) -> sa.Select[Any]:
    """For SQLite, which joins no such subquery, but seeks by one: a window function over all rows
    of all parents was measured twenty times slower."""
    inner, outer = listing(), listing()
    wanted = (
        sa.select(*identity_of(inner.spine))
        .where(*inner.where, inner.belongs_to(parents), *_between(inner, sides))
        .order_by(*sql_order(inner.order, sides.backward))
        .limit(ROWS)
        .correlate(parents.rows)
    )
    identity = identity_of(outer.spine)
    return (
        sa.select(*reading.columns(outer), parents.number)
        .select_from(sa.join(parents.rows, sa.inspect(outer.spine).selectable, sa.true()))
        .where(*outer.where, sa.tuple_(*identity).in_(wanted))
        .order_by(parents.number, *sql_order(outer.order, sides.backward))
    )


def identity_of(spine: Any) -> list[Any]:
    """The columns that tell the rows of an entity apart."""
    return [getattr(spine, column.key) for column in sa.inspect(spine).mapper.primary_key]


def sql_order(order: Order, backward: bool = False) -> list[sa.ColumnElement[Any]]:
    """The order as SQL, or its reverse."""
    return [
        column.desc() if descending is not backward else column.asc()
        for column, descending in order
    ]


def _between(listing: KeysetQuery, sides: _Sides) -> Iterator[Any]:
    order = listing.order
    backward = tuple(OrderBy(column, not down) for column, down in order)
    if sides.after:
        yield _past(order, "after", listing.side_by_side)
    if sides.before:
        yield _past(backward, "before", listing.side_by_side)


def _past(order: Order, bound: str, side_by_side: bool) -> Any:
    """Strictly behind the bound in the given order. An index that has the columns side by side, all
    in one direction, seeks to all of it; another one to as much of it as the outer comparison says
    again of the inner ones."""
    last = len(order) - 1
    values = [
        sa.bindparam(f"{bound}_{last - place}", type_=column.type)
        for place, (column, _) in enumerate(order)
    ]
    (column, descending), value, rest = order[0], values[0], order[1:]
    if side_by_side and all(down is descending for _, down in rest):
        here, there = sa.tuple_(*(column for column, _ in order)), sa.tuple_(*values)
        return here < there if descending else here > there
    beyond = column < value if descending else column > value
    if not rest:
        return beyond
    reached = column <= value if descending else column >= value
    return sa.and_(reached, sa.or_(beyond, _past(rest, bound, side_by_side)))


def _bounds(order: Order, window: KeysetWindow) -> dict[str, Any]:
    last = len(order) - 1
    return {
        f"{bound}_{last - place}": value
        for bound, key in (("after", window.after), ("before", window.before))
        for place, value in enumerate(key or ())
    }


def _as_page(found: list[tuple[Key, Any]], window: KeysetWindow) -> KeysetPage[Any]:
    more = len(found) > window.limit
    rows = found[: window.limit]
    if window.backward:
        return KeysetPage(rows[::-1], has_next=window.before is not None, has_previous=more)
    return KeysetPage(rows, has_next=more, has_previous=window.after is not None)
