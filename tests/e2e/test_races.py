"""Cancel against claim: worker and canceller processes race for the same jobs, and exactly one wins
each job."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from queue import Empty
from time import monotonic
from uuid import UUID

import pytest
from sqlmodel import select

from app.domain.events import JobEventType
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import JobStatus
from app.services import jobs
from app.services.feed import Feed
from app.services.jobs import Requester
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.jobs import JobFilter
from app.storage.tables import Job
from app.wiring import open_database
from tests import factories
from tests.oracles.history import history_of
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.processes import LiveProcess, start_script, start_worker

pytestmark = pytest.mark.fault

CANCELLER = Path(__file__).parent / "canceller.py"
REQUESTER = Requester(factories.STORE, request_id="races")
WORKERS = 3
CANCELLERS = 3

BATCH = 25
"""Jobs enqueued at a time, while fewer are pending."""

POSSIBLE_RESULTS = {
    JobStatus.CANCELLED: {"won", "cancelled"},
    JobStatus.SUCCESS: {"started", "success"},
}
"""The possible results of attempts to cancel a job, by the job's last status."""


def new_attempts(canceller: LiveProcess) -> list[tuple[str, str]]:
    """Read the new lines of a canceller: job ids, and the results of the attempts."""
    attempts: list[tuple[str, str]] = []
    while True:
        try:
            line = canceller.lines.get_nowait()
        except Empty:
            return attempts
        if line is None:
            assert canceller.process.wait() == 0
            return attempts
        job, result = line.split()
        attempts.append((job, result))


def enqueue_batch(tx: Transaction, source: UUID) -> None:
    """Enqueue a batch of copies."""
    for _ in range(BATCH):
        jobs.request(tx, REQUESTER, Duplication(source))


async def raced(
    database: Database, cancellers: list[LiveProcess], races: int
) -> list[tuple[str, str]]:
    """Enqueue jobs until the cancellers have tried `races` of them and all have ended.

    Return the attempts.
    """
    source = await factories.hierarchy(database, {})
    feed = Feed(database)
    database.on_commit(feed.wake)
    listening = asyncio.create_task(database.listen())
    attempts: list[tuple[str, str]] = []
    tried: set[str] = set()
    enqueued, waiting, ended = 0, 0, 0
    async with aclosing(await feed.job_events(factories.STORE, JobFilter(), None)) as events:
        while ended < enqueued or len(tried) < races:
            if waiting < BATCH and len(tried) + waiting < races:
                await database.write(enqueue_batch, source)
                enqueued += BATCH
                waiting += BATCH
            event = await anext(events)
            waiting -= event.type in (JobEventType.STARTED, JobEventType.CANCELLED)
            ended += event.type.is_last
            new = [attempt for canceller in cancellers for attempt in new_attempts(canceller)]
            tried.update(job for job, _ in new)
            attempts += new
    listening.cancel()
    return attempts


@pytest.mark.timeout(1800)
async def test_either_a_claim_or_one_cancellation_of_a_job_wins(
    new_database: NewDatabase, counted: Callable[[int, int], int], report: Callable[[str], None]
) -> None:
    url = new_database("postgresql")
    database = open_database(Settings(database_url=url))
    workers = [start_worker(url) for _ in range(WORKERS)]
    cancellers = [start_script(CANCELLER, url, factories.STORE) for _ in range(CANCELLERS)]
    for canceller in cancellers:
        canceller.wait_for("cancelling")

    began = monotonic()
    attempts = await raced(database, cancellers, races=counted(100, 10_000))
    took = monotonic() - began
    for process in (*workers, *cancellers):
        assert process.stop(signal.SIGTERM) == 0
    for canceller in cancellers:
        attempts += new_attempts(canceller)

    def read(tx: Transaction) -> dict[str, JobStatus]:
        rows = session_of(tx).exec(select(Job.id, Job.status)).all()
        return {str(id): JobStatus(status) for id, status in rows}

    statuses = await database.read(read)
    database.close()
    history = history_of(url)
    assert history.faults == {}
    assert history.unended == 0

    impossible = [
        (job, result) for job, result in attempts if result not in POSSIBLE_RESULTS[statuses[job]]
    ]
    assert impossible == []
    won = Counter(job for job, result in attempts if result == "won")
    cancelled = [job for job, status in statuses.items() if status is JobStatus.CANCELLED]
    assert won == Counter(cancelled)

    results = Counter(result for _, result in attempts)
    tried = {job for job, _ in attempts}
    ran = sum(statuses[job] is JobStatus.SUCCESS for job in tried)
    report(
        f"{len(tried)} races in {took:.0f} s with {len(attempts)} attempts to cancel: "
        f"{len(cancelled)} jobs cancelled, {ran} run; refused because of a worker "
        f"{results['started'] + results['success']}, of another canceller "
        f"{results['cancelled']}; {history}"
    )
    assert cancelled
    assert ran
