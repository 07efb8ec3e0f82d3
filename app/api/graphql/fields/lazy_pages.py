"""What connections resolve to: pages that are read when asked for, and rows in their places."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from app.api.graphql.cursors import Cursors
from app.storage.sql.keyset import Key, KeysetPage


class PositionedRow(NamedTuple):
    """A row of a page, where it stands in the list, and whose cursors tell that: what an edge
    resolves from."""

    cursors: Cursors
    key: Key
    row: Any

    @property
    def cursor(self) -> str:
        """Where it stands, for clients."""
        return self.cursors.encode(self.key)


class PositionedPage(NamedTuple):
    """A page of rows that were read, and whose cursors tell where it lies."""

    cursors: Cursors
    page: KeysetPage[Any]

    @property
    def edges(self) -> list[PositionedRow]:
        """Its rows with where they stand."""
        return [PositionedRow(self.cursors, key, row) for key, row in self.page.rows]

    @property
    def nodes(self) -> list[Any]:
        """Its rows."""
        return [row for _, row in self.page.rows]

    @property
    def start_cursor(self) -> str | None:
        """Where its first row stands."""
        return self.cursors.encode(self.page.rows[0][0]) if self.page.rows else None

    @property
    def end_cursor(self) -> str | None:
        """Where its last row stands."""
        return self.cursors.encode(self.page.rows[-1][0]) if self.page.rows else None


class LazyPage:
    """A page and a count, each read when first asked for."""

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
        """The page, read once however often it is asked for."""
        if self._page is None:
            self._page = asyncio.ensure_future(self._read_page())
        return PositionedPage(self._cursors, await self._page)
