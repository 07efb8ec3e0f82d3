"""Pages of rows by key: of one list, or of every list of many parents in one statement."""

import operator
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlmodel import Session

from app.storage.dialects import dialect_of, key_table, key_values

Row = TypeVar("Row")
Made = TypeVar("Made")
Parent = TypeVar("Parent", bound=Hashable)
Key = tuple[Any, ...]
"""A row's values in the columns its list is ordered by: where it stands, whatever comes or goes."""


class OrderBy(NamedTuple):
    """One column of a list's order; Any, because SQLModel types columns as their values."""

    column: Any
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a list that is asked for: up to `limit` rows between two keys, both exclusive,
    counted from the end when `backward`."""

    limit: int
    after: Key | None = None
    before: Key | None = None
    backward: bool = False


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


@dataclass(frozen=True)
class Listing:
    """A list as SQL: the entities that make a row, the conditions that join and choose them, and
    their order, which ends in columns that are unique within one list.

    Where every parent has such a list, `spine` is the entity with one row for each row of the
    list, and `belongs` tells whose a row is, given the parts of a parent's key. Such a listing is
    made anew by a function for each use, because one statement holds it twice, under two names.
    """

    entities: tuple[Any, ...]
    where: tuple[Any, ...]
    order: tuple[OrderBy, ...]
    spine: Any = None
    belongs: Callable[..., Any] | None = None


def page(session: Session, listing: Listing, window: Window) -> Page[Any]:
    """One page of one list."""
    statement = (
        sa.select(*listing.entities, *(column for column, _ in listing.order))
        .where(*listing.where, *_between(listing.order, window))
        .order_by(*_sql_order(listing.order, window.backward))
        .limit(window.limit + 1)
    )
    bounds = _bounds(listing.order, window)
    found = [_keyed(row, len(listing.order)) for row in session.execute(statement, bounds)]
    return _as_page(found, window)


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
) -> tuple[sa.Select[Any], tuple[OrderBy, ...]]:
    """Each parent's rows are sought by a subquery with a LIMIT of its own: a window function
    over all rows of all parents was measured twenty times slower.

    PostgreSQL seeks by such a subquery only where it is joined; SQLite joins none, but seeks.
    """
    inner, outer = listing(), listing()
    assert inner.belongs is not None
    window = Window(0, after=() if after else None, before=() if before else None)
    parents = key_table(dialect, types)
    wanted = (
        sa.select(*_identity(inner.spine))
        .where(*inner.where, inner.belongs(*parents.parts), *_between(inner.order, window))
        .order_by(*_sql_order(inner.order, backward))
        .limit(sa.bindparam("rows", type_=sa.Integer))
        .correlate(parents.rows)
    )
    spine, identity = sa.inspect(outer.spine).selectable, _identity(outer.spine)
    if dialect == "postgresql":
        found = wanted.lateral()
        joined = sa.join(parents.rows, found, sa.true())
        rows = sa.join(joined, spine, sa.and_(*map(operator.eq, identity, found.c)))
        chosen = outer.where
    else:
        rows = sa.join(parents.rows, spine, sa.true())
        chosen = (*outer.where, sa.tuple_(*identity).in_(wanted))
    statement = (
        sa.select(parents.number, *outer.entities, *(column for column, _ in outer.order))
        .select_from(rows)
        .where(*chosen)
        .order_by(parents.number, *_sql_order(outer.order, backward))
    )
    return statement, outer.order


def _identity(spine: Any) -> list[Any]:
    return [getattr(spine, column.key) for column in sa.inspect(spine).mapper.primary_key]


def _sql_order(order: tuple[OrderBy, ...], backward: bool) -> list[sa.ColumnElement[Any]]:
    return [
        column.desc() if descending is not backward else column.asc()
        for column, descending in order
    ]


def _between(order: tuple[OrderBy, ...], window: Window) -> Iterator[Any]:
    if window.after is not None:
        yield _past(order, "after")
    if window.before is not None:
        yield _past(tuple(OrderBy(column, not down) for column, down in order), "before")


def _past(order: tuple[OrderBy, ...], bound: str) -> Any:
    """Strictly behind the bound in the given order. The outer comparison says again what the
    inner ones imply, so that an index can seek to it."""
    (column, descending), rest = order[0], order[1:]
    value = sa.bindparam(f"{bound}_{len(rest)}", type_=column.type)
    beyond = column < value if descending else column > value
    if not rest:
        return beyond
    reached = column <= value if descending else column >= value
    return sa.and_(reached, sa.or_(beyond, _past(rest, bound)))


def _bounds(order: tuple[OrderBy, ...], window: Window) -> dict[str, Any]:
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
