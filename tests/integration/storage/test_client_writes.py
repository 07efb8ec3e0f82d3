"""Writes that clients cause are charged, and leave room for those of other stores."""

import asyncio
from collections.abc import Callable
from time import thread_time

import pytest

from app.storage.engine.client_reads import WorkTime, current_work_time
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.engine.writer import Priority

SECONDS = 0.05


def number_of(_tx: Transaction, number: int) -> int:
    return number


async def test_few_writes_of_a_store_are_queued_before_those_of_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[Priority] = []
    gate = asyncio.Event()
    run_write = database._run_write

    async def gated(transaction: Callable[[], object], priority: Priority) -> object:
        queued.append(priority)
        await gate.wait()
        return await run_write(transaction, priority)

    async def open_gate() -> int:
        gate.set()
        return len(queued)

    monkeypatch.setattr(database, "_run_write", gated)
    *numbers, queued_at_first = await asyncio.gather(
        *(database.client_write("busy", number_of, number) for number in range(20)),
        database.client_write("other", number_of, 20),
        # It begins after all others.
        open_gate(),
    )
    assert numbers == list(range(21))
    assert queued_at_first == database.writes_per_store + 1


async def test_a_client_pays_for_the_processor_time_of_its_writes(database: Database) -> None:
    def slow(tx: Transaction) -> None:
        end = thread_time() + SECONDS
        while thread_time() < end:
            pass
        raise KeyError

    time = WorkTime()
    current_work_time.set(time)
    with pytest.raises(KeyError):
        await database.client_write("store", slow)
    assert time.seconds >= SECONDS
