"""Deletes what failed copies and dead imports have left, a chunk at a time."""

import asyncio
import logging
from contextlib import suppress

from app.services import imports
from app.storage import hierarchies
from app.storage.database import Database

log = logging.getLogger(__name__)

ROWS = 5_000
"""Rows a chunk, for the same reason as a copy's."""


class Sweeper:
    """Goes over the discarded hierarchies whenever it is woken, and once every `every` seconds."""

    def __init__(self, database: Database, every: float = 60) -> None:
        self._database = database
        self._every = every
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something to sweep."""
        self._woken.set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self.sweep()
            except Exception:
                log.exception("the sweep broke; it is tried again in %s s", self._every)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._woken.wait()

    async def sweep(self) -> None:
        """Delete all that is discarded by now."""
        await self._database.write_bulk(imports.discard_abandoned)
        while await self._database.write_bulk(hierarchies.sweep, ROWS):
            pass
