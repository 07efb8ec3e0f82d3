"""The time of duplicationDiff, compared with counting the same rows."""

import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.settings import Settings
from app.storage import differences
from app.storage.engine.transaction import Transaction
from app.storage.tables import Job, Node, NodeProduct
from app.wiring import open_database
from tests import factories
from tests.bench.table import Figures
from tests.support.databases import DATABASES, NewDatabase
from tests.support.large_hierarchy import large_hierarchy

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ROUNDS = 3


@pytest.mark.parametrize("kind", DATABASES)
async def test_duplication_diff_against_counting_the_rows(
    kind: str, new_database: NewDatabase, figures: Figures
) -> None:
    database = open_database(Settings(database_url=new_database(kind)))
    try:
        source = await large_hierarchy(database, 100_000, 10)
        job = await factories.pending_duplication(database, source, include_products=True)
        await factories.ran_job(database)

        def count(tx: Transaction) -> int:
            tables = (Node, NodeProduct)
            counts = [sa.select(sa.func.count()).select_from(table) for table in tables]
            return sum(number for statement in counts for (number,) in tx.rows(statement))

        def compare(tx: Transaction) -> None:
            result = differences.of_duplication(tx, factories.STORE, job.id, 100)
            assert result
            assert result.counts == {}

        def status_of_job(tx: Transaction) -> str:
            [(status,)] = tx.rows(sa.select(col(Job.status)).where(col(Job.id) == job.id))
            return status

        assert await database.read(status_of_job) == "success"
        rows = await database.read(count)
        counted, compared = [
            [await _timed(database.scan, read) for _ in range(ROUNDS)] for read in (count, compare)
        ]
        figures.add(
            f"duplicationDiff of {rows:,} rows, {kind}",
            f"{min(compared):.2f} s, {min(compared) / min(counted):.1f} times counting the rows",
        )
    finally:
        database.close()


async def _timed(scan: Callable[..., object], read: Callable[[Transaction], object]) -> float:
    began = time.perf_counter()
    await scan(read)  # type: ignore[misc]  # `object` hides that the result is awaitable
    return time.perf_counter() - began
