"""Edits of a hierarchy of 100,000 nodes: moving and deleting a branch, adding a sibling."""

import resource
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.domain.hierarchies import ROOT_NO
from app.services import nodes as services
from app.settings import Settings
from app.storage import hierarchies, nodes
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.nodes import TreeNode
from app.storage.sql.keyset import KeysetWindow
from app.storage.tables import Hierarchy
from app.wiring import open_database
from tests import factories
from tests.bench.table import Figures
from tests.support.databases import DATABASES, NewDatabase
from tests.support.entities import session_of
from tests.support.large_hierarchy import large_hierarchy

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

NODES = 100_000
PRODUCTS = (1, 10)
TIMES = 3
PLAIN_MOVE = "UPDATE node SET depth = depth + 1 WHERE hierarchy_pk = :pk"
PLAIN_DELETE = [
    f"DELETE FROM {table} WHERE hierarchy_pk = :pk"
    for table in ("product_node", "node_product", "node")
]


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("kind", DATABASES)
async def test_move_and_delete_a_branch(
    new_database: NewDatabase, kind: str, products: int, figures: Figures
) -> None:
    database = open_database(Settings(database_url=new_database(kind)))
    try:
        await _measure_branch(database, kind, products, figures)
    finally:
        database.close()


async def _measure_branch(database: Database, kind: str, products: int, figures: Figures) -> None:
    store = factories.STORE
    id = await large_hierarchy(database, NODES, products)
    root = (await database.read(hierarchies.by_ids, store, [id]))[id]
    await database.write(lambda tx: tx.changed(sa.text("ANALYZE")))

    def gather(tx: Transaction) -> tuple[TreeNode, TreeNode]:
        """Move all nodes below a new one. Return it, and a new sibling."""
        whole = services.create(tx, store, id, {"name": "All"})
        key = whole.node.hierarchy_pk, ROOT_NO
        for _, top in nodes.children(tx, store, [key], KeysetWindow(100))[key].rows:
            if top.id != whole.id:
                services.move(tx, store, top.id, whole.id, {})
        return whole, services.create(tx, store, id, {"name": "Elsewhere"})

    branch, sibling = await database.write(gather)
    figures.add(f"{kind}: a branch of {NODES:,} nodes, products per node: {products}", "")
    plain = await _seconds(database, lambda tx: _plain(tx, [PLAIN_MOVE], root.pk))
    took = [
        await _seconds(database, partial(_move, id=branch.id, to=parent))
        for _ in range(TIMES)
        for parent in (sibling.id, id)
    ]
    figures.add("  move one level down or up", _against_plain_sql(median(took), plain))
    plain = await _seconds(database, lambda tx: _plain(tx, PLAIN_DELETE, root.pk))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    deleted = await _seconds(database, lambda tx: services.delete(tx, store, branch.id))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    figures.add("  delete", f"{_against_plain_sql(deleted, plain)}, memory +{grown:.0f} MiB")
    left = (await database.read(hierarchies.by_ids, store, [id]))[id]
    assert (left.node_count, left.association_count) == (1, 0)


@pytest.mark.parametrize("kind", DATABASES)
async def test_create_a_node_among_many_siblings(
    new_database: NewDatabase, kind: str, figures: Figures
) -> None:
    database = open_database(Settings(database_url=new_database(kind)))
    try:
        for siblings in (100, 10_000, NODES):
            id = await factories.hierarchy(database, {}, name=f"{siblings}")
            for first in range(1, siblings, 5_000):
                await database.write(_fill, id, first, min(first + 5_000, siblings + 1))
            took = [
                await _seconds(database, partial(_create, id=id, name=f"new {no}"))
                for no in range(TIMES * 5)
            ]
            figures.add(
                f"{kind}: createNode with {siblings:,} siblings", f"{median(took) * 1000:.1f} ms"
            )
    finally:
        database.close()


def _fill(tx: Transaction, id: UUID, first: int, last: int) -> None:
    hierarchy = session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == id)).one()
    at = hierarchy.created_at
    shared = {"parent_no": ROOT_NO, "depth": 1, "locales": {}, "created_at": at, "updated_at": at}
    rows = [
        {"node_no": no, "name": f"sibling {no}", "slug": f"sibling-{no}", "touched": -no}
        for no in range(first, last)
    ]
    nodes.add(tx, [{"hierarchy_pk": hierarchy.pk, **shared, **row} for row in rows])
    tx.changed(
        sa.update(Hierarchy)
        .where(col(Hierarchy.pk) == hierarchy.pk)
        .values(node_count=last, last_node_no=last)
    )


def _move(tx: Transaction, id: UUID, to: UUID) -> None:
    services.move(tx, factories.STORE, id, to, {})


def _create(tx: Transaction, id: UUID, name: str) -> None:
    services.create(tx, factories.STORE, id, {"name": name, "slug": name})


def _plain(tx: Transaction, statements: list[str], pk: int | None) -> None:
    for statement in statements:
        tx.changed(sa.text(statement), {"pk": pk})
    tx.connection.rollback()


async def _seconds(database: Database, work: Callable[[Transaction], object]) -> float:
    began = perf_counter()
    await database.write(work)
    return perf_counter() - began


def _against_plain_sql(took: float, plain: float) -> str:
    return f"{took:.2f} s, {took / plain:.1f} times plain SQL on the whole hierarchy"
