"""Many workers on one store run one job at a time, in the order of creation."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import aclosing

import psycopg
import pytest
from sqlmodel import col, select

from app.domain.jobs import JobStatus
from app.services.feed import Feed
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.jobs import JobFilter
from app.storage.tables import Job
from app.wiring import open_database
from tests import factories
from tests.oracles.history import history_of
from tests.support import postgres
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.processes import start_worker

pytestmark = pytest.mark.fault

WORKERS = 8

NOTE_CLAIMS = """
CREATE TABLE claim (epoch bigint PRIMARY KEY, holder uuid NOT NULL);
CREATE FUNCTION note_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO claim VALUES (NEW.epoch, NEW.holder);
    RETURN NULL;
END $$;
CREATE TRIGGER note_claim AFTER UPDATE ON lane FOR EACH ROW
    WHEN (NEW.epoch > OLD.epoch) EXECUTE FUNCTION note_claim();
"""
"""Records the holder of each claim, which the lane overwrites."""


async def enqueue_and_wait(database: Database, number: int) -> None:
    """Enqueue `number` jobs one by one while they run. Return once all have ended."""
    source = await factories.hierarchy(database, {})
    feed = Feed(database)
    database.on_commit(feed.wake)
    listening = asyncio.create_task(database.listen())

    async def enqueue() -> None:
        for _ in range(number):
            await factories.pending_duplication(database, source)

    async with aclosing(await feed.job_events(factories.STORE, JobFilter(), None)) as events:
        enqueueing = asyncio.create_task(enqueue())
        ended = 0
        while ended < number:
            ended += (await anext(events)).type.is_last
        await enqueueing
    listening.cancel()


@pytest.mark.timeout(1800)
async def test_many_workers_run_the_jobs_of_a_store_one_at_a_time_and_in_order(
    new_database: NewDatabase, counted: Callable[[int, int], int], report: Callable[[str], None]
) -> None:
    url = new_database("postgresql")
    number = counted(60, 3_000)
    with psycopg.connect(postgres.plain(url), autocommit=True) as connection:
        connection.execute(NOTE_CLAIMS)
    database = open_database(Settings(database_url=url))
    workers = [start_worker(url) for _ in range(WORKERS)]

    await enqueue_and_wait(database, number)
    for worker in workers:
        assert worker.stop(signal.SIGTERM) == 0

    def read(tx: Transaction) -> list[Job]:
        return list(session_of(tx).exec(select(Job).order_by(col(Job.job_seq))))

    jobs = await database.read(read)
    database.close()
    with psycopg.connect(postgres.plain(url)) as connection:
        holders = [holder for (holder,) in connection.execute("SELECT holder FROM claim")]
    history = history_of(url)
    assert history.faults == {}
    assert history.statuses == {JobStatus.SUCCESS: number}
    assert len(holders) == number

    assert jobs[-1].completed_at
    seconds = (jobs[-1].completed_at - jobs[0].created_at).total_seconds()
    report(f"{number / seconds:.0f} jobs/s by {len(set(holders))} of {WORKERS} workers; {history}")
