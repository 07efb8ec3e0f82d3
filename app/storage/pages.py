"""Pages of rows by key: of one list, or of every list of many parents in one statement."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session

from app.storage.dialects import KeyTable, dialect_of, key_table, key_values, unforeseen

Row = TypeVar("Row")
Made = TypeVar("Made")
Parent = TypeVar("Parent", bound=Hashable)
Key = tuple[Any, ...]
"""A row's values in the columns its list is ordered by: where it stands, whatever comes or goes."""


class OrderBy(NamedTuple):
    """One column of a list's order; Any, because SQLModel types columns as their values."""

    column: Any
    descending: bool = False


Order = tuple[OrderBy, ...]
"""Columns by which a list is ordered, the first one first."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a list that is asked for: up to `limit` rows between two keys, both exclusive,
    counted from the end when `backward`."""

    limit: int
    after: Key | None = None
    before: Key | None = None
    backward: bool = False

    def placed(self, key_of: Callable[[Any, str], Key]) -> "Window":
        """The same window with keys of rows, where its own are public ids. `key_of` is asked for
        each of them, with the name of its side."""
        return replace(
            self,
            after=self.after and key_of(self.after[0], "after"),
            before=self.before and key_of(self.before[0], "before"),
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows in the list's order with their keys, and whether there is more on either side."""

    rows: Sequence[tuple[Key, Row]] = ()
    has_next: bool = False
    has_previous: bool = False

    def map(self, made: Callable[[Row], Made]) -> "Page[Made]":
        """The same page of what `made` makes of each row."""
        rows = [(key, made(row)) for key, row in self.rows]
        return Page(rows, self.has_next, self.has_previous)

    def by_id(self) -> "Page[Row]":
        """The same page with the rows' public ids for keys: keys that number the rows of all stores
        tell how many the others have."""
        rows: Sequence[tuple[Key, Any]] = self.rows
        return Page([((row.id,), row) for _, row in rows], self.has_next, self.has_previous)


@dataclass(frozen=True)
class Listing:
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


Statement = tuple[sa.Select[Any], Order]
"""A statement and the order its bounds are of."""


def page(session: Session, listing: Listing, window: Window) -> Page[Any]:
    """One page of one list."""
    return _as_page(_read(session, listing, window), window)


def page_of_all(session: Session, listings: Sequence[Listing], window: Window) -> Page[Any]:
    """One page of several lists of the same order as if they were one, each read by its index:
    of all their rows together a database makes one list by sorting them."""
    found = [row for listing in listings for row in _read(session, listing, window)]
    order = listings[0].order if listings else ()
    # By the last column first: sorting keeps the order of what is equal.
    for place, (_, descending) in reversed(tuple(enumerate(order))):
        found.sort(key=lambda row: row[0][place], reverse=descending is not window.backward)
    return _as_page(found, window)


def _read(session: Session, listing: Listing, window: Window) -> list[tuple[Key, Any]]:
    """The rows of the window and one more, if there is one, beginning where it begins."""
    statement = (
        sa.select(*listing.entities, *(column for column, _ in listing.order))
        .where(*listing.where, *_between(listing, window))
        .order_by(*sql_order(listing.order, window.backward))
        .limit(unforeseen(window.limit + 1))
    )
    bounds = _bounds(listing.order, window)
    return [_keyed(row, len(listing.order)) for row in session.execute(statement, bounds)]


def pages(
    session: Session,
    listing: Callable[[], Listing],
    parents: Sequence[Parent],
    window: Window,
    **values: Any,
) -> dict[Parent, Page[Any]]:
    """The same page of the list of every parent, in one statement, each read by its index.

    A parent is its key, a tuple where that has several parts. Each has a page, an empty one where
    nothing is found. `values` are those of the parameters the listing itself has.
    """
    if not parents:
        return {}
    keys = [parent if isinstance(parent, tuple) else (parent,) for parent in parents]
    dialect = dialect_of(session)
    statement, order = _prepared(
        dialect,
        listing,
        tuple(map(type, keys[0])),
        window.backward,
        window.after is not None,
        window.before is not None,
    )
    found: dict[Parent, list[tuple[Key, Any]]] = {parent: [] for parent in parents}
    for number, *row in session.execute(
        statement,
        {
            "rows": window.limit + 1,
            **key_values(dialect, keys),
            **_bounds(order, window),
            **values,
        },
    ):
        found[parents[int(number)]].append(_keyed(row, len(order)))
    return {parent: _as_page(rows, window) for parent, rows in found.items()}


@lru_cache(maxsize=256)
def _prepared(
    dialect: str,
    listing: Callable[[], Listing],
    types: tuple[type, ...],
    backward: bool,
    after: bool,
    before: bool,
) -> Statement:
    parents = key_table(dialect, types)
    window = Window(0, after=() if after else None, before=() if before else None)
    said = _joined if dialect == "postgresql" else _sought
    return said(listing, parents, window, backward)


def _joined(
    listing: Callable[[], Listing], parents: KeyTable, window: Window, backward: bool
) -> Statement:
    """For PostgreSQL: each parent is joined to a subquery that has a LIMIT of its own, and so can
    be nothing but sought, whatever is known of the tables: as one join over all parents, a page was
    seen to read millions of rows of tables that had not been analysed yet."""
    of = listing()
    found = (
        sa.select(
            *(_named(entity, f"entity_{place}") for place, entity in enumerate(of.entities)),
            *(_named(column, f"order_{place}") for place, (column, _) in enumerate(of.order)),
        )
        .where(*of.where, of.belongs_to(parents), *_between(of, window))
        .order_by(*sql_order(of.order, backward))
        .limit(unforeseen(sa.bindparam("rows", type_=sa.Integer)))
        .correlate(parents.rows)
        .lateral()
    )
    entities = [
        aliased(sa.inspect(entity).mapper, found)
        if _is_mapped(entity)
        else found.c[f"entity_{place}"]
        for place, entity in enumerate(of.entities)
    ]
    order = tuple(
        OrderBy(found.c[f"order_{place}"], descending)
        for place, (_, descending) in enumerate(of.order)
    )
    statement = (
        sa.select(parents.number, *entities, *(column for column, _ in order))
        .select_from(sa.join(parents.rows, found, sa.true()))
        .order_by(parents.number, *sql_order(order, backward))
    )
    return statement, of.order


def _sought(
    listing: Callable[[], Listing], parents: KeyTable, window: Window, backward: bool
) -> Statement:
    """For SQLite, which joins no such subquery, but seeks by one: a window function over all rows
    of all parents was measured twenty times slower."""
    inner, outer = listing(), listing()
    wanted = (
        sa.select(*identity_of(inner.spine))
        .where(*inner.where, inner.belongs_to(parents), *_between(inner, window))
        .order_by(*sql_order(inner.order, backward))
        .limit(sa.bindparam("rows", type_=sa.Integer))
        .correlate(parents.rows)
    )
    identity = identity_of(outer.spine)
    statement = (
        sa.select(parents.number, *outer.entities, *(column for column, _ in outer.order))
        .select_from(sa.join(parents.rows, sa.inspect(outer.spine).selectable, sa.true()))
        .where(*outer.where, sa.tuple_(*identity).in_(wanted))
        .order_by(parents.number, *sql_order(outer.order, backward))
    )
    return statement, outer.order


def _is_mapped(entity: Any) -> bool:
    return hasattr(sa.inspect(entity), "mapper")


def _named(entity: Any, name: str) -> Any:
    return entity if _is_mapped(entity) else entity.label(name)


def identity_of(spine: Any) -> list[Any]:
    """The columns that tell the rows of an entity apart."""
    return [getattr(spine, column.key) for column in sa.inspect(spine).mapper.primary_key]


def sql_order(order: Order, backward: bool = False) -> list[sa.ColumnElement[Any]]:
    """The order as SQL, or its reverse."""
    return [
        column.desc() if descending is not backward else column.asc()
        for column, descending in order
    ]


def _between(listing: Listing, window: Window) -> Iterator[Any]:
    order = listing.order
    backward = tuple(OrderBy(column, not down) for column, down in order)
    if window.after is not None:
        yield _past(order, "after", listing.side_by_side)
    if window.before is not None:
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


def _bounds(order: Order, window: Window) -> dict[str, Any]:
    last = len(order) - 1
    return {
        f"{bound}_{last - place}": value
        for bound, key in (("after", window.after), ("before", window.before))
        for place, value in enumerate(key or ())
    }


def _keyed(row: Sequence[Any], width: int) -> tuple[Key, Any]:
    entities = row[:-width]
    return tuple(row[-width:]), entities[0] if len(entities) == 1 else tuple(entities)


def _as_page(found: list[tuple[Key, Any]], window: Window) -> Page[Any]:
    more = len(found) > window.limit
    rows = found[: window.limit]
    if window.backward:
        return Page(rows[::-1], has_next=window.before is not None, has_previous=more)
    return Page(rows, has_next=more, has_previous=window.after is not None)
