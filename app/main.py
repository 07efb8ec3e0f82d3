"""Puts the process together: settings, database, runner, server."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import uvicorn
import uvloop
from opentelemetry.trace import Tracer
from starlette.types import ASGIApp

from app.api.app import create_app
from app.api.auth.access import Gate
from app.api.auth.identity import Authentication, BearerTokens, OpenAccess
from app.api.auth.jwks import Keys, KeySet, SharedSecret
from app.api.auth.throttle import Throttle
from app.api.graphql.admission.documents import Documents
from app.api.graphql.admission.trusted import UnusableDocuments, trusted_documents
from app.api.graphql.executor import Executor
from app.api.graphql.schema import graphql_schema
from app.api.http.probes import operating_app
from app.api.http.uvicorn_protocols import HttpWire, SocketWire
from app.api.loopback import is_loopback
from app.domain.jobs import JobType
from app.domain.webhooks import checked_network, signing_keys
from app.observability.tracing import start_tracing
from app.queue.dispatcher import Dispatcher
from app.queue.handlers import Handler, find_handlers
from app.services.feed import Feed
from app.settings import Mistake, Settings, WrongSettings
from app.storage.engine.connect import checked_url, connect
from app.storage.engine.database import Database, UnusableDatabase
from app.storage.lanes import end_all_leases
from app.storage.migrations import newest_revision, revision_of, upgrade
from app.webhooks.dispatcher import Courier
from app.webhooks.sender import Sender

T = TypeVar("T")

log = logging.getLogger(__name__)

STOP_SECONDS = 1
"""How long open requests and sockets may take to end once the server stops."""

GARBAGE = 50_000, 20, 100
"""After how many more objects garbage is looked for, and how often in those that were there before
(Python's gc)."""

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

    Raises WrongSettings, StartError, UnusableDatabase, RunnerAlreadyPresent before anything is
    served.
    """
    authentication, documents = check(settings)
    with _listen(settings.host, settings.port) as listener:
        host, url = listener.getsockname()[0], _url(listener)
        database = open_database(settings)
        with closing(database), _tracing(database) as tracer:
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
                Executor(database, feed, settings, tracer, plans=settings.plans),
                settings,
            )
            dispatcher = _dispatcher(settings, database, tracer) if settings.runner else None
            app = create_app(
                database,
                gate,
                lambda _: _running(settings, database, alone, dispatcher),
                hosts=hosts,
                origins=sorted(settings.origins),
                playground=settings.shows_playground,
                console=settings.shows_console,
                described=settings.introspection,
                metrics=settings.shows_metrics,
                runner=dispatcher.ailment if dispatcher else None,
                tracer=tracer,
            )
            server = _Server(app, settings, lambda: on_ready(gateway), gate.stopping.set)
            with _seldom_collecting():
                await server.serve(sockets=[listener])


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Looks for garbage as a server should."""
    before = gc.get_threshold()
    # What is loaded by now stays: to look through it for garbage, over and over, stopped one
    # request in a hundred for a tenth of a second.
    gc.freeze()
    # An event that is told to thousands makes tens of thousands of objects for a moment: looking
    # for garbage in between took longer than telling it.
    gc.set_threshold(*GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


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
    on_ready: Callable[[Database, str | None], None],
    handlers: Mapping[JobType, Handler] | None = None,
) -> None:
    """Run the queue and nothing else, until SIGINT or SIGTERM. `on_ready` is told where the process
    answers for itself, if it does.

    Raises StartError, UnusableDatabase, RunnerAlreadyPresent before anything is run.
    """
    told_to_stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, told_to_stop.set)
    database = open_database(settings)
    with closing(database), _tracing(database) as tracer:
        alone = database.hold_runner()
        dispatcher = _dispatcher(settings, database, tracer, handlers)
        async with (
            _answering(settings, database, dispatcher) as url,
            _running(settings, database, alone, dispatcher),
        ):
            on_ready(database, url)
            await told_to_stop.wait()


