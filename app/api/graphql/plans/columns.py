"""How each kind of read gives a column: the values of one field for all rows of a level."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from graphql.execution.values import VariableValues

from app.api.graphql.fields.declarations import (
    AttributeField,
    ConnectionField,
    CountField,
    ExpressionField,
    FieldSource,
    ListingField,
    MutationField,
    PageField,
    QueryField,
    ReferenceField,
    RelationField,
)
from app.api.graphql.fields.lazy_pages import PositionedPage
from app.api.graphql.plans.plan import (
    Column,
    ColumnValues,
    EncodedColumn,
    ReadContext,
    Rows,
    Unplanned,
)
from app.storage.sql.keyset import KeysetPage

Arguments = Callable[[VariableValues], Mapping[str, Any]]
"""A field's arguments as its declaration takes them."""

NOTHING_TOLD: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Connected:
    """What a connection tells of: as much of it as was asked for."""

    page: PositionedPage
    count: int


def column_of(read: FieldSource, arguments: Arguments, *, paged: bool, counted: bool) -> Column:
    """The column of a field that is read so; of a connection, whether its page and its count are
    asked for. Raises Unplanned where there is none."""
    match read:
        case AttributeField():
            return _attribute(read)
        case ExpressionField(value=value):
            return _expression(value, arguments)
        case PageField(value=of_page):
            return lambda _, rows: [of_page(row.page) for row in rows]
        case CountField():
            return lambda _, rows: [row.count for row in rows]
        case RelationField():
            return _relation(read, arguments)
        case ConnectionField():
            return _pages(read, arguments, paged=paged, counted=counted)
        case ListingField():
            return _listed(read, arguments, paged=paged, counted=counted)
        case QueryField():
            return _reading(read, arguments)
        case MutationField() | ReferenceField():
            raise Unplanned


def _attribute(read: AttributeField) -> Column:
    name, of, made = read.name, read.of, read.made
    value = attrgetter(name)

    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        if of is not None:
            rows = run.within(rows, of)
        if len({*map(type, rows)}) == 1:
            tell = getattr(rows[0], "told", NOTHING_TOLD).get(name)
            if tell is not None:
                return EncodedColumn(tell(rows))
        return [made(value(row)) for row in rows] if made else [*map(value, rows)]

    return column


def _expression(value: Callable[..., Any], arguments: Arguments) -> Column:
    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        given = arguments(run.variables)
        return [value(row, **given) for row in rows] if given else [*map(value, rows)]

    return column


def _relation(read: RelationField, arguments: Arguments) -> Column:
    load, key, value = (read.batch, ()), read.key, read.value

    def column(run: ReadContext, rows: Rows) -> Callable[[], ColumnValues]:
        given = arguments(run.variables)
        keys = [key(row, **given) for row in rows]
        run.ask(load, keys)
        return lambda: [None if found is None else value(found) for found in run.found(load, keys)]

    return column


def _pages(read: ConnectionField, arguments: Arguments, *, paged: bool, counted: bool) -> Column:
    cursors, key = read.cursors, read.key
    counts = read.counts, ()

    def column(run: ReadContext, rows: Rows) -> Callable[[], ColumnValues]:
        keys: list[Hashable] = [key(row) for row in rows]
        pages = read.pages, (_window(read, arguments(run.variables)),)
        if paged:
            run.ask(pages, keys)
        if counted:
            run.ask(counts, keys)

        def connected() -> ColumnValues:
            nothing = [None] * len(keys)
            return [
                Connected(PositionedPage(cursors, page or KeysetPage()), count or 0)
                for page, count in zip(
                    run.found(pages, keys) if paged else nothing,
                    run.found(counts, keys) if counted else nothing,
                    strict=True,
                )
            ]

        return connected

    return column


def _window(read: ConnectionField, given: Mapping[str, Any]) -> Any:
    return read.cursors.window(*map(given.get, ("first", "after", "last", "before")))


def _listed(read: ListingField, arguments: Arguments, *, paged: bool, counted: bool) -> Column:
    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        asked = read.asked(None, **arguments(run.variables))
        store = run.caller.store
        page: KeysetPage[Any] = KeysetPage()
        if paged:
            wanted = run.wanted[read.page]
            page = read.page(run.session, store, *asked.filter, *asked.order, asked.window, wanted)
        count = read.count(run.session, store, *asked.filter) if counted else 0
        return [Connected(PositionedPage(read.cursors, page), count)] * len(rows)

    return column


def _reading(read: QueryField, arguments: Arguments) -> Column:
    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        reads = read.reads(None, **arguments(run.variables))
        return [reads(run.session, run.caller)] * len(rows)

    return column
