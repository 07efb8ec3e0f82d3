"""Puts the process together: settings, database, runner, server. The one place that reads the
server's environment."""

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import uvicorn
import uvloop
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from starlette.applications import Starlette

from app.api.server import MESSAGE_BYTES, create_app
from app.domain.jobs import JobType
from app.queue.dispatcher import Dispatcher
from app.queue.handlers import Handler, find_handlers
from app.services.feed import Feed
from app.storage.connect import connect
from app.storage.database import Database, UnusableDatabase
from app.storage.lanes import end_all_leases
from app.storage.migrations import newest_revision, revision_of, upgrade

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
    stores: Annotated[frozenset[str], NoDecode] = frozenset()
    """Whose jobs this process runs, separated by commas; those of all stores if empty."""
    concurrency: int = Field(8, ge=1, le=64)
    """Stores whose jobs run side by side."""
    lease_seconds: float = Field(30, ge=1, le=3600)
    """How long a worker may be silent before another one takes its job over."""
    time_limit_seconds: float = Field(3600, ge=1)
    """How long a job may go without finishing a step before it fails."""
    retention_days: int = Field(30, ge=0, le=36_500)
    """How long ended jobs and the events of all jobs are kept; 0 keeps them for ever."""
    insecure: bool = False

    @field_validator("stores", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(name.strip() for name in value.split(",") if name.strip())
        return value


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

    Raises UnusableDatabase, also for one that somebody has yet to migrate.
    """
    database = connect(settings.database_url)
    try:
        if database.embedded:
            upgrade(database)
        elif (revision := revision_of(database)) != (newest := newest_revision()):
            raise UnusableDatabase(
                f"The database {database.name} is at revision {revision or 'none'}, and this "
                f"version works with {newest}. Run `jobs-gateway migrate` first."
            )
    except UnusableDatabase:
        database.close()
        raise
    return database


def migrate(settings: Settings, *, check: bool) -> tuple[str | None, str]:
    """Bring the database to the newest revision; the one it was at, and the newest. With `check`
    nothing is changed. Raises UnusableDatabase."""
    database = connect(settings.database_url)
    try:
        before = revision_of(database)
        if not check:
            upgrade(database)
        return before, newest_revision()
    finally:
        database.close()


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
            alone = settings.runner and database.hold_runner()
            feed = Feed(database)
            database.on_commit(feed.wake)
            gateway = Gateway(settings, database, feed, url, lambda: server.stop())
            hosts = [*LOOPBACK_NAMES, host] if is_loopback(settings.host) else ["*"]
            app = create_app(
                database, feed, settings.store, hosts, lambda _: _running(settings, database, alone)
            )
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


async def work(
    settings: Settings,
    on_ready: Callable[[Database], None],
    handlers: Mapping[JobType, Handler] | None = None,
) -> None:
    """Run the queue and nothing else, until SIGINT or SIGTERM.

    Raises UnusableDatabase, RunnerAlreadyPresent before anything is run.
    """
    told_to_stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, told_to_stop.set)
    database = open_database(settings)
    try:
        alone = database.hold_runner()
        async with _running(settings, database, alone, handlers):
            on_ready(database)
            await told_to_stop.wait()
    finally:
        database.close()


@asynccontextmanager
async def _running(
    settings: Settings,
    database: Database,
    alone: bool,
    handlers: Mapping[JobType, Handler] | None = None,
) -> AsyncIterator[None]:
    """What happens beside the requests, from start to a stop that hands its jobs back: the queue,
    where this process runs it, and listening to other processes."""
    async with AsyncExitStack() as stack:
        hearing = asyncio.create_task(database.hear())
        stack.push_async_callback(asyncio.wait, [hearing])
        stack.callback(hearing.cancel)
        if settings.runner:
            if alone:
                # Whoever had a lease is dead.
                await database.write(end_all_leases)
            dispatcher = Dispatcher(
                database,
                find_handlers() if handlers is None else handlers,
                stores=settings.stores or None,
                lease=timedelta(seconds=settings.lease_seconds),
                time_limit=timedelta(seconds=settings.time_limit_seconds),
                keep=timedelta(days=settings.retention_days) if settings.retention_days else None,
                concurrency=settings.concurrency,
            )
            database.on_commit(dispatcher.wake)
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
