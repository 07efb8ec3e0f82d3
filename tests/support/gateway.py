"""Gateways in the event loop of a test."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
import uvicorn.server

from app import main, wiring
from app.main import Gateway
from app.settings import Settings
from app.storage.engine.connect import connect
from app.storage.engine.transaction import Clock as DatabaseClock
from tests.support.databases import NewDatabase, Schema, empty, schema_of

TICK_SECONDS = 0.005
LEAVE_SECONDS = 10
"""Time for a test's subscribers to disconnect after the test."""


class _Asyncio(SimpleNamespace):
    """asyncio for uvicorn's server, without the two waits of 0.1 s in each stop."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, TICK_SECONDS))


uvicorn.server.asyncio = _Asyncio()  # type: ignore[assignment, attr-defined]


@asynccontextmanager
async def gateway_of(
    settings: Settings, clock: DatabaseClock | None = None
) -> AsyncIterator[Gateway]:
    """Yield a gateway on a real socket in this event loop; `clock` replaces the database's."""
    ready: asyncio.Future[Gateway] = asyncio.get_running_loop().create_future()

    async def on_ready(gateway: Gateway) -> None:
        ready.set_result(gateway)

    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with patch.object(wiring, "connect", lambda url, listen_url: connect(url, clock, listen_url)):
        serving = asyncio.create_task(main.serve(settings, on_ready))
        serving.add_done_callback(lambda _: ready.done() or ready.cancel())
        try:
            gateway = await ready
        except asyncio.CancelledError:
            await serving
            raise
    # Ctrl-C ends the run of the tests, not the gateway of one of them.
    for number, handler in signals.items():
        signal.signal(number, handler)
    try:
        yield gateway
    finally:
        gateway.stop()
        await serving


class SharedGateways:
    """One idle gateway per kind of database and settings, emptied after each test."""

    def __init__(self, new_database: NewDatabase, stack: AsyncExitStack) -> None:
        self._new_database = new_database
        self._stack = stack
        self._gateways: dict[object, tuple[Gateway, Schema]] = {}

    @asynccontextmanager
    async def lent(self, kind: str, **changed: Any) -> AsyncIterator[Gateway]:
        """Yield the gateway of a kind of database and of these settings.

        It is not lent again if the test changed the database's schema.
        """
        key = kind, *sorted(changed.items())
        if key not in self._gateways:
            settings = Settings(
                database_url=self._new_database(kind), port=0, runner=False, **changed
            )
            opened = await self._stack.enter_async_context(gateway_of(settings))
            self._gateways[key] = opened, await opened.database.read(schema_of)
        gateway, schema = self._gateways[key]
        try:
            yield gateway
        finally:
            async with asyncio.timeout(LEAVE_SECONDS):
                while gateway.feed._tails:  # noqa: ASYNC110, the feed has no event for it
                    await asyncio.sleep(0.001)
            if await gateway.database.read(schema_of) == schema:
                await gateway.database.write(empty)
            else:
                del self._gateways[key]


@contextmanager
def reads_of(gateway: Gateway) -> Iterator[list[str]]:
    """Yield a list that grows by each SQL statement of the gateway's read connections."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement != "BEGIN":
            statements.append(statement)

    engines = {gateway.database.read_engine, gateway.database.scan_engine}
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        for engine in engines:
            sa.event.remove(engine, "before_cursor_execute", note)
