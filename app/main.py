"""Puts the process together: settings, database, runner, server. The one place that reads the
server's environment."""

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import uvicorn
import uvloop
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.applications import Starlette

from app.api.server import MESSAGE_BYTES, create_app
from app.queue.dispatcher import Dispatcher
from app.queue.handlers import find_handlers
from app.services.feed import Feed
from app.storage.database import Database, UnusableDatabase
from app.storage.lanes import end_all_leases
from app.storage.migrations import upgrade

log = logging.getLogger(__name__)

STOP_SECONDS = 1
"""How long open requests and sockets may take to end once the server stops."""

LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"]
"""Whom a browser may think it talks to: any other name that leads here is somebody's trick."""


class ListenError(Exception):
    """The server can't listen where it was told to."""


class Settings(BaseSettings):
    """What an operator sets, by JOBS_GATEWAY_* (and DATABASE_URL) or by flags, which win."""

    model_config = SettingsConfigDict(env_prefix="JOBS_GATEWAY_", populate_by_name=True)

    database_url: str = Field("sqlite:///jobs-gateway.db", validation_alias="DATABASE_URL")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    store: str = Field("default", min_length=1, max_length=255)
    """Whom requests act for, as long as they need no authentication."""
    runner: bool = True
    concurrency: int = Field(8, ge=1, le=64)
    """Stores whose jobs run side by side."""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """The running parts of one process."""

    settings: Settings
    database: Database
    feed: Feed
    url: str
    """Where it listens."""
    stop: Callable[[], None]
    """Begin to shut down, as a signal would."""


def open_database(settings: Settings) -> Database:
    """The database, made and migrated to the newest revision where it is the embedded one.

    Raises UnusableDatabase.
    """
    database = Database(settings.database_url)
    try:
        upgrade(database.write_engine)
    except UnusableDatabase:
        database.close()
        raise
    return database


def run(settings: Settings, on_ready: Callable[[Gateway], Awaitable[None]]) -> None:
    """`serve` in an event loop of its own, until SIGINT or SIGTERM."""
    # The signal that stopped the server is raised again once all is shut down: end as tidily by
    # one as by the other.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, on_ready))


async def serve(settings: Settings, on_ready: Callable[[Gateway], Awaitable[None]]) -> None:
    """Serve until told to stop. `on_ready` runs beside it once requests are taken.

    Raises ListenError, UnusableDatabase, RunnerAlreadyPresent before anything is served.
    """
    with _listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        database = open_database(settings)
        try:
            if settings.runner:
                database.hold_runner()
            feed = Feed(database)
            database.on_commit(feed.wake)
            gateway = Gateway(settings, database, feed, url, lambda: server.stop())
            hosts = [*LOOPBACK_NAMES, host] if is_loopback(settings.host) else ["*"]
            app = create_app(database, feed, settings.store, hosts, lambda _: _running(gateway))
            server = _Server(app, lambda: on_ready(gateway))
            # What is loaded by now stays: to look through it for garbage, over and over, stopped
            # one request in a hundred for a tenth of a second.
            gc.freeze()
            await server.serve(sockets=[listener])
        finally:
            database.close()


class _Server(uvicorn.Server):
    """Runs something of ours once requests are taken, and ends it before they no longer are."""

    def __init__(self, app: Starlette, on_ready: Callable[[], Awaitable[None]]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="on",
                ws="websockets-sansio",
                # It doubles to quadruples the memory of a socket.
                ws_per_message_deflate=False,
                ws_max_size=MESSAGE_BYTES,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._on_ready = on_ready

    def stop(self) -> None:
        self.should_exit = True

    async def main_loop(self) -> None:
        beside = asyncio.ensure_future(self._on_ready())
        beside.add_done_callback(_report)
        try:
            await super().main_loop()
        finally:
            beside.cancel()


def _report(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("starting up was not finished", exc_info=error)


@asynccontextmanager
async def _running(gateway: Gateway) -> AsyncIterator[None]:
    """The queue's runner, from start to a stop that hands its jobs back."""
    async with AsyncExitStack() as stack:
        if gateway.settings.runner:
            # We hold the runner's lock, so whoever had a lease is dead.
            await gateway.database.write(end_all_leases)
            dispatcher = Dispatcher(
                gateway.database, find_handlers(), concurrency=gateway.settings.concurrency
            )
            gateway.database.on_commit(dispatcher.wake)
            running = asyncio.create_task(dispatcher.run())
            stack.push_async_callback(lambda: running)
            stack.callback(dispatcher.stop)
        yield


def _listen(settings: Settings) -> socket.socket:
    if not is_loopback(settings.host) and not settings.insecure:
        raise ListenError(
            f"{settings.host} can be reached from other machines, and this version has no "
            "authentication: anybody there could read and change everything. "
            "Listen on 127.0.0.1, or take the risk with --insecure."
        )
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ListenError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Choose another --host or --port."
        ) from error
    listener.set_inheritable(False)
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
