"""uvicorn's servers: one for the gateway, one for a worker's probes.

tests/contract/test_seams.py names the internals of uvicorn.Server that they override.
"""

import asyncio
import gc
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import uvicorn
from starlette.types import ASGIApp

from app.api.http.uvicorn_protocols import BoundedHttpProtocol, BoundedWebSocketProtocol

log = logging.getLogger(__name__)

STOP_SECONDS = 1
"""Max seconds until open requests and sockets are closed after a server stops."""

GC_THRESHOLDS = 50_000, 20, 100
"""Thresholds of Python's garbage collector: new objects per collection of the youngest generation,
and collections of each generation per collection of the next older one."""

GC_SECONDS = 10
"""Time between checks for a full collection. By its thresholds alone, cyclic garbage that survived
two collections stays until 100 million objects are made: 7.8 GB after an attack."""

GC_OBJECTS = 10_000
"""Objects made and not freed since the last collection that make a full one worth its 5 ms."""


class GatewayServer(uvicorn.Server):
    """Runs `on_ready` as a task while it serves, and calls `on_stop` before it closes sockets."""

    def __init__(
        self,
        app: ASGIApp,
        on_ready: Callable[[], Awaitable[None]],
        on_stop: Callable[[], None],
        *,
        max_message_bytes: int,
        ping_seconds: float,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                http=BoundedHttpProtocol,
                ws=BoundedWebSocketProtocol,
                # Compression doubles to quadruples the memory of a socket.
                ws_per_message_deflate=False,
                ws_max_size=max_message_bytes,
                ws_ping_interval=ping_seconds,
                ws_ping_timeout=ping_seconds,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._on_ready = on_ready
        self._on_stop = on_stop

    def stop(self) -> None:
        """Begin to shut down, like a signal."""
        self.should_exit = True

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve with a garbage collector tuned for a server."""
        with _server_garbage_collection():
            await super().serve(sockets)

    async def main_loop(self) -> None:
        """Serve until `stop` or a signal."""
        on_ready = asyncio.ensure_future(self._on_ready())
        on_ready.add_done_callback(_log_failure)
        collecting = asyncio.ensure_future(_collect_regularly())
        try:
            await super().main_loop()
        finally:
            collecting.cancel()
            on_ready.cancel()
            self._on_stop()


class ProbeServer(uvicorn.Server):
    """Serves probes in a process that handles signals itself."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                http=BoundedHttpProtocol,
                ws="none",
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )

    def stop(self) -> None:
        """Begin to shut down."""
        self.should_exit = True

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Install no signal handlers."""
        return nullcontext()


def _log_failure(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("start-up did not finish", exc_info=error)


async def _collect_regularly() -> None:
    while True:
        await asyncio.sleep(GC_SECONDS)
        collect_garbage()


def collect_garbage() -> None:
    """Collect all generations, if there are many new objects."""
    young, *older = gc.get_count()
    if young >= GC_OBJECTS or any(older):
        gc.collect()


@contextmanager
def _server_garbage_collection() -> Iterator[None]:
    thresholds = gc.get_threshold()
    # Objects loaded at start-up stay. Scanning them repeatedly stopped 1 request in 100 for 0.1 s.
    gc.freeze()
    # An event sent to thousands of subscribers makes tens of thousands of short-lived objects.
    # Collecting in between took longer than sending it.
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
