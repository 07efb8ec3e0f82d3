"""Puts the process together: settings, database, runner, server."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import uvicorn
import uvloop
from pydantic import SecretStr
from starlette.types import ASGIApp

from app.api.admission.documents import Documents
from app.api.admission.identity import Authentication, BearerTokens, OpenAccess
from app.api.admission.keys import Keys, KeySet, SharedSecret
from app.api.admission.throttle import Throttle
from app.api.admission.trusted import UnusableDocuments, trusted_documents
from app.api.execution import Executor
from app.api.gate import Gate
from app.api.loopback import is_loopback
from app.api.schema import graphql_schema
from app.api.server import create_app
from app.api.wire import HttpWire, SocketWire
from app.domain.jobs import JobType
from app.queue.dispatcher import Dispatcher
from app.queue.handlers import Handler, find_handlers
from app.services.feed import Feed
from app.settings import Settings
from app.storage.connect import connect
from app.storage.database import Database, UnusableDatabase
from app.storage.lanes import end_all_leases
from app.storage.migrations import newest_revision, revision_of, upgrade

log = logging.getLogger(__name__)

STOP_SECONDS = 1
"""How long open requests and sockets may take to end once the server stops."""

LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"]
"""Whom a browser may think it talks to: any other name that leads here is somebody's trick."""


class StartError(Exception):
    """The server can't be started as it was told to: one sentence on what to change."""


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

    Raises StartError, UnusableDatabase, RunnerAlreadyPresent before anything is served.
    """
    authentication = _authentication(settings)
    documents = _documents(settings)
    with _listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        database = open_database(settings)
        try:
            alone = settings.runner and database.hold_runner()
            feed = Feed(database)
            database.on_commit(feed.wake)
            gateway = Gateway(settings, database, feed, url, lambda: server.stop())
            # Where a token is needed no page has one, by whatever name it was led here.
            is_open = is_loopback(settings.host) and not settings.authenticated
            hosts = [*LOOPBACK_NAMES, host] if is_open else ["*"]
            gate = Gate(
                authentication,
                Throttle(settings),
                documents,
                Executor(database, feed, settings),
                settings,
            )
            app = create_app(
                database,
                gate,
                lambda _: _running(settings, database, alone),
                hosts=hosts,
                origins=sorted(settings.origins),
                playground=settings.shows_playground,
                described=settings.introspection,
            )
            server = _Server(app, settings, lambda: on_ready(gateway), gate.stopping.set)
            # What is loaded by now stays: to look through it for garbage, over and over, stopped
            # one request in a hundred for a tenth of a second.
            gc.freeze()
            await server.serve(sockets=[listener])
        finally:
            database.close()


class _Server(uvicorn.Server):
    """Runs something of ours once requests are taken, and ends it before they no longer are."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        on_ready: Callable[[], Awaitable[None]],
        on_stop: Callable[[], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                http=HttpWire,
                ws=SocketWire,
                # It doubles to quadruples the memory of a socket.
                ws_per_message_deflate=False,
                ws_max_size=settings.max_body_bytes,
                ws_ping_interval=settings.socket_ping_seconds,
                ws_ping_timeout=settings.socket_ping_seconds,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._on_ready = on_ready
        self._on_stop = on_stop

    def stop(self) -> None:
        self.should_exit = True

    async def main_loop(self) -> None:
        beside = asyncio.ensure_future(self._on_ready())
        beside.add_done_callback(_report)
        try:
            await super().main_loop()
        finally:
            beside.cancel()
            self._on_stop()


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


def _authentication(settings: Settings) -> Authentication:
    try:
        match settings.jwt_secret, settings.jwks:
            case None, None:
                return OpenAccess(settings.store)
            case SecretStr() as secret, None:
                keys: Keys = SharedSecret(secret.get_secret_value())
            case None, str(location):
                keys = KeySet(location)
            case _:
                raise ValueError("Set JOBS_GATEWAY_JWT_SECRET or JOBS_GATEWAY_JWKS, not both.")
    except ValueError as error:
        raise StartError(str(error)) from None
    return BearerTokens(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)


def _documents(settings: Settings) -> Documents:
    if settings.only_trusted and settings.trusted_documents is None:
        raise StartError(
            "JOBS_GATEWAY_ONLY_TRUSTED is set and JOBS_GATEWAY_TRUSTED_DOCUMENTS is not: nothing "
            "could be run."
        )
    place = settings.trusted_documents
    try:
        return Documents(
            graphql_schema,
            settings,
            introspection=settings.introspection,
            suggestions=settings.suggestions,
            trusted=trusted_documents(place) if place else None,
            only_trusted=settings.only_trusted,
        )
    except UnusableDocuments as error:
        raise StartError(str(error)) from None


def _listen(settings: Settings) -> socket.socket:
    if not (is_loopback(settings.host) or settings.authenticated or settings.insecure):
        raise StartError(
            f"{settings.host} can be reached from other machines, and no authentication is set up: "
            "anybody there could read and change everything. Set JOBS_GATEWAY_JWT_SECRET or "
            "JOBS_GATEWAY_JWKS, or listen on 127.0.0.1, or take the risk with --insecure."
        )
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise StartError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Choose another --host or --port."
        ) from error
    listener.set_inheritable(False)
    return listener
