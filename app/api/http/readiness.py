"""GET /readyz: readiness of the process, for load balancers."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.migrations import newest_revision, revision_in

PATIENCE_SECONDS = 2
"""Max time of the database's response."""

UNKNOWN = "Not known without the database."

UnhealthyReason = Callable[[], str | None]
"""Returns why a part cannot work, as a sentence; None if it can."""


class Readiness:
    """Checks the database, its migrations and the runner, per request.

    Concurrent requests share one check, and a check that hangs is not repeated, so that checks use
    one connection at most.
    """

    def __init__(self, database: Database, runner: UnhealthyReason | None) -> None:
        self._database = database
        self._runner = runner
        """None if the queue does not run in this process."""
        self._newest = newest_revision()
        self._checking: asyncio.Task[tuple[str | None, str | None]] | None = None

    async def show(self, _request: Request) -> Response:
        """Return the state of each part; 503 if one cannot work."""
        if self._checking is None:
            self._checking = asyncio.create_task(self._check())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                database, migrations = await asyncio.shield(self._checking)
        except TimeoutError:
            database = f"It did not respond within {PATIENCE_SECONDS} s."
            migrations = UNKNOWN
        parts = {"database": database, "migrations": migrations}
        if self._runner:
            parts["runner"] = self._runner()
        ready = not any(parts.values())
        states: dict[str, object] = {
            name: {"status": "unavailable", "reason": reason} if reason else {"status": "ok"}
            for name, reason in parts.items()
        }
        states.setdefault("runner", {"status": "not here"})
        if reason := self._database.polling_reason:
            # The process works, up to a second slower.
            states["notifications"] = {"status": "polling", "reason": reason}
        return JSONResponse(
            {"status": "ok" if ready else "unavailable", **states}, 200 if ready else 503
        )

    async def _check(self) -> tuple[str | None, str | None]:
        """Return the unhealthy reasons of the database and of its migrations."""
        try:
            if self._database.was_replaced():
                return "Its file was removed or replaced.", UNKNOWN
            revision, is_read_only = await self._database.read(self._examine)
        except Exception:  # any failure means that the database cannot be used
            return "It does not respond.", UNKNOWN
        finally:
            self._checking = None
        database = "It is set read-only." if is_read_only else None
        if revision == self._newest:
            return database, None
        return (
            database,
            f"It is at revision {revision or 'none'}; this version needs {self._newest}.",
        )

    def _examine(self, tx: Transaction) -> tuple[str | None, bool]:
        """Return the database's revision, and whether it is read-only."""
        return revision_in(tx), self._database.refuses_writes(tx)