class _SmallServer(uvicorn.Server):
    """Serves beside something else, which hears the signals."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@asynccontextmanager
async def _answering(
    settings: Settings, database: Database, dispatcher: Dispatcher
) -> AsyncIterator[str | None]:
    """A worker's own requests: how it is. Where, if it is asked anywhere."""
    if settings.worker_port is None:
        yield None
        return
    with _listen(settings.host, settings.worker_port) as listener:
        server = _SmallServer(
            uvicorn.Config(
                operating_app(database, metrics=settings.shows_metrics, runner=dispatcher.ailment),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                http=HttpWire,
                ws="none",
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield _url(listener)
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def _running(
    settings: Settings,
    database: Database,
    alone: bool,
    dispatcher: Dispatcher | None,
) -> AsyncIterator[None]:
    """What happens beside the requests, from start to a stop that hands its jobs back: the queue,
    where this process runs it, and listening to other processes."""
    async with AsyncExitStack() as stack:
        hearing = asyncio.create_task(database.hear())
        stack.push_async_callback(asyncio.wait, [hearing])
        stack.callback(hearing.cancel)
        if dispatcher:
            if alone:
                # Whoever had a lease is dead.
                await database.write(end_all_leases)
            database.on_commit(dispatcher.wake)
            running = asyncio.create_task(dispatcher.run())
            stack.push_async_callback(lambda: running)
            stack.callback(dispatcher.stop)
        if dispatcher and settings.webhooks:
            courier = _courier(settings, database)
            database.on_commit(courier.wake)
            sending = asyncio.create_task(courier.run())
            stack.push_async_callback(lambda: sending)
            stack.callback(courier.stop)
        yield


@contextmanager
def _tracing(database: Database) -> Iterator[Tracer | None]:
    """What makes spans, of the database's statements too, if they go anywhere."""
    tracing = start_tracing()
    if tracing is None:
        yield None
        return
    database.trace(tracing.tracer)
    try:
        yield tracing.tracer
    finally:
        tracing.stop()


def _dispatcher(
    settings: Settings,
    database: Database,
    tracer: Tracer | None,
    handlers: Mapping[JobType, Handler] | None = None,
) -> Dispatcher:
    return Dispatcher(
        database,
        find_handlers() if handlers is None else handlers,
        stores=settings.stores or None,
        lease=timedelta(seconds=settings.lease_seconds),
        time_limit=timedelta(seconds=settings.time_limit_seconds),
        keep=timedelta(days=settings.retention_days) if settings.retention_days else None,
        concurrency=settings.concurrency,
        tracer=tracer,
    )


def _courier(settings: Settings, database: Database) -> Courier:
    assert settings.webhook_secret
    return Courier(
        database,
        settings.webhooks,
        signing_keys(settings.webhook_secret.get_secret_value()),
        Sender([checked_network(network) for network in settings.webhook_networks]),
        stores=settings.stores or None,
    )


def check(settings: Settings) -> tuple[Authentication, Documents]:
    """Who may ask and what is run. Raises WrongSettings with every mistake in the settings that
    shows only as they are put to use."""
    mistakes: list[Mistake] = []

    def tried(make: Callable[[Settings], T]) -> T | None:
        try:
            return make(settings)
        except WrongSettings as error:
            mistakes.extend(error.mistakes)
            return None

    authentication, documents = tried(_authentication), tried(_documents)
    tried(_reached)
    tried(_kept)
    if authentication is None or documents is None or mistakes:
        raise WrongSettings(mistakes)
    return authentication, documents


def _authentication(settings: Settings) -> Authentication:
    secret, jwks = settings.jwt_secret, settings.jwks
    keys: list[Keys] = []
    mistakes: list[Mistake] = []
    try:
        keys += [] if secret is None else [SharedSecret(secret.get_secret_value())]
    except ValueError as error:
        mistakes.append(Mistake(("jwt_secret",), str(error)))
    try:
        keys += [] if jwks is None else [KeySet(jwks)]
    except ValueError as error:
        mistakes.append(Mistake(("jwks",), str(error)))
    if secret is not None and jwks is not None:
        both = "Tokens are signed in one of two ways: set one, not both."
        mistakes.append(Mistake(("jwt_secret", "jwks"), both))
    if mistakes:
        raise WrongSettings(mistakes)
    if not keys:
        return OpenAccess(settings.store)
    return BearerTokens(keys[0], issuer=settings.jwt_issuer, audience=settings.jwt_audience)


def _documents(settings: Settings) -> Documents:
    place = settings.trusted_documents
    if settings.only_trusted and place is None:
        raise WrongSettings(
            [Mistake(("only_trusted",), "Without trusted documents nothing could be run.")]
        )
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
        raise WrongSettings([Mistake(("trusted_documents",), str(error))]) from None


def _reached(settings: Settings) -> None:
    if not (is_loopback(settings.host) or settings.authenticated or settings.insecure):
        raise WrongSettings(
            [
                Mistake(
                    ("host",),
                    f"{settings.host} can be reached from other machines, and no authentication is "
                    "set up: anybody there could read and change everything. Set "
                    "JOBS_GATEWAY_JWT_SECRET or JOBS_GATEWAY_JWKS, or listen on 127.0.0.1, or take "
                    "the risk with --insecure.",
                    depends_on=("insecure", "jwt_secret", "jwks"),
                )
            ]
        )


def _kept(settings: Settings) -> None:
    try:
        checked_url(settings.database_url)
    except UnusableDatabase as error:
        raise WrongSettings([Mistake(("database_url",), str(error))]) from None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise StartError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another host or port."
        ) from error
    listener.set_inheritable(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
