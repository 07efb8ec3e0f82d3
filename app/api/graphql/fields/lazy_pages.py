"""Values of connections: pages that are read on first use, and rows with their cursors."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from app.api.graphql.cursors import Cursors
from app.api.graphql.fields.shared_reads import shared
from app.storage.sql.keyset import Key, KeysetPage

RowT = TypeVar("RowT")


class PositionedRow(NamedTuple, Generic[RowT]):
    """A row of a page with its key in the list; an edge resolves from it."""

    cursors: Cursors
    key: Key
    row: RowT

    @property
    def cursor(self) -> str:
        return self.cursors.encode(self.key)


class PositionedPage(NamedTuple, Generic[RowT]):
    """A page of rows with the cursors of its list."""

    cursors: Cursors
    page: KeysetPage[RowT]

    @property
    def edges(self) -> list[PositionedRow[RowT]]:
        return [PositionedRow(self.cursors, key, row) for key, row in self.page.rows]

    @property
    def nodes(self) -> list[RowT]:
        return [row for _, row in self.page.rows]

    @property
    def start_cursor(self) -> str | None:
        """The first row's cursor, None for an empty page."""
        return self.cursors.encode(self.page.rows[0][0]) if self.page.rows else None

    @property
    def end_cursor(self) -> str | None:
        """The last row's cursor, None for an empty page."""
        return self.cursors.encode(self.page.rows[-1][0]) if self.page.rows else None


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """Page and length of a connection's list in a plan. What is not selected is empty or 0."""

    page: PositionedPage[Any]
    count: int


class LazyPage(Generic[RowT]):
    """A page and a count, each read on first use."""

    def __init__(
        self,
        cursors: Cursors,
        page: Callable[[], Awaitable[KeysetPage[RowT]]],
        count: Callable[[], Awaitable[int]],
    ) -> None:
        self.count = count
        self._cursors = cursors
        self._read_page = page
        self._page: asyncio.Future[KeysetPage[RowT]] | None = None

    async def page(self) -> PositionedPage[RowT]:
        """Return the page, read once for all fields of the connection."""
        if self._page is None:
            self._page = asyncio.ensure_future(self._read_page())
        return PositionedPage(self._cursors, await shared(self._page))
