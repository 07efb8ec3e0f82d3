"""The rate of empty jobs in the queue, and the time from a commit to the start of the job.

Compared with Procrastinate, in the same run on the same PostgreSQL server; with a lock it also runs
one job at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.queue.dispatcher import Dispatcher
from app.services.attempts import JobResult
from app.services.feed import Feed
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.migrations import upgrade
from app.storage.tables import JobRow
from tests import factories
from tests.bench.table import Figures, percentile
from tests.support import postgres
from tests.support.databases import DATABASES, NewDatabase
from tests.support.processes import start_script

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

JOBS = 200
WAKE_UPS = 100
ROUNDS = 3
TYPE = JobType.HIERARCHY_DUPLICATE


class EmptyHandler:
    """A handler whose jobs record their start and succeed at once."""

    type = TYPE

    def __init__(self) -> None:
        self.starts: asyncio.Queue[float] = asyncio.Queue()

    async def run(self, attempt: Attempt) -> None:
        self.starts.put_nowait(monotonic())
        await attempt.succeed(lambda _tx, _job: JobResult(0))

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        pass


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Yield a database that listens to commits of other processes."""
    database = connect(url)
    upgrade(database)
    listening = asyncio.create_task(database.listen())
    try:
        yield database
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        database.close()


@asynccontextmanager
async def running(database: Database, handler: EmptyHandler) -> AsyncIterator[None]:
    """Run the queue in this process."""
    dispatcher = Dispatcher(database, {handler.type: handler})
    database.on_commit(dispatcher.wake)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        await task


async def job_rate(url: str) -> float:
    """Return jobs per second, from the first request to the last start, on a running queue."""
    handler = EmptyHandler()
    async with opened(url) as database, running(database, handler):
        began = monotonic()
        for _ in range(JOBS):
            await factories.pending_job(database, TYPE)
        for _ in range(JOBS):
            last = await handler.starts.get()
    return JOBS / (last - began)


async def wake_ups(url: str) -> list[float]:
    """Return the milliseconds from each commit to the start of its job, in one process."""
    handler, commits = EmptyHandler(), asyncio.Queue[float]()
    async with opened(url) as database:
        database.on_commit(lambda _: commits.put_nowait(monotonic()))
        async with running(database, handler):
            return [await wake_up(database, commits, handler.starts.get) for _ in range(WAKE_UPS)]


async def wake_ups_across(url: str) -> list[float]:
    """Return the same as `wake_ups` with a worker in another process."""
    worker = start_script(Path(__file__).with_name("empty_worker.py"), url)
    worker.wait_for("ready")
    commits = asyncio.Queue[float]()

    async def started() -> float:
        line = await asyncio.to_thread(worker.wait_for, "started")
        return float(line.split()[1])

    async with opened(url) as database:
        database.on_commit(lambda _: commits.put_nowait(monotonic()))
        measured = [await wake_up(database, commits, started) for _ in range(WAKE_UPS)]
    worker.stop()
    return measured


async def wake_up(
    database: Database, commits: "asyncio.Queue[float]", started: Callable[[], Any]
) -> float:
    """Enqueue a job in an idle queue. Return the milliseconds from its commit to its start."""
    while not commits.empty():
        commits.get_nowait()
    job = await factories.pending_job(database, TYPE)
    committed = await commits.get()
    start: float = await started()
    async for _ in await Feed(database, poll=0.02).job_updates(factories.STORE, job.id, None):
        pass
    return (start - committed) * 1000


@asynccontextmanager
async def procrastinate_worker(url: str) -> AsyncIterator[tuple[Any, "asyncio.Queue[float]"]]:
    """Run Procrastinate's worker. Yield an empty task that runs one at a time, and its starts."""
    procrastinate = pytest.importorskip(
        "procrastinate", reason="the comparison needs procrastinate: pip install -e '.[bench]'"
    )
    starts = asyncio.Queue[float]()
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=postgres.plain(url)))

    @app.task(name="empty", lock="store")  # type: ignore[untyped-decorator]
    async def empty() -> None:
        starts.put_nowait(monotonic())

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        working = asyncio.create_task(
            app.run_worker_async(listen_notify=True, install_signal_handlers=False)
        )
        try:
            yield empty, starts
        finally:
            working.cancel()
            await asyncio.wait([working])


async def test_empty_jobs_and_wake_ups(new_database: NewDatabase, figures: Figures) -> None:
    for kind in DATABASES:
        rates = [await job_rate(new_database(kind)) for _ in range(ROUNDS)]
        figures.add(f"empty jobs, {kind}", _spread(rates, "{:.0f}") + " jobs/s")
        figures.add(
            f"  commit to start, {kind}, in one process", _times(await wake_ups(new_database(kind)))
        )
    across = await wake_ups_across(new_database("postgresql"))
    figures.add("  commit to start, postgresql, across processes", _times(across))


async def test_empty_jobs_and_wake_ups_of_procrastinate(
    postgresql_server: str, figures: Figures
) -> None:
    rates = []
    for _ in range(ROUNDS):
        async with procrastinate_worker(postgres.new_database(postgresql_server)) as (
            empty,
            starts,
        ):
            began = monotonic()
            for _ in range(JOBS):
                await empty.defer_async()
            for _ in range(JOBS):
                last = await starts.get()
            rates.append(JOBS / (last - began))
    figures.add("empty jobs, Procrastinate with a lock", _spread(rates, "{:.0f}") + " jobs/s")

    times = []
    url = postgres.new_database(postgresql_server)
    async with procrastinate_worker(url) as (empty, starts):
        for _ in range(WAKE_UPS):
            await empty.defer_async()
            deferred = monotonic()
            times.append((await starts.get() - deferred) * 1000)
    figures.add("  deferral to start, Procrastinate", _times(times))


def _times(milliseconds: list[float]) -> str:
    p50, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def _spread(values: list[float], form: str) -> str:
    return ", ".join(form.format(value) for value in values)
