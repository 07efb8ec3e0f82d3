"""uvicorn's servers: one for the gateway, one for a worker's probes.

tests/contract/test_seams.py names the internals of uvicorn.Server that they override.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

import uvicorn
from starlette.types import ASGIApp

from app.api.http.memory import return_memory_regularly, tuned_garbage_collection
from app.api.http.uvicorn_protocols import BoundedHttpProtocol, BoundedWebSocketProtocol

log = logging.getLogger(__name__)

STOP_SECONDS = 1
"""Max seconds until open requests and sockets are closed after a server stops."""

SWITCH_SECONDS = 0.0002
"""Time that a busy event loop runs on while a thread waits for the interpreter. A list's thread
waits for it a hundred times: 0.2 s during a flood of requests, with Python's 5 ms each."""


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
        """Serve with an interpreter tuned for a server."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            with tuned_garbage_collection():
                await super().serve(sockets)
        finally:
            sys.setswitchinterval(interval)

    async def main_loop(self) -> None:
        """Serve until `stop` or a signal."""
        on_ready = asyncio.ensure_future(self._on_ready())
        on_ready.add_done_callback(_log_failure)
        returning = asyncio.ensure_future(return_memory_regularly())
        try:
            await super().main_loop()
        finally:
            returning.cancel()
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
