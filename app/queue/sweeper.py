"""Background deletion of rows that are no longer visible, in chunks.

The sweeper decides when to delete. Storage decides which rows of deleted hierarchies and nodes go
(`purge_discarded`, `purge_deleted`), services which imports are dead and which events have expired.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from app.services import imports, retention
from app.storage import hierarchies, subtrees
from app.storage.engine.database import Database, DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)

CHUNK_ROWS = 5_000
"""Rows per chunk, for the same reason as in a copy: a chunk delays urgent writes."""

CHUNK_ASSOCIATIONS = 1_000
"""Associations of deleted nodes per chunk: each is looked up by key, in both directions."""

CHUNK_EVENTS = 500
"""Events per chunk: each may delete a job too, and the store's lane is locked meanwhile."""


class Sweeper:
    """Deletes invisible and expired rows when woken, and every `every` seconds.

    These are the rows of deleted hierarchies and nodes, of failed copies and of dead imports, and
    jobs and events older than `retention` (None: keep forever).
    """

    def __init__(
        self, database: Database, retention: timedelta | None = None, every: float = 60
    ) -> None:
        self._database = database
        self._retention = retention
        self._every = every
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Sweep soon (a hint)."""
        self._woken.set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self.sweep()
            except (DatabaseUnavailable, StorageFull) as error:
                log.warning("sweeping failed: %s Retrying in %s s.", error, self._every)
            except Exception:
                log.exception("sweeping failed; retrying in %s s", self._every)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._woken.wait()

    async def sweep(self) -> None:
        """Delete everything that can be deleted now."""
        await self._database.write_cleanup(imports.abandon_idle)
        while await self._database.write_cleanup(hierarchies.purge_discarded, CHUNK_ROWS):
            pass
        while await self._database.write_cleanup(subtrees.purge_deleted, CHUNK_ASSOCIATIONS):
            pass
        if self._retention is not None:
            while await self._database.write_cleanup(
                retention.prune, self._retention, CHUNK_EVENTS
            ):
                pass
