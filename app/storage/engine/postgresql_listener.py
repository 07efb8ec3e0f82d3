"""LISTEN for the commits of other processes, on a connection of its own."""

import asyncio
import logging
from collections.abc import Callable

import psycopg
import sqlalchemy as sa

from app.storage.engine.pooler import Pooling, detect_pooling
from app.storage.engine.postgresql_sessions import (
    Parameters,
    SessionSettings,
    parameters_of,
    shown_database_url,
)

log = logging.getLogger(__name__)

RELISTEN_SECONDS = 1.0
RECHECK_SECONDS = 60.0
"""Time until a pooler that cannot carry notifications is examined again."""

NOT_LISTENING = "LISTEN failed; other processes' changes are noticed by polling, each second."
TRANSACTION_POOLING = (
    "The pooler lends a session per transaction; other processes' changes are noticed by polling, "
    "each second. Set JOBS_GATEWAY_LISTEN_URL to the server itself."
)


class Listener:
    """Passes on the payloads of a channel's notifications."""

    def __init__(self, url: sa.URL, channel: str, on_notice: Callable[[str], None]) -> None:
        self._url = url
        self._channel = channel
        self._on_notice = on_notice
        self.failure: str | None = None
        """Why notifications do not arrive, as a sentence without secrets."""

    async def run(self) -> None:
        """Listen until cancelled. Notifications sent while the connection is down are lost."""
        while True:
            try:
                await self._listen(parameters_of(self._url))
            except (psycopg.Error, OSError, UnicodeError) as error:
                reason = " ".join(str(error).split())
                self._fail(NOT_LISTENING, f"{shown_database_url(self._url)}: {reason}")
                await asyncio.sleep(RELISTEN_SECONDS)
            else:
                self._fail(TRANSACTION_POOLING, shown_database_url(self._url))
                await asyncio.sleep(RECHECK_SECONDS)

    async def _listen(self, parameters: Parameters) -> None:
        """Listen while the connection lasts. Return if its pooler cannot carry notifications."""
        connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
        async with connection:
            match await detect_pooling(connection, parameters):
                case Pooling.TRANSACTION:
                    return
                case Pooling.NONE:
                    version = connection.info.server_version
                    await connection.execute(SessionSettings().of_session(version))
                case Pooling.SESSION:
                    pass
            await connection.execute(f"LISTEN {self._channel}")
            if self.failure:
                log.info("notifications from other processes arrive again")
            self.failure = None
            async for notice in connection.notifies():
                self._on_notice(notice.payload)

    def _fail(self, failure: str, details: str) -> None:
        """Log the first of several equal failures: the connection is tried each second."""
        if self.failure != failure:
            log.warning("%s (%s)", failure, details)
        self.failure = failure
