"""How many empty jobs the queue runs one behind the other, and how soon an idle one wakes up;
beside it, in the same run on the same PostgreSQL server, Procrastinate with a lock, which makes it
too run one at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlmodel import Session

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.queue.dispatcher import Dispatcher
from app.services.attempts import JobResult
from app.services.feed import Feed
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.migrations import upgrade
from app.storage.tables import Job
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


class Empty:
    """Jobs that do nothing, and note when they start."""

    type = TYPE

    def __init__(self) -> None:
        self.starts: asyncio.Queue[float] = asyncio.Queue()

    async def run(self, attempt: Attempt) -> None:
        self.starts.put_nowait(monotonic())
        await attempt.succeed(lambda _session, _job: JobResult(0))

    def abandon(self, session: Session, job: Job) -> None:
        pass


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """The database of a process that hears of others."""
    database = connect(url)
    upgrade(database)
    hearing = asyncio.create_task(database.listen())
    try:
        yield database
    finally:
        hearing.cancel()
        await asyncio.wait([hearing])
        database.close()


@asynccontextmanager
async def running(database: Database, handler: Empty) -> AsyncIterator[None]:
    """The queue, run in this process."""
    dispatcher = Dispatcher(database, {handler.type: handler})
    database.on_commit(dispatcher.wake)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        await task


async def jobs_a_second(url: str) -> float:
    """From the first one asked for to the start of the last, while the queue runs."""
    handler = Empty()
    async with opened(url) as database, running(database, handler):
        began = monotonic()
        for _ in range(JOBS):
            await factories.pending_job(database, TYPE)
        for _ in range(JOBS):
            last = await handler.starts.get()
    return JOBS / (last - began)


async def wake_ups(url: str) -> list[float]:
    """Milliseconds from each commit to the start of the job, in one process."""
    handler, commits = Empty(), asyncio.Queue[float]()
    async with opened(url) as database:
        database.on_commit(lambda _: commits.put_nowait(monotonic()))
        async with running(database, handler):
            return [await wake_up(database, commits, handler.starts.get) for _ in range(WAKE_UPS)]


async def wake_ups_across(url: str) -> list[float]:
    """`wake_ups` of a worker in another process."""
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
    """Milliseconds from the commit of one job, asked for in an idle queue, to its start."""
    while not commits.empty():
        commits.get_nowait()
    job = await factories.pending_job(database, TYPE)
    committed = await commits.get()
    start: float = await started()
    async for _ in await Feed(database, poll=0.02).job_updates(factories.STORE, job.id, None):
        pass
    return (start - committed) * 1000


@asynccontextmanager
async def procrastinating(url: str) -> AsyncIterator[tuple[Any, "asyncio.Queue[float]"]]:
    """Procrastinate's worker in this process; a task that does nothing, one at a time, and its
    starts."""
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
        rates = [await jobs_a_second(new_database(kind)) for _ in range(ROUNDS)]
        figures.add(f"empty jobs, {kind}", _spread(rates, "{:.0f}") + " jobs/s")
        figures.add(
            f"  commit to start, {kind}, in process", _times(await wake_ups(new_database(kind)))
        )
    across = await wake_ups_across(new_database("postgresql"))
    figures.add("  commit to start, postgresql, across processes", _times(across))


async def test_the_same_by_procrastinate(postgresql_server: str, figures: Figures) -> None:
    rates = []
    for _ in range(ROUNDS):
        async with procrastinating(postgres.new_database(postgresql_server)) as (empty, starts):
            began = monotonic()
            for _ in range(JOBS):
                await empty.defer_async()
            for _ in range(JOBS):
                last = await starts.get()
            rates.append(JOBS / (last - began))
    figures.add("empty jobs, procrastinate with a lock", _spread(rates, "{:.0f}") + " jobs/s")

    times = []
    async with procrastinating(postgres.new_database(postgresql_server)) as (empty, starts):
        for _ in range(WAKE_UPS):
            await empty.defer_async()
            deferred = monotonic()
            times.append((await starts.get() - deferred) * 1000)
    figures.add("  deferred to start, procrastinate", _times(times))


def _times(milliseconds: list[float]) -> str:
    p50, p99 = percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def _spread(values: list[float], form: str) -> str:
    return ", ".join(form.format(value) for value in values)
