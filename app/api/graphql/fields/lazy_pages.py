"""Values of connections: pages that are read on first use, and rows with their cursors."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from app.api.graphql.cursors import Cursors
from app.storage.sql.keyset import Key, KeysetPage


class PositionedRow(NamedTuple):
    """A row of a page with its key in the list; an edge resolves from it."""

    cursors: Cursors
    key: Key
    row: Any

    @property
    def cursor(self) -> str:
        return self.cursors.encode(self.key)


class PositionedPage(NamedTuple):
    """A page of rows with the cursors of its list."""

    cursors: Cursors
    page: KeysetPage[Any]

    @property
    def edges(self) -> list[PositionedRow]:
        return [PositionedRow(self.cursors, key, row) for key, row in self.page.rows]

    @property
    def nodes(self) -> list[Any]:
        return [row for _, row in self.page.rows]

    @property
    def start_cursor(self) -> str | None:
        """The first row's cursor, None for an empty page."""
        return self.cursors.encode(self.page.rows[0][0]) if self.page.rows else None

    @property
    def end_cursor(self) -> str | None:
        """The last row's cursor, None for an empty page."""
        return self.cursors.encode(self.page.rows[-1][0]) if self.page.rows else None


class LazyPage:
    """A page and a count, each read on first use."""

    def __init__(
        self,
        cursors: Cursors,
        page: Callable[[], Awaitable[KeysetPage[Any]]],
        count: Callable[[], Awaitable[int]],
    ) -> None:
        self.count = count
        self._cursors = cursors
        self._read_page = page
        self._page: asyncio.Future[KeysetPage[Any]] | None = None

    async def page(self) -> PositionedPage:
        """Return the page, read once for all fields of the connection."""
        if self._page is None:
            self._page = asyncio.ensure_future(self._read_page())
        return PositionedPage(self._cursors, await self._page)
