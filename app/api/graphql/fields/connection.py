"""Fields that are a page of a list of their row, and the fields of such pages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.api.graphql.cursors import Cursors
from app.api.graphql.fields.lazy_pages import ConnectionResult, LazyPage, PositionedPage
from app.api.graphql.fields.loaders import BatchRead, KeyT, current_loaders
from app.api.graphql.fields.source import (
    AnyRead,
    BatchLoad,
    Column,
    ColumnValues,
    Declared,
    FieldSource,
    ReadContext,
    RequiredColumns,
    Rows,
    SelectedField,
    parameters_of,
    with_arguments,
)
from app.storage.sql.keyset import KeysetPage

RowT = TypeVar("RowT")


@dataclass(frozen=True)
class ConnectionField(FieldSource, Generic[KeyT, RowT]):
    """A page, and the length, of a list looked up by a key of the row. Empty without a key."""

    cursors: Cursors
    pages: BatchRead[KeyT, KeysetPage[RowT]]
    counts: BatchRead[KeyT, int]
    key: Callable[..., KeyT | None]
    columns: RequiredColumns
    projected: bool

    @property
    def projected_read(self) -> AnyRead | None:
        return self.pages if self.projected else None

    def resolver(self) -> Callable[..., object]:
        def resolve(root: object, **bounds: Any) -> LazyPage[RowT]:
            key, loaders = self.key(root), current_loaders.get()
            window = self.cursors.window(**bounds)

            async def read_page() -> KeysetPage[RowT]:
                page = None if key is None else await loaders.load(self.pages, key, window)
                return page or KeysetPage()

            async def read_count() -> int:
                return 0 if key is None else await loaders.load(self.counts, key) or 0

            return LazyPage(self.cursors, read_page, read_count)

        return with_arguments(resolve, parameters_of(self.cursors.window))

    def column(self, selected: SelectedField) -> Column:
        cursors, pages, key, arguments = self.cursors, self.pages, self.key, selected.arguments
        paged, counted = selects_page(selected), selects_count(selected)
        count_load = BatchLoad(self.counts)

        def column(run: ReadContext, rows: Rows) -> Callable[[], ColumnValues]:
            keys = [key(row) for row in rows]
            page_load = BatchLoad(pages, (cursors.window(**arguments(run.variables)),))
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

    def requires(self, selected: SelectedField) -> RequiredColumns:
        return self.columns


@dataclass(frozen=True)
class PageField(FieldSource):
    """A field of a connection computed from its page."""

    value: Callable[[PositionedPage[Any]], object]

    def resolver(self) -> Callable[..., object]:
        async def resolve(root: LazyPage[Any]) -> object:
            return self.value(await root.page())

        return resolve

    def column(self, selected: SelectedField) -> Column:
        value = self.value
        return lambda _, rows: [value(row.page) for row in rows]

    def requires(self, selected: SelectedField) -> RequiredColumns:
        return selected.required_below


class CountField(FieldSource):
    """The length of a connection's list."""

    def resolver(self) -> Callable[..., object]:
        async def resolve(root: LazyPage[Any]) -> object:
            return await root.count()

        return resolve

    def column(self, selected: SelectedField) -> Column:
        return lambda _, rows: [row.count for row in rows]


def connection(
    cursors: Cursors,
    pages: BatchRead[KeyT, KeysetPage[RowT]],
    counts: BatchRead[KeyT, int],
    key: Callable[..., KeyT | None],
    description: str,
    requires: RequiredColumns = None,
    *,
    projected: bool = False,
    type: object = None,
) -> Declared:
    """Declare a field that is a page of its row's list. A row without a key has an empty list.

    `projected`: `pages` reads a projection.
    """
    source = ConnectionField(cursors, pages, counts, key, requires, projected)
    return source.declare(description, type)


def page_field(value: Callable[[PositionedPage[Any]], object], description: str) -> Declared:
    """Declare a field of a connection that is computed from its page."""
    return PageField(value).declare(description)


def count_field(description: str) -> Declared:
    """Declare the field of a connection that is its list's length."""
    return CountField().declare(description)


def selects_page(selected: SelectedField) -> bool:
    """Return True if a connection's page is selected."""
    return any(isinstance(source, PageField) for source in selected.below)


def selects_count(selected: SelectedField) -> bool:
    """Return True if a connection's count is selected."""
    return any(isinstance(source, CountField) for source in selected.below)
