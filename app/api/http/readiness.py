"""Whether the process can work: what a load balancer asks every few seconds."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.storage.engine.database import Database
from app.storage.migrations import newest_revision, revision_in

PATIENCE_SECONDS = 2
"""How long the database may take to say that it is there."""

UNKNOWN = "Not known while the database is not there."

UnhealthyReason = Callable[[], str | None]
"""What keeps a part from its work: a sentence, None while nothing does."""


class Readiness:
    """Looks after the database, its migrations and the runner, each time it is asked.

    All who ask at once share one look, and a database that hangs is not asked again meanwhile:
    however often it is asked, it takes no more than one connection.
    """

    def __init__(self, database: Database, runner: UnhealthyReason | None) -> None:
        self._database = database
        self._runner = runner
        """None where the queue does not run in this process."""
        self._newest = newest_revision()
        self._looking: asyncio.Task[tuple[str | None, str | None]] | None = None

    async def show(self, _request: Request) -> Response:
        """What is well and what is not, and 503 if something is not."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                database, migrations = await asyncio.shield(self._looking)
        except TimeoutError:
            database = f"It did not answer within {PATIENCE_SECONDS} s."
            migrations = UNKNOWN
        parts = {"database": database, "migrations": migrations}
        if self._runner:
            parts["runner"] = self._runner()
        ready = not any(parts.values())
        told: dict[str, object] = {
            name: {"status": "unavailable", "reason": reason} if reason else {"status": "ok"}
            for name, reason in parts.items()
        }
        told.setdefault("runner", {"status": "not here"})
        return JSONResponse(
            {"status": "ok" if ready else "unavailable", **told}, 200 if ready else 503
        )

    async def _look(self) -> tuple[str | None, str | None]:
        """What ails the database and its migrations."""
        try:
            if self._database.was_replaced():
                return "Its file is no longer there.", UNKNOWN
            revision = await self._database.read(revision_in)
        except Exception:  # whatever it is, there is no working with it
            return "It does not answer.", UNKNOWN
        finally:
            self._looking = None
        if revision == self._newest:
            return None, None
        return None, (
            f"It is at revision {revision or 'none'}, and this version works with {self._newest}."
        )
