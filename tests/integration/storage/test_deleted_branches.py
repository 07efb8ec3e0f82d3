"""Associations of a deleted branch: invisible at once, swept soon."""

import asyncio

import pytest
from sqlmodel import SQLModel, func, select

from app.domain.hierarchies import node_id
from app.queue.sweeper import Sweeper
from app.services import hierarchies as authoring
from app.services import nodes as services
from app.services import products as attaching
from app.storage import associations, hierarchies, products, subtrees
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.sql.keyset import KeysetWindow
from app.storage.tables import DeletedNode, Hierarchy, HierarchyRow, Node, NodeProduct, ProductNode
from tests import factories
from tests.factories import STORE
from tests.support.entities import session_of

TREE: factories.Tree = {"Trees": {"Oaks": {"Red": {}, "White": {}}, "Firs": {}}, "Shrubs": {}}
SKUS = [f"sku-{no:02}" for no in range(30)]
EVERYWHERE = dict.fromkeys(("Trees", "Oaks", "Red", "White", "Firs", "Shrubs"), SKUS)
ALL = KeysetWindow(100)


async def garden(database: Database) -> HierarchyRow:
    """A hierarchy of six nodes with thirty products each."""
    id = await factories.hierarchy(database, TREE, products=EVERYWHERE, curated={"Oaks": SKUS[:3]})
    return (await database.read(hierarchies.by_ids, STORE, [id]))[id]


async def delete_oaks(database: Database, garden: HierarchyRow) -> None:
    await database.write(services.delete, STORE, node_id(garden.id, 2))


async def rows_of(database: Database, table: type[SQLModel]) -> int:
    return await database.read(
        lambda tx: session_of(tx).exec(select(func.count()).select_from(table)).one()
    )


async def test_associations_of_a_deleted_branch_are_invisible(database: Database) -> None:
    hierarchy = await garden(database)
    await delete_oaks(database, hierarchy)
    assert await rows_of(database, NodeProduct) == 180
    (product,) = [
        product
        for _, product in (await database.read(products.listing, STORE, [], KeysetWindow(1))).rows
    ]
    assert product.pk is not None
    pages = await database.read(associations.nodes_of_products, STORE, [product.pk], ALL)
    assert [row.node.name for _, row in pages[product.pk].rows] == ["Trees", "Firs", "Shrubs"]
    assert await database.read(associations.counts_of_products, STORE, [product.pk]) == {
        product.pk: 3
    }
    remaining = await database.read(hierarchies.by_id, STORE, hierarchy.id)
    assert remaining is not None
    assert (remaining.node_count, remaining.association_count) == (3, 90)


async def test_a_copy_before_the_sweep_has_only_the_visible_associations(
    database: Database,
) -> None:
    hierarchy = await garden(database)
    await delete_oaks(database, hierarchy)
    await factories.pending_duplication(database, hierarchy.id, include_products=True)
    await factories.ran_job(database)

    def copied(tx: Transaction) -> tuple[int, int, int, int]:
        copy = (
            session_of(tx)
            .exec(select(Hierarchy).where(Hierarchy.copied_from == hierarchy.id))
            .one()
        )
        assert copy.pk is not None
        rows = [
            session_of(tx).exec(select(func.count()).where(table.hierarchy_pk == copy.pk)).one()
            for table in (Node, NodeProduct, ProductNode)
        ]
        return copy.association_count, *rows  # type: ignore[return-value]

    assert await database.read(copied) == (90, 3, 90, 90)


@pytest.mark.parametrize("rows", [1, 7, 30, 31, 1_000])
async def test_the_sweep_deletes_only_these_associations_in_chunks(
    database: Database, rows: int
) -> None:
    hierarchy = await garden(database)
    await delete_oaks(database, hierarchy)
    chunks = 0
    left = await rows_of(database, NodeProduct)
    while await database.write_cleanup(subtrees.purge_deleted, rows):
        chunks += 1
        now_left = await rows_of(database, NodeProduct)
        assert left - now_left <= rows
        left = now_left
    assert chunks >= 90 // rows
    assert await rows_of(database, NodeProduct) == 90
    assert await rows_of(database, ProductNode) == 90
    assert await rows_of(database, DeletedNode) == 0


async def test_a_deleted_node_without_products_leaves_nothing_to_sweep(database: Database) -> None:
    id = await factories.hierarchy(database, TREE)
    await database.write(services.delete, STORE, node_id(id, 1))
    assert await rows_of(database, DeletedNode) == 0
    assert await rows_of(database, Node) == 1


async def test_two_sweepers_and_an_author_can_run_at_once(database: Database) -> None:
    hierarchy = await garden(database)
    sku = "sku-00"

    async def author() -> None:
        for no in range(20):
            created = await database.write(
                services.create, STORE, hierarchy.id, {"name": f"new {no}"}
            )
            page = await database.read(products.listing, STORE, [], KeysetWindow(1))
            ids = [str(product.id) for _, product in page.rows if product.sku == sku]
            await database.write(attaching.attach, STORE, created.id, ids)
            await database.write(services.delete, STORE, created.id)

    sweepers = [Sweeper(database), Sweeper(database)]
    await delete_oaks(database, hierarchy)
    await asyncio.gather(author(), *(sweeper.sweep() for sweeper in sweepers for _ in range(5)))
    await sweepers[0].sweep()
    assert await rows_of(database, NodeProduct) == 90
    assert await rows_of(database, ProductNode) == 90
    assert await rows_of(database, DeletedNode) == 0


async def test_a_hierarchy_deleted_after_its_branch_is_swept_completely(database: Database) -> None:
    hierarchy = await garden(database)
    await delete_oaks(database, hierarchy)
    await database.write(authoring.delete, STORE, hierarchy.id)
    await Sweeper(database).sweep()
    for table in (Hierarchy, Node, NodeProduct, ProductNode, DeletedNode):
        assert await rows_of(database, table) == 0
