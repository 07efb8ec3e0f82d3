"""Reads that clients cause end with their request, on both databases."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.domain.answers import AnswerBudget
from app.storage.engine.client_reads import SCANS_PER_STORE, WorkTime, current_work_time
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.sqlite import MAX_LOOP_CHARACTERS
from app.storage.engine.statements import PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy
from tests import factories
from tests.support.databases import NewDatabase

ENDLESS = sa.text(
    "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT (n + 1) % 7 FROM endless) "
    "SELECT count(*) FROM endless"
)


def endless(tx: Transaction) -> object:
    return tx.rows(ENDLESS)


def computes_without_end(tx: Transaction) -> object:
    while True:
        tx.check_limit()


def thread(tx: Transaction) -> int:
    tx.rows(sa.text("SELECT 1"))
    return threading.get_ident()


@pytest.mark.parametrize("read", [endless, computes_without_end])
async def test_a_read_without_end_leaves_its_threads_to_others_and_ends_with_its_request(
    database: Database, read: Callable[[Transaction], object]
) -> None:
    # More than the threads for reads: if one did not end, the last read would wait forever.
    reads = [asyncio.create_task(database.client_read("attacker", read)) for _ in range(12)]
    for _ in range(5):
        assert await database.client_scan("victim", thread)
        await asyncio.sleep(0)
    for task in reads:
        task.cancel()
    await asyncio.wait(reads)
    assert all(task.cancelled() for task in reads)
    # The store's share is free again.
    for _ in range(SCANS_PER_STORE + 1):
        assert await database.client_scan("attacker", thread)


async def test_the_work_of_a_server_counts_as_work_of_its_client(new_database: NewDatabase) -> None:
    work_time = WorkTime()
    token = current_work_time.set(work_time)
    with closing(connect(new_database("postgresql"))) as database:
        await database.client_scan("store", lambda tx: tx.rows(sa.text("SELECT pg_sleep(0.1)")))
    current_work_time.reset(token)
    # This process computes for about 1 ms meanwhile.
    assert work_time.seconds >= 0.1


async def test_a_short_read_of_a_client_runs_where_reads_are_fastest(database: Database) -> None:
    read_thread = await database.client_read("store", thread)
    assert read_thread != await database.client_scan("store", thread)
    assert (read_thread == threading.get_ident()) == database.embedded


DESCRIPTIONS = PreparedQuery(lambda _: sa.select(col(Hierarchy.description)))


@pytest.mark.parametrize(
    ("characters", "is_long"), [(MAX_LOOP_CHARACTERS, False), (MAX_LOOP_CHARACTERS + 1, True)]
)
async def test_long_texts_are_not_read_on_the_event_loop(
    database: Database, characters: int, is_long: bool
) -> None:
    await factories.hierarchy(database, {}, description="x" * characters)
    texts: list[str | None] = []

    def read(tx: Transaction) -> int:
        tx.budget = AnswerBudget()
        texts[:] = [text for (text,) in tx.rows(DESCRIPTIONS)]
        return threading.get_ident()

    read_thread = await database.client_read("store", read)
    assert texts == ["x" * characters]
    assert (read_thread == threading.get_ident()) == (database.embedded and not is_long)
