"""Deletes what nobody is to see any more, a chunk at a time."""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from app.services import imports, retention
from app.storage import hierarchies, subtrees
from app.storage.engine.database import Database, DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)

CHUNK_ROWS = 5_000
"""Rows a chunk, for the same reason as a copy's."""

CHUNK_ASSOCIATIONS = 1_000
"""Associations of deleted nodes a chunk: each is sought by its key, in both directions."""

CHUNK_EVENTS = 500
"""Events a chunk: each may take a job with it, and the store's lane is locked meanwhile."""


class Sweeper:
    """Deletes the rows of what was deleted, what failed copies and dead imports have left, and what
    is over for longer than it is kept (None: for ever), whenever it is woken, and once every
    `every` seconds."""

    def __init__(
        self, database: Database, keep: timedelta | None = None, every: float = 60
    ) -> None:
        self._database = database
        self._keep = keep
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
            except (DatabaseUnavailable, StorageFull) as error:
                log.warning("not swept: %s It is tried again in %s s.", error, self._every)
            except Exception:
                log.exception("the sweep broke; it is tried again in %s s", self._every)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._woken.wait()

    async def sweep(self) -> None:
        """Delete all that is to be deleted by now."""
        await self._database.write_freeing(imports.abandon_idle)
        while await self._database.write_freeing(hierarchies.purge_discarded, CHUNK_ROWS):
            pass
        while await self._database.write_freeing(subtrees.purge_deleted, CHUNK_ASSOCIATIONS):
            pass
        if self._keep is not None:
            while await self._database.write_freeing(retention.prune, self._keep, CHUNK_EVENTS):
                pass
