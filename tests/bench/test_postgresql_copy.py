"""A copy on PostgreSQL through the queue, compared with one INSERT ... SELECT per table."""

import asyncio
from statistics import median
from time import monotonic
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.domain.jobs import JobStatus
from app.queue.dispatcher import Dispatcher
from app.queue.handler import Dependencies
from app.queue.handlers import find_handlers
from app.services.feed import Feed
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from tests import factories
from tests.bench.table import Figures
from tests.support.databases import NewDatabase
from tests.support.large_hierarchy import large_hierarchy

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

NODES = 100_000
PRODUCTS_PER_NODE = 10
ROUNDS = 3
RATIO = 1.5

COLUMNS = {
    "node": "node_no, parent_no, depth, name, slug, description, sort_order, touched, locales,"
    " created_at, updated_at",
    "node_product": "node_no, product_pk, curated_position",
    "product_node": "product_pk, node_no",
}


async def test_a_copy_on_postgresql_is_about_as_fast_as_plain_sql(
    new_database: NewDatabase, figures: Figures
) -> None:
    database = connect(new_database("postgresql"))
    source = await large_hierarchy(database, NODES, PRODUCTS_PER_NODE)
    plain, queued = [], []
    for round in range(ROUNDS):
        plain.append(raw_copy(database, source, -1 - round))
        queued.append(await queued_copy(database, source))
    database.close()
    ratios = [took / raw for took, raw in zip(queued, plain, strict=True)]
    figures.add("PostgreSQL, 100k nodes + 1M associations: plain SQL", f"{median(plain):.2f} s")
    figures.add("  through the queue", f"{median(queued):.2f} s")
    figures.add_goal("  ratio to plain SQL", median(ratios), RATIO, "{:.2f}")


def raw_copy(database: Database, source: UUID, copy_pk: int) -> float:
    """Write all rows again under another key, in one transaction. Return the seconds."""
    began = monotonic()
    with database.write_engine.begin() as connection:
        pk_of_source = sa.text("SELECT pk FROM hierarchy WHERE id = :id")
        source_pk = connection.execute(pk_of_source, {"id": source}).scalar_one()
        root = sa.text(
            "INSERT INTO hierarchy SELECT (jsonb_populate_record(h, jsonb_build_object('pk',"
            " cast(:copy AS bigint), 'id', gen_random_uuid()))).* FROM hierarchy h WHERE pk = :pk"
        )
        connection.execute(root, {"copy": copy_pk, "pk": source_pk})
        for table, columns in COLUMNS.items():
            rows = sa.text(
                f"INSERT INTO {table} (hierarchy_pk, {columns})"
                f" SELECT :copy, {columns} FROM {table} WHERE hierarchy_pk = :pk"
            )
            connection.execute(rows, {"copy": copy_pk, "pk": source_pk})
    return monotonic() - began


async def queued_copy(database: Database, source: UUID) -> float:
    """Copy through an idle queue. Return the seconds from the request to the end of the job."""
    dispatcher, feed = Dispatcher(database, find_handlers(Dependencies(database))), Feed(database)
    database.on_commit(dispatcher.wake)
    database.on_commit(feed.wake)
    running = asyncio.create_task(dispatcher.run())
    began = monotonic()
    job = await factories.pending_duplication(database, source, include_products=True)
    async for event in await feed.job_updates(factories.STORE, job.id, None):
        job = event.job
    took = monotonic() - began
    dispatcher.stop()
    await running
    assert job.status is JobStatus.SUCCESS
    assert job.completed_items == NODES * (1 + PRODUCTS_PER_NODE)
    return took
