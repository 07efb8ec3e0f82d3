"""The processes: `serve` takes requests and runs the queue, `work` runs the queue only."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass

import uvloop

from app import queue, wiring
from app.api.http.connection_limit import CONNECTIONS
from app.api.http.probes import probe_app
from app.api.http.uvicorn_servers import GatewayServer, ProbeServer
from app.background import background_tasks
from app.domain.jobs import JobType
from app.queue.handler import Handler
from app.services.feed import Feed
from app.settings import Settings
from app.storage.engine.database import Database


@dataclass(frozen=True, slots=True)
class Gateway:
    """The running parts of one `serve` process."""

    settings: Settings
    database: Database
    feed: Feed
    url: str
    """Base URL of its listener."""
    stop: Callable[[], None]
    """Begin to shut down, like a signal."""


def run(settings: Settings, on_ready: Callable[[Gateway], Awaitable[None]]) -> None:
    """Run `serve` in its own event loop until SIGINT or SIGTERM."""
    # uvicorn raises the signal again after the shutdown: SIGTERM must end as cleanly as SIGINT.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, on_ready))


async def serve(settings: Settings, on_ready: Callable[[Gateway], Awaitable[None]]) -> None:
    """Take requests and, with `settings.runner`, run the queue, until stopped.

    `on_ready` runs as a task once requests are accepted. Raises WrongSettings, StartError,
    UnusableDatabase or RunnerAlreadyPresent before that.
    """
    authentication, login, documents = wiring.check(settings)
    with (
        wiring.listen(settings.host, settings.port) as listener,
        closing(wiring.open_database(settings)) as database,
        wiring.tracing(database) as tracer,
    ):
        exclusive = settings.runner and database.acquire_runner_lock()
        feed = Feed(database)
        database.on_commit(feed.wake)
        service = wiring.graphql_service(
            settings, authentication, documents, database, feed, tracer
        )
        dispatcher = wiring.job_dispatcher(settings, database, tracer) if settings.runner else None
        app = wiring.gateway_app(
            settings,
            database,
            service,
            lambda _: background_tasks(settings, database, dispatcher, exclusive=exclusive),
            login=login,
            hosts=wiring.allowed_hosts(settings, listener),
            runner=dispatcher.unhealthy_reason if dispatcher else None,
            tracer=tracer,
        )
        CONNECTIONS.max_body_bytes = settings.max_body_bytes
        server = GatewayServer(
            app,
            lambda: on_ready(gateway),
            service.stopping.set,
            max_message_bytes=settings.max_body_bytes,
            ping_seconds=settings.socket_ping_seconds,
        )
        gateway = Gateway(settings, database, feed, wiring.listener_url(listener), server.stop)
        await server.serve(sockets=[listener])


async def work(
    settings: Settings,
    on_ready: Callable[[Database, str | None], None],
    handlers: Mapping[JobType, Handler] | None = None,
) -> None:
    """Run the queue and nothing else, until SIGINT or SIGTERM.

    `on_ready` receives the database and the URL of the probes, None without `worker_port`. Raises
    StartError, UnusableDatabase or RunnerAlreadyPresent before any job runs.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with (
        closing(wiring.open_database(settings)) as database,
        wiring.tracing(database) as tracer,
    ):
        exclusive = database.acquire_runner_lock()
        dispatcher = wiring.job_dispatcher(settings, database, tracer, handlers)
        async with (
            _probes(settings, database, dispatcher) as url,
            background_tasks(settings, database, dispatcher, exclusive=exclusive),
        ):
            on_ready(database, url)
            await stopping.wait()


@asynccontextmanager
async def _probes(
    settings: Settings, database: Database, dispatcher: queue.Dispatcher
) -> AsyncIterator[str | None]:
    """Serve a worker's probes. Yield their base URL, or None without `worker_port`."""
    if settings.worker_port is None:
        yield None
        return
    with wiring.listen(settings.host, settings.worker_port) as listener:
        server = ProbeServer(
            probe_app(database, metrics=settings.shows_metrics, runner=dispatcher.unhealthy_reason)
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield wiring.listener_url(listener)
        finally:
            server.stop()
            await serving
