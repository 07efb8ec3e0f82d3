"""Rows and blocks that each query reads.

On PostgreSQL a query reads about as many rows as it returns, at any table size and with any table
statistics: none, those from before an import, or fresh ones. The server itself counts, also for
prepared statements with a generic plan.

On SQLite, which plans without table statistics, hierarchies are read by the index of their store.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from app.domain.filters import Condition, Operator
from app.domain.hierarchies import HierarchyState, Owner, new_hierarchy_id, node_id
from app.domain.jobs import JobStatus, JobType
from app.domain.stores import ORGANIZATION, owner_of
from app.services import nodes as authoring
from app.settings import Settings
from app.storage import (
    ancestors,
    associations,
    copies,
    hierarchies,
    job_stats,
    jobs,
    lanes,
    nodes,
    products,
)
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.jobs import JobFilter
from app.storage.sql.keyset import Key, KeysetWindow
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.tables import Hierarchy, Job, Lane
from app.wiring import open_database
from tests import factories
from tests.support.databases import NewDatabase, insert_many
from tests.support.entities import read_transaction, session_of
from tests.support.large_hierarchy import large_hierarchy

NODES = 15_000
PRODUCTS = 10_000
PRODUCTS_PER_NODE = 3
JOBS = 20_000
PENDING = 100
RECENT = 300
"""Jobs of the last hours; all others are a year old."""
SMALL = 30
"""Hierarchies of a few nodes in the store of the large one; as many are the organization's."""

HIERARCHIES = 10_000
"""Hierarchies of another store that has many."""

ROWS, BLOCKS = 1_000, 700
"""Limits of each query; reading a whole table or index takes several times as much."""

EXECUTIONS = 12
"""psycopg prepares a statement after five executions, and PostgreSQL may use a generic plan after
five more."""

STORE = factories.STORE
MALL = "mall"
START = datetime(2026, 11, 22, tzinfo=UTC)
PAGE = KeysetWindow(20)
OFFSET_WINDOW = OffsetWindow(0, 20)
FEW = range(20)

Measured = sa.text(
    "SELECT sum(pg_stat_get_xact_tuples_returned(oid)), sum(pg_stat_get_xact_blocks_fetched(oid))"
    " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
)


@dataclass(frozen=True)
class Shop:
    """A database with one hierarchy far larger than the results of the queries."""

    database: Database
    id: UUID
    pk: int
    empty_pk: int
    """A hierarchy without nodes."""


@pytest.fixture(
    params=["none", pytest.param("outdated", marks=pytest.mark.long), "fresh"], scope="module"
)
async def shop(request: pytest.FixtureRequest, new_database: NewDatabase) -> AsyncIterator[Shop]:
    database = open_database(Settings(database_url=new_database("postgresql")))
    try:
        yield await _filled(database, request.param)
    finally:
        database.close()


async def _filled(database: Database, statistics: str) -> Shop:
    for table in SQLModel.metadata.sorted_tables:
        await _execute(database, f"ALTER TABLE {table.name} SET (autovacuum_enabled = off)")
    await database.write(_fill_mall)
    for number in range(SMALL):
        await factories.hierarchy(
            database,
            {f"{number}": {"below": {}}},
            name=f"Small {number}",
            products={"below": [f"{number}-{index}" for index in range(3)]},
        )
    if statistics == "outdated":
        await _execute(database, "ANALYZE")
    id = await large_hierarchy(database, NODES, PRODUCTS_PER_NODE, PRODUCTS)
    empty_id = await factories.hierarchy(database, {}, name="Empty")
    await database.write(_fill_queue)
    if statistics == "fresh":
        await _execute(database, "ANALYZE")
    rows = await database.read(hierarchies.by_ids, STORE, [id, empty_id])
    pk, empty_pk = rows[id].pk, rows[empty_id].pk
    assert pk is not None
    assert empty_pk is not None
    return Shop(database, id, pk, empty_pk)


