"""Puts the process together: settings, database, runner, server."""

import asyncio
import gc
import logging
import signal
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

import uvicorn
import uvloop
from starlette.types import ASGIApp

from app.api.app import create_app
from app.api.auth.access import Access
from app.api.auth.throttle import Throttle
from app.api.graphql.executor import Executor
from app.api.graphql.service import GraphQLService
from app.api.http.origins import is_loopback
from app.api.http.probes import probe_app
from app.api.http.uvicorn_protocols import BoundedHttpProtocol, BoundedWebSocketProtocol
from app.domain.jobs import JobType
from app.queue.dispatcher import Dispatcher
from app.queue.handlers import Handler
from app.services.feed import Feed
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.lanes import end_all_leases
from app.wiring import (
    check,
    job_dispatcher,
    listen,
    listener_url,
    open_database,
    tracing,
    webhook_dispatcher,
)

log = logging.getLogger(__name__)

STOP_SECONDS = 1
"""How long open requests and sockets may take to end once the server stops."""

GC_THRESHOLDS = 50_000, 20, 100
"""After how many more objects garbage is looked for, and how often in those that were there before
(Python's gc)."""

LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"]
"""Whom a browser may think it talks to: any other name that leads here is somebody's trick."""


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
    with listen(settings.host, settings.port) as listener:
        host, url = listener.getsockname()[0], listener_url(listener)
        database = open_database(settings)
        with closing(database), tracing(database) as tracer:
            alone = settings.runner and database.acquire_runner_lock()
            feed = Feed(database)
            database.on_commit(feed.wake)
            gateway = Gateway(settings, database, feed, url, lambda: server.stop())
            # Where a token is needed no page has one, by whatever name it was led here.
            is_open = is_loopback(settings.host) and not settings.authenticated
            hosts = [*LOOPBACK_NAMES, host] if is_open else ["*"]
            service = GraphQLService(
                Access(authentication, Throttle(settings), settings),
                documents,
                Executor(database, feed, settings, tracer, plans=settings.plans),
            )
            dispatcher = job_dispatcher(settings, database, tracer) if settings.runner else None
            app = create_app(
                database,
                service,
                lambda _: _running(settings, database, alone, dispatcher),
                hosts=hosts,
                origins=sorted(settings.origins),
                playground=settings.shows_playground,
                console=settings.shows_console,
                described=settings.introspection,
                metrics=settings.shows_metrics,
                runner=dispatcher.unhealthy_reason if dispatcher else None,
                tracer=tracer,
            )
            server = _GatewayServer(app, settings, lambda: on_ready(gateway), service.stopping.set)
            with _server_garbage_collection():
                await server.serve(sockets=[listener])


@contextmanager
def _server_garbage_collection() -> Iterator[None]:
    """Looks for garbage as a server should."""
    before = gc.get_threshold()
    # What is loaded by now stays: to look through it for garbage, over and over, stopped one
    # request in a hundred for a tenth of a second.
    gc.freeze()
    # An event that is told to thousands makes tens of thousands of objects for a moment: looking
    # for garbage in between took longer than telling it.
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class _GatewayServer(uvicorn.Server):
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
                http=BoundedHttpProtocol,
                ws=BoundedWebSocketProtocol,
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
    with closing(database), tracing(database) as tracer:
        alone = database.acquire_runner_lock()
        dispatcher = job_dispatcher(settings, database, tracer, handlers)
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
    with listen(settings.host, settings.worker_port) as listener:
        server = _SmallServer(
            uvicorn.Config(
                probe_app(
                    database, metrics=settings.shows_metrics, runner=dispatcher.unhealthy_reason
                ),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                http=BoundedHttpProtocol,
                ws="none",
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener_url(listener)
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
        hearing = asyncio.create_task(database.listen())
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
            courier = webhook_dispatcher(settings, database)
            database.on_commit(courier.wake)
            sending = asyncio.create_task(courier.run())
            stack.push_async_callback(lambda: sending)
            stack.callback(courier.stop)
        yield
