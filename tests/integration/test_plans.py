"""On PostgreSQL what a read reads is that of what it returns, however large the tables are and
whatever the server knows of them: nothing yet, what they were before an import, or all. It is
counted by the server itself, also for statements that it has prepared and may plan once for all.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import Session, SQLModel

from app.domain.hierarchies import node_id
from app.domain.jobs import JobStatus, JobType
from app.main import Settings, open_database
from app.storage import copies, hierarchies, jobs, nodes
from app.storage.database import Database
from app.storage.jobs import JobFilter
from app.storage.pages import Key, Window
from app.storage.tables import Job
from tests import given
from tests.bench.data import large_hierarchy
from tests.conftest import NewDatabase

NODES = 30_000
PRODUCTS = 10_000
PRODUCTS_PER_NODE = 3
JOBS = 10_000
SMALL = 30
"""Hierarchies of a few nodes beside the large one."""

ROWS, BLOCKS = 1_000, 700
"""What no read here needs; those that read a whole table or index read several times as much."""

EXECUTIONS = 12
"""psycopg prepares what it has sent five times, and PostgreSQL may plan once for all what it has
planned five times."""

STORE = given.STORE
PAGE = Window(20)
FEW = range(20)

Measured = sa.text(
    "SELECT sum(pg_stat_get_xact_tuples_returned(oid)), sum(pg_stat_get_xact_blocks_fetched(oid))"
    " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
)


@dataclass(frozen=True)
class Shop:
    """A database with one hierarchy that is far larger than what is read of it."""

    database: Database
    id: UUID
    pk: int
    empty_pk: int
    """A hierarchy without nodes."""


@pytest.fixture(params=["none", "outdated", "fresh"], scope="module")
async def shop(request: pytest.FixtureRequest, new_database: NewDatabase) -> AsyncIterator[Shop]:
    database = open_database(Settings(database_url=new_database("postgresql")))
    try:
        yield await _filled(database, request.param)
    finally:
        database.close()


async def _filled(database: Database, known: str) -> Shop:
    for table in SQLModel.metadata.sorted_tables:
        await _execute(database, f"ALTER TABLE {table.name} SET (autovacuum_enabled = off)")
    for number in range(SMALL):
        await given.hierarchy(
            database,
            {f"{number}": {"below": {}}},
            name=f"Small {number}",
            products={"below": [f"{number}-{place}" for place in range(3)]},
        )
    if known == "outdated":
        await _execute(database, "ANALYZE")
    id = await large_hierarchy(database, NODES, PRODUCTS_PER_NODE, PRODUCTS)
    empty_id = await given.hierarchy(database, {}, name="Empty")
    await database.write(_fill_queue)
    if known == "fresh":
        await _execute(database, "ANALYZE")
    found = await database.read(hierarchies.by_ids, STORE, [id, empty_id])
    pk, empty_pk = found[id].pk, found[empty_id].pk
    assert pk is not None
    assert empty_pk is not None
    return Shop(database, id, pk, empty_pk)


MIDDLE = NODES // 2
READS: Mapping[str, Callable[[Session, Shop], Any]] = {
    "nodes by ids": lambda s, of: nodes.by_ids(
        s, STORE, [node_id(of.id, MIDDLE + no) for no in FEW]
    ),
    "nodes by keys": lambda s, of: nodes.items_by_keys(
        s, STORE, [(of.pk, MIDDLE + no) for no in FEW]
    ),
    "children of the root": lambda s, of: nodes.children(s, STORE, [(of.pk, 0)], PAGE),
    "children of nodes": lambda s, of: nodes.children(
        s, STORE, [(of.pk, no + 1) for no in FEW], PAGE
    ),
    "numbers of children": lambda s, of: nodes.children_counts(
        s, STORE, [(of.pk, no + 1) for no in FEW]
    ),
    "first nodes": lambda s, of: nodes.of_hierarchies(s, STORE, [of.pk], PAGE),
    "nodes in the middle": lambda s, of: nodes.of_hierarchies(
        s, STORE, [of.pk], Window(20, after=(8, MIDDLE))
    ),
    "last nodes": lambda s, of: nodes.of_hierarchies(s, STORE, [of.pk], Window(20, backward=True)),
    "nodes of products": lambda s, of: nodes.of_products(
        s, STORE, [SMALL * 3 + no for no in range(1, 4)], PAGE
    ),
    "numbers of nodes of products": lambda s, of: nodes.counts_of_products(
        s, STORE, [SMALL * 3 + no for no in range(1, 4)]
    ),
    "ways up": lambda s, of: nodes.ancestors(s, STORE, [(of.pk, MIDDLE + no) for no in FEW]),
    "leaves": lambda s, of: nodes.leaves(s, of.pk, MIDDLE, 20),
    "first hierarchies": lambda s, of: hierarchies.listing(
        s, STORE, hierarchies.HierarchyFilter(), PAGE
    ),
    "first jobs": lambda s, of: jobs.listing(s, STORE, JobFilter(), False, PAGE),
    "jobs in the middle": lambda s, of: jobs.listing(
        s, STORE, JobFilter(), False, Window(20, after=(JOBS // 2,))
    ),
    "the next job": lambda s, of: jobs.first_pending(s, STORE),
}


@pytest.mark.parametrize("read", READS)
async def test_a_read_reads_no_more_than_what_it_returns(shop: Shop, read: str) -> None:
    def read_often(session: Session) -> list[tuple[int, int]]:
        return [_measured(session, lambda: READS[read](session, shop)) for _ in range(EXECUTIONS)]

    for rows, blocks in await shop.database.read(read_often):
        assert (rows <= ROWS, blocks <= BLOCKS) == (True, True), (rows, blocks)


COPIES: Mapping[str, Callable[[Session, int, int, Key | None], tuple[int, Key | None]]] = {
    "nodes": lambda s, source, copy, after: copies.nodes(
        s, source, copy, after, 50, datetime(2026, 11, 22, tzinfo=UTC)
    ),
    "associations": lambda s, source, copy, after: copies.associations(s, source, copy, after, 5),
    "the other way round": lambda s, source, copy, after: copies.reverse_associations(
        s, source, copy, after, 5
    ),
}


@pytest.mark.parametrize("copy", COPIES)
async def test_a_chunk_of_a_copy_reads_no_more_rows_than_it_writes(shop: Shop, copy: str) -> None:
    def chunks(session: Session) -> list[int]:
        after: Key | None = None
        written: list[int] = []

        def chunk() -> None:
            nonlocal after
            rows, after = COPIES[copy](session, shop.pk, shop.empty_pk, after)
            written.append(rows)

        read = [_measured(session, chunk)[0] for _ in range(EXECUTIONS)]
        session.rollback()
        assert min(written) >= 50
        return read

    assert max(await shop.database.write(chunks)) <= ROWS


def _measured(session: Session, run: Callable[[], object]) -> tuple[int, int]:
    rows, blocks = session.execute(Measured).one()
    run()
    rows_then, blocks_then = session.execute(Measured).one()
    return rows_then - rows, blocks_then - blocks


def _fill_queue(session: Session) -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    rows = [
        {
            "id": uuid4(),
            "store": STORE,
            "job_seq": seq,
            "type": JobType.HIERARCHY_DUPLICATE,
            "status": JobStatus.SUCCESS if seq < JOBS - 100 else JobStatus.PENDING,
            "created_at": at + timedelta(seconds=seq),
            "updated_at": at,
            "request_id": "given",
        }
        for seq in range(1, JOBS + 1)
    ]
    session.execute(sa.insert(Job), rows)


async def _execute(database: Database, statement: str) -> None:
    await database.write(lambda session: session.execute(sa.text(statement)))
