"""What duplicationDiff costs, beside reading the same rows once."""

import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.settings import Settings
from app.storage import differences
from app.storage.tables import Job, Node, NodeProduct
from app.wiring import open_database
from tests import factories
from tests.bench.data import large_hierarchy
from tests.bench.table import Figures
from tests.support.databases import DATABASES, NewDatabase

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ROUNDS = 3


@pytest.mark.parametrize("kind", DATABASES)
async def test_a_comparison_takes_a_few_times_as_long_as_counting_the_rows(
    kind: str, new_database: NewDatabase, figures: Figures
) -> None:
    database = open_database(Settings(database_url=new_database(kind)))
    try:
        source = await large_hierarchy(database, 100_000, 10)
        job = await factories.pending_duplication(database, source, include_products=True)
        await factories.ran_job(database)

        def count(session: Session) -> int:
            tables = (Node, NodeProduct)
            counts = [sa.select(sa.func.count()).select_from(table) for table in tables]
            return sum(int(session.execute(one).scalar_one()) for one in counts)

        def compare(session: Session) -> None:
            found = differences.of_duplication(session, factories.STORE, job.id, 100)
            assert found
            assert found.counts == {}

        def ended(session: Session) -> str:
            return session.exec(select(Job.status).where(col(Job.id) == job.id)).one()

        assert await database.read(ended) == "success"
        rows = await database.read(count)
        counted, compared = [
            [await _timed(database.scan, what) for _ in range(ROUNDS)] for what in (count, compare)
        ]
        figures.add(
            f"duplicationDiff of {rows:,} rows, {kind}",
            f"{min(compared):.2f} s, {min(compared) / min(counted):.1f} times counting them",
        )
    finally:
        database.close()


async def _timed(scan: Callable[..., object], what: Callable[[Session], object]) -> float:
    began = time.perf_counter()
    await scan(what)  # type: ignore[misc]  # whatever it gives is awaited
    return time.perf_counter() - began
