"""Writes of the queue by the first `app` on the path.

Prints the folder of that `app`. Then reads lines such as "enqueue 200", a kind and a number of
writes, and prints the seconds of each line. Preparations are not timed.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from time import perf_counter
from uuid import UUID

import app
from app.domain.jobs import Duplication
from app.services import attempts, jobs
from app.services.attempts import JobResult, Step
from app.services.jobs import Requester
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.migrations import upgrade
from app.storage.tables import JobRow
from tests import factories

LEASE = timedelta(seconds=30)
CONCURRENCY = 16


class Writes:
    """One method per kind, for `number` writes. Each returns the seconds."""

    def __init__(self, database: Database, hierarchy_id: UUID) -> None:
        self._database = database
        self._duplication = Duplication(hierarchy_id)
        self._requester = Requester(factories.STORE, "bench")
        self._numbers = count()

    async def enqueue(self, number: int) -> float:
        return await _timed(self._enqueue, number)

    async def enqueue_with_key(self, number: int) -> float:
        keys = [f"key-{next(self._numbers)}" for _ in range(number)]
        return await _timed(lambda: self._enqueue(keys.pop()), number)

    async def enqueue_concurrently(self, number: int) -> float:
        async def enqueue_share() -> None:
            for _ in range(number // CONCURRENCY):
                await self._enqueue()

        async def enqueue_all() -> None:
            await asyncio.gather(*(enqueue_share() for _ in range(CONCURRENCY)))

        return await _timed(enqueue_all, 1)

    async def cancel(self, number: int) -> float:
        pending = [(await self._enqueue()).id for _ in range(number)]
        return await _timed(
            lambda: self._database.write(jobs.cancel, factories.STORE, pending.pop()), number
        )

    async def run(self, number: int) -> float:
        for _ in range(number):
            await self._enqueue()

        async def run() -> None:
            await self._end(await factories.claimed_job(self._database))

        return await _timed(run, number)

    async def step(self, number: int) -> float:
        await self._enqueue()
        job = await factories.claimed_job(self._database)

        async def step() -> None:
            nonlocal job
            done = next(self._numbers)
            job = await self._database.write_bulk(_advance, job, Step({"at": done}, done, done))

        seconds = await _timed(step, number)
        await self._end(job)
        return seconds

    async def _enqueue(self, key: str | None = None) -> JobRow:
        requested = await self._database.write(
            jobs.request_duplication, self._requester, self._duplication, key
        )
        return requested.job

    async def _end(self, job: JobRow) -> None:
        await self._database.write(attempts.succeed, job, lambda: JobResult(0))


def _advance(tx: Transaction, job: JobRow, step: Step) -> JobRow:
    return attempts.advance(tx, job, lambda: step)


async def _timed(write: Callable[[], Awaitable[object]], number: int) -> float:
    began = perf_counter()
    for _ in range(number):
        await write()
    return perf_counter() - began


async def main() -> None:
    database = connect(os.environ["DATABASE_URL"])
    upgrade(database)
    writes = Writes(database, await factories.hierarchy(database, {"A": {}}))
    print(Path(app.__file__).parent, flush=True)
    for line in sys.stdin:
        kind, number = line.split()
        print(await getattr(writes, kind)(int(number)), flush=True)
    database.close()


if __name__ == "__main__":
    asyncio.run(main())
