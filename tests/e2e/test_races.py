"""Cancel against claim: workers and cancellers, processes all of them, go for the same jobs, and of
each job exactly one gets its way."""

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
from sqlmodel import Session, select

from app.domain.events import JobEventType
from app.domain.jobs import Duplication, JobStatus
from app.services import jobs
from app.services.feed import Feed
from app.services.jobs import Requester
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.jobs import JobFilter
from app.storage.tables import Job
from app.wiring import open_database
from tests import factories
from tests.oracles.history import history_of
from tests.support.databases import NewDatabase
from tests.support.processes import LiveProcess, start_script, start_worker

CANCELLER = Path(__file__).parent / "canceller.py"
REQUESTER = Requester(factories.STORE, request_id="races")
WORKERS = 3
CANCELLERS = 3

BATCH = 25
"""How many jobs are asked for at a time, whenever fewer than these wait."""

TOLD_OF = {
    JobStatus.CANCELLED: {"won", "cancelled"},
    JobStatus.SUCCESS: {"started", "success"},
}
"""What a canceller may have been told of a job that has come to that status."""


def new_tries(canceller: LiveProcess) -> list[tuple[str, str]]:
    """What a canceller has printed since it was last asked: jobs, and what it was told of them."""
    tries: list[tuple[str, str]] = []
    while True:
        try:
            line = canceller.lines.get_nowait()
        except Empty:
            return tries
        if line is None:
            assert canceller.process.wait() == 0
            return tries
        job, told = line.split()
        tries.append((job, told))


def ask(session: Session, source: UUID) -> None:
    """Ask for a batch of copies."""
    for _ in range(BATCH):
        jobs.request_duplication(session, REQUESTER, Duplication(source))


async def raced(
    database: Database, cancellers: list[LiveProcess], races: int
) -> list[tuple[str, str]]:
    """The tries of the cancellers up to where they have tried `races` jobs and all jobs ended."""
    source = await factories.hierarchy(database, {})
    feed = Feed(database)
    database.on_commit(feed.wake)
    hearing = asyncio.create_task(database.listen())
    tries: list[tuple[str, str]] = []
    tried: set[str] = set()
    asked, waiting, ended = 0, 0, 0
    async with aclosing(await feed.job_events(factories.STORE, JobFilter(), None)) as happenings:
        while ended < asked or len(tried) < races:
            if waiting < BATCH and len(tried) + waiting < races:
                await database.write(ask, source)
                asked += BATCH
                waiting += BATCH
            happening = await anext(happenings)
            waiting -= happening.type in (JobEventType.STARTED, JobEventType.CANCELLED)
            ended += happening.type.is_last
            new = [told for canceller in cancellers for told in new_tries(canceller)]
            tried.update(job for job, _ in new)
            tries += new
    hearing.cancel()
    return tries


@pytest.mark.timeout(1800)
async def test_of_those_who_cancel_a_job_and_those_who_claim_it_one_gets_its_way(
    new_database: NewDatabase, counted: Callable[[int, int], int], report: Callable[[str], None]
) -> None:
    url = new_database("postgresql")
    database = open_database(Settings(database_url=url))
    workers = [start_worker(url) for _ in range(WORKERS)]
    cancellers = [start_script(CANCELLER, url, factories.STORE) for _ in range(CANCELLERS)]
    for canceller in cancellers:
        canceller.wait_for("cancelling")

    began = monotonic()
    tries = await raced(database, cancellers, races=counted(100, 10_000))
    took = monotonic() - began
    for process in (*workers, *cancellers):
        assert process.stop(signal.SIGTERM) == 0
    for canceller in cancellers:
        tries += new_tries(canceller)

    def read(session: Session) -> dict[str, JobStatus]:
        found = session.exec(select(Job.id, Job.status)).all()
        return {str(id): JobStatus(status) for id, status in found}

    statuses = await database.read(read)
    database.close()
    history = history_of(url)
    assert history.faults == {}
    assert history.unended == 0

    untrue = [(job, told) for job, told in tries if told not in TOLD_OF[statuses[job]]]
    assert untrue == []
    won = Counter(job for job, told in tries if told == "won")
    cancelled = [job for job, status in statuses.items() if status is JobStatus.CANCELLED]
    assert won == Counter(cancelled)

    told = Counter(told for _, told in tries)
    tried = {job for job, _ in tries}
    ran = sum(statuses[job] is JobStatus.SUCCESS for job in tried)
    report(
        f"{len(tried)} races in {took:.0f} s with {len(tries)} tries: {len(cancelled)} cancelled, "
        f"{ran} ran; refused because a worker was first {told['started'] + told['success']}, "
        f"another canceller {told['cancelled']}; {history}"
    )
    assert cancelled
    assert ran
