"""Columns: the values of one field for all rows of a level, by the field's source."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from graphql import VariableValues

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
from app.api.graphql.plans.encoders import encoders_of
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
"""Converts variables to a field's keyword arguments."""


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """Page and length of a connection's list. What is not selected is empty or 0."""

    page: PositionedPage
    count: int


def column_of(source: FieldSource, arguments: Arguments, *, paged: bool, counted: bool) -> Column:
    """Return the column of a field. Raises Unplanned if its source has none.

    `paged` and `counted`: whether a connection's page and count are selected.
    """
    match source:
        case AttributeField():
            return _attribute(source)
        case ExpressionField(value=value):
            return _expression(value, arguments)
        case PageField(value=of_page):
            return lambda _, rows: [of_page(row.page) for row in rows]
        case CountField():
            return lambda _, rows: [row.count for row in rows]
        case RelationField():
            return _relation(source, arguments)
        case ConnectionField():
            return _connection(source, arguments, paged=paged, counted=counted)
        case ListingField():
            return _listing(source, arguments, paged=paged, counted=counted)
        case QueryField():
            return _query(source, arguments)
        case MutationField() | ReferenceField():
            raise Unplanned


def _attribute(source: AttributeField) -> Column:
    name, owner, convert = source.name, source.owner, source.convert
    value, encoders = attrgetter(name), encoders_of(name)

    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        if owner is not None:
            rows = run.owners(rows, owner)
        if len({*map(type, rows)}) == 1:
            encode = encoders[type(rows[0])]
            if encode is not None:
                return EncodedColumn(encode(rows))
        return [convert(value(row)) for row in rows] if convert else [*map(value, rows)]

    return column


def _expression(value: Callable[..., Any], arguments: Arguments) -> Column:
    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        values = arguments(run.variables)
        return [value(row, **values) for row in rows] if values else [*map(value, rows)]

    return column


def _relation(source: RelationField, arguments: Arguments) -> Column:
    load, key, value = (source.batch, ()), source.key, source.value

    def column(run: ReadContext, rows: Rows) -> Callable[[], ColumnValues]:
        values = arguments(run.variables)
        keys = [key(row, **values) for row in rows]
        run.request(load, keys)
        return lambda: [
            None if related is None else value(related) for related in run.loaded(load, keys)
        ]

    return column


def _connection(
    source: ConnectionField, arguments: Arguments, *, paged: bool, counted: bool
) -> Column:
    cursors, key = source.cursors, source.key
    count_load = source.counts, ()

    def column(run: ReadContext, rows: Rows) -> Callable[[], ColumnValues]:
        keys: list[Hashable] = [key(row) for row in rows]
        page_load = source.pages, (source.cursors.window(**arguments(run.variables)),)
        if paged:
            run.request(page_load, keys)
        if counted:
            run.request(count_load, keys)

        def results() -> ColumnValues:
            unselected = [None] * len(keys)
            return [
                ConnectionResult(PositionedPage(cursors, page or KeysetPage()), count or 0)
                for page, count in zip(
                    run.loaded(page_load, keys) if paged else unselected,
                    run.loaded(count_load, keys) if counted else unselected,
                    strict=True,
                )
            ]

        return results

    return column


def _listing(source: ListingField, arguments: Arguments, *, paged: bool, counted: bool) -> Column:
    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        query = source.query(None, **arguments(run.variables))
        store = run.caller.store
        page: KeysetPage[Any] = KeysetPage()
        if paged:
            page = source.page(
                run.tx,
                store,
                *query.filter,
                *query.order,
                query.window,
                run.projections[source.page],
            )
        count = source.count(run.tx, store, *query.filter) if counted else 0
        return [ConnectionResult(PositionedPage(source.cursors, page), count)] * len(rows)

    return column


def _query(source: QueryField, arguments: Arguments) -> Column:
    def column(run: ReadContext, rows: Rows) -> ColumnValues:
        read = source.read_for(None, **arguments(run.variables))
        return [read(run.tx, run.caller)] * len(rows)

    return column
