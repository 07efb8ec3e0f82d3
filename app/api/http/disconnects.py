"""Clients that disconnect while their request waits for a scan."""

import asyncio
from types import TracebackType

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.storage.engine.client_reads import scan_listener


class ClientWatch:
    """A block that ends with ClientDisconnect if its client disconnects during a scan.

    Other work is too short for it: a task that waits for the disconnect takes 50 µs.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._disconnected = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task
        self._task = task
        self._listening = scan_listener.set(self._watch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        scan_listener.reset(self._listening)
        if self._watcher:
            self._watcher.cancel()
        if self._disconnected and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise ClientDisconnect from error

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        self._task.cancel()
