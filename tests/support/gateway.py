"""Gateways in the event loop of a test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import sqlalchemy as sa

from app import main
from app.main import Gateway
from app.settings import Settings


@asynccontextmanager
async def gateway_of(settings: Settings) -> AsyncIterator[Gateway]:
    """A whole gateway on a real socket in this event loop."""
    ready: asyncio.Future[Gateway] = asyncio.get_running_loop().create_future()

    async def on_ready(gateway: Gateway) -> None:
        ready.set_result(gateway)

    serving = asyncio.create_task(main.serve(settings, on_ready))
    serving.add_done_callback(lambda _: ready.done() or ready.cancel())
    try:
        gateway = await ready
    except asyncio.CancelledError:
        await serving
        raise
    try:
        yield gateway
    finally:
        gateway.stop()
        await serving


@contextmanager
def reads_of(gateway: Gateway) -> Iterator[list[str]]:
    """The SQL statements it reads with meanwhile, as they come."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement != "BEGIN":
            statements.append(statement)

    engine = gateway.database.read_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