MIDDLE = NODES // 2
IN_THE_MIDDLE = (START + timedelta(seconds=HIERARCHIES // 2), UUID(int=0))
READS: Mapping[str, Callable[[Transaction, Shop], Any]] = {
    "nodes by ids": lambda s, shop: nodes.by_ids(
        s, STORE, [node_id(shop.id, MIDDLE + no) for no in FEW]
    ),
    "nodes by keys": lambda s, shop: nodes.items_by_keys(
        s, STORE, [(shop.pk, MIDDLE + no) for no in FEW]
    ),
    "children of the root": lambda s, shop: nodes.children(s, STORE, [(shop.pk, 0)], PAGE),
    "children of nodes": lambda s, shop: nodes.children(
        s, STORE, [(shop.pk, no + 1) for no in FEW], PAGE
    ),
    "numbers of children": lambda s, shop: nodes.children_counts(
        s, STORE, [(shop.pk, no + 1) for no in FEW]
    ),
    "first nodes": lambda s, shop: nodes.of_hierarchies(s, STORE, [shop.pk], PAGE),
    "nodes in the middle": lambda s, shop: nodes.of_hierarchies(
        s, STORE, [shop.pk], KeysetWindow(20, after=(8, MIDDLE))
    ),
    "last nodes": lambda s, shop: nodes.of_hierarchies(
        s, STORE, [shop.pk], KeysetWindow(20, backward=True)
    ),
    "nodes of products": lambda s, shop: associations.nodes_of_products(
        s, STORE, [SMALL * 3 + no for no in range(1, 4)], PAGE
    ),
    "numbers of nodes of products": lambda s, shop: associations.counts_of_products(
        s, STORE, [SMALL * 3 + no for no in range(1, 4)]
    ),
    "ancestors": lambda s, shop: ancestors.of_nodes(
        s, STORE, [(shop.pk, MIDDLE + no) for no in FEW]
    ),
    "ancestors with translations": lambda s, shop: ancestors.of_rows(
        s, [nodes.by_ids(s, STORE, [id])[id] for id in (node_id(shop.id, MIDDLE),)], names=True
    ),
    "leaves": lambda s, shop: nodes.leaves(s, shop.pk, MIDDLE, 20),
    "first hierarchies": lambda s, shop: hierarchies.listing(s, STORE, [], PAGE),
    "first hierarchies of many": lambda s, shop: hierarchies.listing(s, MALL, [], PAGE),
    "hierarchies in the middle": lambda s, shop: hierarchies.listing(
        s, MALL, [], KeysetWindow(20, after=IN_THE_MIDDLE)
    ),
    "last hierarchies": lambda s, shop: hierarchies.listing(
        s, MALL, [], KeysetWindow(20, before=IN_THE_MIDDLE, backward=True)
    ),
    "hierarchies of the organization": lambda s, shop: hierarchies.listing(
        s, MALL, [owned_by(Owner.ORGANIZATION)], PAGE
    ),
    "the number of hierarchies": lambda s, shop: hierarchies.count(s, STORE, []),
    "hierarchies by ids": lambda s, shop: hierarchies.by_ids(s, STORE, [shop.id]),
    "rows of nodes by keys": lambda s, shop: nodes.by_keys(
        s, [(shop.pk, MIDDLE + no) for no in FEW]
    ),
    "nodes that have children": lambda s, shop: nodes.parents_among(
        s, [(shop.pk, MIDDLE + no) for no in FEW]
    ),
    "curated products": lambda s, shop: associations.curated_ids(
        s, [(shop.pk, MIDDLE + no) for no in FEW]
    ),
    "an offset page of the products of a node": lambda s, shop: associations.offset_page(
        s, STORE, (shop.pk, MIDDLE), OFFSET_WINDOW
    ),
    "first products": lambda s, shop: products.listing(s, STORE, [], PAGE),
    "products in the middle": lambda s, shop: products.listing(
        s, STORE, [], KeysetWindow(20, after=("SKU-5", UUID(int=0)))
    ),
    "products by skus": lambda s, shop: products.listing(
        s, STORE, [Condition("sku", Operator.IN, ["0-0", "1-1", "unknown"])], PAGE
    ),
    "products of nodes": lambda s, shop: associations.of_nodes(
        s, STORE, [(shop.pk, MIDDLE + no) for no in FEW], PAGE
    ),
    "numbers of products of nodes": lambda s, shop: associations.counts_of_nodes(
        s, STORE, [(shop.pk, MIDDLE + no) for no in FEW]
    ),
    "first jobs": lambda s, shop: jobs.listing(s, STORE, JobFilter(), False, PAGE),
    "jobs in the middle": lambda s, shop: jobs.listing(
        s, STORE, JobFilter(), False, KeysetWindow(20, after=(JOBS // 2,))
    ),
    "the next job": lambda s, shop: jobs.first_pending(s, STORE),
    "the oldest pending job": lambda s, shop: jobs.oldest_pending_at(s, STORE),
    "first pending jobs": lambda s, shop: jobs.queued(s, STORE, PAGE),
    "last pending jobs": lambda s, shop: jobs.queued(s, STORE, KeysetWindow(20, backward=True)),
    "pending jobs in the middle": lambda s, shop: jobs.queued(
        s, STORE, KeysetWindow(20, after=(JOBS - PENDING // 2,))
    ),
    "positions in the queue": lambda s, shop: lanes.queue_positions(s, STORE, _last_pending(s)),
    "stores with work": lambda s, shop: lanes.claimable_stores(s),
    "retries": lambda s, shop: jobs.newest_retries(s, STORE, [UUID(int=seq) for seq in FEW]),
    "the latest hours": lambda s, shop: job_stats.by_hour(s, STORE, 24),
}


COUNTED: Mapping[str, Callable[[Transaction, Shop], OffsetPage[Any]]] = {
    "hierarchies": lambda s, shop: hierarchies.offset_page(
        s, STORE, [], hierarchies.NEWEST_FIRST, OFFSET_WINDOW
    ),
    "many hierarchies": lambda s, shop: hierarchies.offset_page(
        s, MALL, [], hierarchies.NEWEST_FIRST, OFFSET_WINDOW
    ),
    "nodes": lambda s, shop: nodes.offset_page(s, _hierarchy(s, shop), [], None, OFFSET_WINDOW),
    "children of the root": lambda s, shop: nodes.offset_page(
        s, _hierarchy(s, shop), [], None, OFFSET_WINDOW, 0
    ),
    "children of a node": lambda s, shop: nodes.offset_page(
        s, _hierarchy(s, shop), [], None, OFFSET_WINDOW, 1
    ),
    "jobs": lambda s, shop: jobs.offset_page(s, STORE, [], jobs.NEWEST_FIRST, OFFSET_WINDOW),
}
"""Offset pages, which include a total."""


COUNTED_BY_ALL = {"many hierarchies": 2 * (HIERARCHIES + SMALL) + 2}
"""Counting half of a table is best done by reading all of it."""


def _hierarchy(tx: Transaction, shop: Shop) -> Hierarchy:
    return session_of(tx).get_one(Hierarchy, shop.pk)


EDITS: Mapping[str, Callable[[Transaction, Shop], Any]] = {
    "the lock": lambda s, shop: hierarchies.begin_edit(s, STORE, shop.id),
    "a node": lambda s, shop: nodes.by_no(s, shop.pk, MIDDLE),
    "siblings without that name": lambda s, shop: nodes.sibling_with(s, shop.pk, 1, "?", None, 2),
    "siblings without that name and slug": lambda s, shop: nodes.sibling_with(
        s, shop.pk, 1, "?", "?", 2
    ),
    "no siblings": lambda s, shop: nodes.sibling_with(s, shop.pk, NODES, "?", "?", 2),
    "products of a node": lambda s, shop: associations.attached(
        s, (shop.pk, MIDDLE), range(1, 101)
    ),
    "the last number": lambda s, shop: nodes.last_no(s, shop.pk),
}
"""Queries on a hierarchy while it is locked."""

numbers = count(1)
CHANGES: Mapping[str, Callable[[Transaction, Shop], Any]] = {
    "create": lambda s, shop: authoring.create(
        s, STORE, node_id(shop.id, MIDDLE), {"name": f"New {next(numbers)}", "slug": None}
    ),
    "update": lambda s, shop: authoring.update(
        s, STORE, node_id(shop.id, MIDDLE), {"name": f"Changed {next(numbers)}"}
    ),
    "move": lambda s, shop: authoring.move(
        s, STORE, node_id(shop.id, NODES), node_id(shop.id, 2 + next(numbers) % 2), {}
    ),
    "delete": lambda s, shop: authoring.delete(s, STORE, node_id(shop.id, NODES - next(numbers))),
}
"""Mutations, each in one transaction."""


@pytest.mark.parametrize("read", READS)
async def test_a_query_reads_a_limited_number_of_rows_and_blocks(shop: Shop, read: str) -> None:
    def read_often(tx: Transaction) -> list[tuple[int, int]]:
        return [_measured(tx, lambda: READS[read](tx, shop)) for _ in range(EXECUTIONS)]

    for rows, blocks in await shop.database.read(read_often):
        assert (rows <= ROWS, blocks <= BLOCKS) == (True, True), (rows, blocks)


@pytest.mark.parametrize("page", COUNTED)
async def test_an_offset_page_reads_no_more_rows_than_it_shows_and_counts(
    shop: Shop, page: str
) -> None:
    def read_often(tx: Transaction) -> list[tuple[int, int]]:
        total = COUNTED[page](tx, shop).total
        return [
            (_measured(tx, lambda: COUNTED[page](tx, shop))[0], total) for _ in range(EXECUTIONS)
        ]

    for rows, total in await shop.database.read(read_often):
        assert rows <= COUNTED_BY_ALL.get(page, total) + ROWS


@pytest.mark.parametrize("read", EDITS)
async def test_a_query_on_a_locked_hierarchy_reads_a_limited_number_of_rows_and_blocks(
    shop: Shop, read: str
) -> None:
    def read_often(tx: Transaction) -> list[tuple[int, int]]:
        return [_measured(tx, lambda: EDITS[read](tx, shop)) for _ in range(EXECUTIONS)]

    for rows, blocks in await shop.database.write(read_often):
        assert (rows <= ROWS, blocks <= BLOCKS) == (True, True), (rows, blocks)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_mutation_of_a_node_reads_a_limited_number_of_rows_and_blocks(
    shop: Shop, change: str
) -> None:
    def change_often(tx: Transaction) -> list[tuple[int, int]]:
        counts = [_measured(tx, lambda: CHANGES[change](tx, shop)) for _ in range(EXECUTIONS)]
        tx.connection.rollback()
        return counts

    for rows, blocks in await shop.database.write(change_often):
        assert (rows <= ROWS, blocks <= BLOCKS) == (True, True), (rows, blocks)


COPIES: Mapping[str, Callable[[Transaction, int, int, Key | None], tuple[int, Key | None]]] = {
    "nodes": lambda s, source, copy, after: copies.copy_nodes(s, source, copy, after, 50, START),
    "associations": lambda s, source, copy, after: copies.copy_associations(
        s, source, copy, after, 5, skip_deleted=False
    ),
    "reverse associations": lambda s, source, copy, after: copies.copy_reverse_associations(
        s, source, copy, after, 5, skip_deleted=False
    ),
}


@pytest.mark.parametrize("copy", COPIES)
async def test_a_chunk_of_a_copy_reads_no_more_rows_than_it_writes(shop: Shop, copy: str) -> None:
    def chunks(tx: Transaction) -> list[int]:
        after: Key | None = None
        written: list[int] = []

        def chunk() -> None:
            nonlocal after
            rows, after = COPIES[copy](tx, shop.pk, shop.empty_pk, after)
            written.append(rows)

        read = [_measured(tx, chunk)[0] for _ in range(EXECUTIONS)]
        tx.connection.rollback()
        assert min(written) >= 50
        return read

    assert max(await shop.database.write(chunks)) <= ROWS


def _measured(tx: Transaction, run: Callable[[], object]) -> tuple[int, int]:
    [(rows, blocks)] = tx.rows(Measured)
    run()
    [(rows_then, blocks_then)] = tx.rows(Measured)
    return rows_then - rows, blocks_then - blocks


BY_STORE = re.compile(r"SEARCH hierarchy USING (COVERING )?INDEX ix_hierarchy_store_\w+ \(store=\?")
OF_HIERARCHIES: Mapping[str, Callable[[Transaction], Any]] = {
    "first hierarchies": lambda s: hierarchies.listing(s, MALL, [], PAGE),
    "last hierarchies": lambda s: hierarchies.listing(
        s, MALL, [], KeysetWindow(20, before=IN_THE_MIDDLE, backward=True)
    ),
    "the number of hierarchies": lambda s: hierarchies.count(s, MALL, []),
    "numbers of nodes of products": lambda s: associations.counts_of_products(s, MALL, [1, 2]),
}


@pytest.fixture(scope="module")
async def mall(new_database: NewDatabase) -> AsyncIterator[Database]:
    """A SQLite file with many hierarchies and, as always, no table statistics."""
    database = open_database(Settings(database_url=new_database("sqlite")))
    await database.write(_fill_mall)
    try:
        yield database
    finally:
        database.close()


@pytest.mark.parametrize("read", OF_HIERARCHIES)
async def test_on_sqlite_hierarchies_are_read_in_the_order_of_their_store_index(
    mall: Database, read: str
) -> None:
    steps = _steps(mall, OF_HIERARCHIES[read])
    of_hierarchies = [step for step in steps if " hierarchy " in step]
    assert of_hierarchies
    assert all(map(BY_STORE.match, of_hierarchies)), of_hierarchies
    assert not [step for step in steps if "ORDER BY" in step]


async def test_on_sqlite_an_offset_page_of_hierarchies_uses_the_index_of_their_store(
    mall: Database,
) -> None:
    steps = _steps(
        mall,
        lambda s: hierarchies.offset_page(s, MALL, [], hierarchies.NEWEST_FIRST, OFFSET_WINDOW),
    )
    of_hierarchies = [step for step in steps if " hierarchy " in step]
    by_store = list(filter(BY_STORE.match, of_hierarchies))
    # The store's own, the organization's and the total; then the rows of the page.
    assert len(by_store) == 3
    (rows,) = (step for step in of_hierarchies if step not in by_store)
    assert rows == "SEARCH hierarchy USING INTEGER PRIMARY KEY (rowid=?)"


def _steps(database: Database, run: Callable[[Transaction], object]) -> list[str]:
    """The steps of SQLite's query plans for the statements of `run`."""
    executed: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        executed.append((statement, values))

    with read_transaction(database) as tx:
        sa.event.listen(tx.connection, "before_cursor_execute", note)
        run(tx)
        sa.event.remove(tx.connection, "before_cursor_execute", note)
        return [
            step.detail
            for statement, values in executed
            for step in tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]


def _fill_mall(tx: Transaction) -> None:
    """Insert many hierarchies of two stores, and a few of the organization."""
    rows = [
        {
            "id": new_hierarchy_id(),
            "store": store,
            "owner": owner_of(store),
            "state": HierarchyState.READY,
            "name": f"{store} {number}",
            "created_at": START + timedelta(seconds=number * HIERARCHIES // many),
            "updated_at": START,
        }
        for store, many in ((MALL, HIERARCHIES), ("other", HIERARCHIES), (ORGANIZATION, SMALL))
        for number in range(many)
    ]
    insert_many(tx, Hierarchy, rows)


def _fill_queue(tx: Transaction) -> None:
    at = datetime.now(UTC)
    rows = [
        {
            "id": uuid4(),
            "store": STORE,
            "job_seq": seq,
            "turn": seq,
            "type": JobType.HIERARCHY_DUPLICATE,
            "status": JobStatus.SUCCESS if seq <= JOBS - PENDING else JobStatus.PENDING,
            "created_at": at - timedelta(days=365 * (seq <= JOBS - RECENT), seconds=JOBS - seq),
            "updated_at": at,
            "request_id": "test",
            "retry_of": UUID(int=seq // 2) if seq < 1000 else None,
        }
        for seq in range(1, JOBS + 1)
    ]
    insert_many(tx, Job, rows)
    tx.changed(sa.insert(Lane).values(store=STORE, job_seq=JOBS, pending=PENDING))


def _last_pending(tx: Transaction) -> list[int]:
    """The keys of the last pending jobs."""
    last = jobs.queued(tx, STORE, KeysetWindow(20, backward=True)).rows
    return [job.pk for _, job in last if job.pk]


async def _execute(database: Database, statement: str) -> None:
    await database.write(lambda tx: tx.changed(sa.text(statement)))


def owned_by(owner: Owner) -> Condition:
    return Condition("owner", Operator.EQ, [owner])
