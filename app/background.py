"""Tasks of a process besides requests: listening, the queue, webhooks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app import queue, webhooks, wiring
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.lanes import end_all_leases


@asynccontextmanager
async def background_tasks(
    settings: Settings,
    database: Database,
    dispatcher: queue.Dispatcher | None,
    *,
    exclusive: bool,
) -> AsyncIterator[None]:
    """Listen to other processes; with a dispatcher, run the queue and deliver webhooks.

    `exclusive`: no other process runs the queue. On exit each running job ends its step and is
    released.
    """
    async with AsyncExitStack() as stack:
        listening = asyncio.create_task(database.listen())
        stack.push_async_callback(asyncio.wait, [listening])
        stack.callback(listening.cancel)
        if dispatcher:
            if exclusive:
                # Every lease belongs to a process that has died.
                await database.write(end_all_leases)
            await stack.enter_async_context(_dispatching(database, dispatcher))
            if settings.webhooks:
                deliveries = wiring.webhook_dispatcher(settings, database)
                await stack.enter_async_context(_dispatching(database, deliveries))
        yield


@asynccontextmanager
async def _dispatching(
    database: Database, dispatcher: queue.Dispatcher | webhooks.Dispatcher
) -> AsyncIterator[None]:
    """Run a dispatcher, woken by each commit, and stop it on exit."""
    database.on_commit(dispatcher.wake)
    running = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        await running
