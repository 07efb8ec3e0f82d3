"""Fields that are a page of one of the store's lists."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Generic, TypeVar

from app.api.graphql.cursors import Cursors
from app.api.graphql.fields.connection import selects_count, selects_page
from app.api.graphql.fields.lazy_pages import ConnectionResult, LazyPage, PositionedPage
from app.api.graphql.fields.loaders import current_loaders
from app.api.graphql.fields.source import (
    FILTER_COST,
    Column,
    ColumnValues,
    Declared,
    FieldSource,
    ReadContext,
    Rows,
    SelectedField,
    parameters_of,
    with_arguments,
)
from app.storage.engine.transaction import Transaction
from app.storage.sql.keyset import KeysetPage
from app.storage.sql.rows import ALL_COLUMNS, Projection

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class ListQuery(Generic[RowT]):
    """The reads of a list with a filter, an order and a window, for a store."""

    page: Callable[[Transaction, str, Projection], KeysetPage[RowT]]
    count: Callable[[Transaction, str], int]


@dataclass(frozen=True)
class ListingField(FieldSource, Generic[RowT]):
    """A page, and the length, of one of the store's lists."""

    cursors: Cursors
    query: Callable[..., ListQuery[RowT]]
    """Returns the reads for a window and the field's other arguments."""

    def scan_cost(self, arguments: Collection[str]) -> int:
        return FILTER_COST if "filter" in arguments else 0

    def resolver(self) -> Callable[..., object]:
        def resolve(root: object, **arguments: object) -> LazyPage[RowT]:
            query, loaders = self._query_for(arguments), current_loaders.get()
            store = loaders.caller.store
            return LazyPage(
                self.cursors,
                lambda: loaders.read(query.page, store, ALL_COLUMNS),
                lambda: loaders.read(query.count, store),
            )

        _window, *own_parameters = parameters_of(self.query)
        return with_arguments(resolve, [*parameters_of(self.cursors.window), *own_parameters])

    def column(self, selected: SelectedField) -> Column:
        arguments, projection = selected.arguments, selected.projection
        paged, counted = selects_page(selected), selects_count(selected)

        def column(run: ReadContext, rows: Rows) -> ColumnValues:
            query, store = self._query_for(arguments(run.variables)), run.caller.store
            page: KeysetPage[RowT] = KeysetPage()
            if paged:
                page = query.page(run.tx, store, projection)
            count = query.count(run.tx, store) if counted else 0
            return [ConnectionResult(PositionedPage(self.cursors, page), count)] * len(rows)

        return column

    def _query_for(self, arguments: Mapping[str, Any]) -> ListQuery[RowT]:
        bounds = {name: arguments[name] for name in _BOUNDS if name in arguments}
        others = {name: arguments[name] for name in arguments if name not in _BOUNDS}
        return self.query(self.cursors.window(**bounds), **others)


_BOUNDS = frozenset(signature(Cursors.window).parameters)


def listing(cursors: Cursors, query: Callable[..., ListQuery[RowT]], description: str) -> Declared:
    """Declare a field that is a page of one of the store's lists.

    `query` receives the page's window and the field's other arguments, which it declares.
    """
    return ListingField(cursors, query).declare(description)
