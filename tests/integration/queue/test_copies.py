"""A duplicate equals one consistent state of its source, despite concurrent edits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import given as forall
from hypothesis import strategies as st
from sqlmodel import col, select

from app.domain.hierarchies import HierarchyState
from app.domain.jobs import JobStatus
from app.queue.dispatcher import Dispatcher
from app.queue.handler import Dependencies
from app.queue.handlers import find_handlers, hierarchy_duplicate
from app.queue.sweeper import Sweeper
from app.queue.worker import Outcome, Worker
from app.services import attempts, copies
from app.services.attempts import Step
from app.services.feed import Feed
from app.storage import hierarchies, job_errors, nodes
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.sql.keyset import KeysetWindow
from app.storage.tables import Hierarchy, JobRow, Node, NodeProduct, ProductNode
from tests import factories
from tests.support.databases import postgresql_is_long
from tests.support.entities import session_of

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of seven rows, so that small trees need several."""
    monkeypatch.setattr(hierarchy_duplicate, "CHUNK_ROWS", 7)


@asynccontextmanager
async def running_queue(database: Database) -> AsyncIterator[Callable[[UUID], Any]]:
    """Run the real queue; yield a function that awaits a job's end."""
    dispatcher, feed = Dispatcher(database, find_handlers(Dependencies(database))), Feed(database)
    database.on_commit(dispatcher.wake)
    database.on_commit(feed.wake)
    running = asyncio.create_task(dispatcher.run())

    async def end_of(job_id: UUID) -> JobRow:
        async for event in await feed.job_updates(factories.STORE, job_id, None):
            job = event.job
        return job

    try:
        yield end_of
    finally:
        dispatcher.stop()
        await running


async def duplicate(database: Database, source_id: UUID, **attributes: Any) -> JobRow:
    async with running_queue(database) as end_of:
        queued = await factories.pending_duplication(database, source_id, **attributes)
        job: JobRow = await end_of(queued.id)
        return job


@dataclass(frozen=True)
class Snapshot:
    """Everything that a copy shares with its source."""

    root: tuple[Any, ...]
    nodes: list[tuple[Any, ...]]
    products: list[tuple[Any, ...]]
    reverse: list[tuple[Any, ...]]


def snapshot(tx: Transaction, hierarchy_id: UUID) -> Snapshot:
    root = session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == hierarchy_id)).one()
    own = ("hierarchy_pk", "created_at", "updated_at")
    shared = [column for column in sa.inspect(Node).columns if column.name not in own]
    return Snapshot(
        (root.slug, root.locales, root.owner, root.node_count),
        [
            tuple(row)
            for row in tx.rows(
                sa.select(*shared)
                .where(col(Node.hierarchy_pk) == root.pk)
                .order_by(col(Node.node_no))
            )
        ],
        [
            tuple(row)
            for row in tx.rows(
                sa.select(
                    col(NodeProduct.node_no),
                    col(NodeProduct.product_pk),
                    col(NodeProduct.curated_position),
                )
                .where(col(NodeProduct.hierarchy_pk) == root.pk)
                .order_by(col(NodeProduct.node_no), col(NodeProduct.product_pk))
            )
        ],
        [
            tuple(row)
            for row in tx.rows(
                sa.select(col(ProductNode.node_no), col(ProductNode.product_pk))
                .where(col(ProductNode.hierarchy_pk) == root.pk)
                .order_by(col(ProductNode.node_no), col(ProductNode.product_pk))
            )
        ],
    )


async def leftovers(database: Database) -> list[Hierarchy]:
    """Sweep; return the hierarchies that are still hidden."""
    hidden = select(Hierarchy).where(Hierarchy.state != HierarchyState.READY)
    # The queue's own sweeper may be within a transaction, whose row this one would skip.
    await database.write(lambda tx: session_of(tx).exec(hidden.with_for_update()).all())
    await Sweeper(database).sweep()
    return await database.read(lambda tx: list(session_of(tx).exec(hidden)))


trees = st.recursive(
    st.just({}), lambda below: st.lists(below, min_size=1, max_size=4), max_leaves=40
).map(lambda shape: dict(_named(shape, "n")))


def _named(shape: Any, prefix: str) -> list[tuple[str, Any]]:
    return [(f"{prefix}{i}", dict(_named(below, f"{prefix}{i}."))) for i, below in enumerate(shape)]


@postgresql_is_long
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@forall(
    tree=trees,
    include_products=st.booleans(),
    on_nodes=st.lists(
        st.lists(st.sampled_from([f"sku {n}" for n in range(10)]), unique=True, max_size=5),
        min_size=1,
        max_size=7,
    ),
)
async def test_a_copy_equals_its_source_for_any_tree(
    database: Database, tree: dict[str, Any], include_products: bool, on_nodes: list[list[str]]
) -> None:
    names = [node.attributes["name"] for node in factories.placed_lines(tree)]
    products = {name: on_nodes[index % len(on_nodes)] for index, name in enumerate(names)}
    curated = {name: list(reversed(products[name]))[:2] for name in names}
    source_id = await factories.hierarchy(
        database,
        tree,
        slug="same",
        locales={"fr-FR": {"name": "Jardin"}},
        products=products,
        curated=curated,
    )
    job = await duplicate(database, source_id, include_products=include_products)
    assert job.status is JobStatus.SUCCESS
    assert job.result_id is not None
    source = await database.read(snapshot, source_id)
    copy = await database.read(snapshot, job.result_id)
    assert copy.root == source.root
    assert copy.nodes == source.nodes
    assert copy.products == (source.products if include_products else [])
    assert copy.reverse == (source.reverse if include_products else [])
    assert not await leftovers(database)


async def test_an_empty_hierarchy_has_an_empty_copy(database: Database) -> None:
    job = await duplicate(database, await factories.hierarchy(database, {}), include_products=True)
    assert (job.status, job.completed_items, job.total_items) == (JobStatus.SUCCESS, 0, 0)


@pytest.mark.parametrize(
    ("attributes", "name", "description"),
    [
        ({}, "Garden", "All for it"),
        ({"name": "Copy"}, "Copy", "All for it"),
        ({"description": "Other"}, "Garden", "Other"),
        ({"description": ""}, "Garden", None),
        ({"name": None, "description": None}, "Garden", "All for it"),
    ],
)
async def test_omitted_attributes_are_copied_from_the_source(
    database: Database, attributes: dict[str, Any], name: str, description: str | None
) -> None:
    source_id = await factories.hierarchy(database, {"a": {}}, description="All for it")
    job = await duplicate(database, source_id, **attributes)
    assert job.result_id is not None
    copy = await database.read(hierarchies.by_id, factories.STORE, job.result_id)
    assert copy is not None
    assert (copy.name, copy.description, copy.copied_from) == (name, description, source_id)


async def test_siblings_keep_an_order_that_results_from_edits(
    database: Database,
) -> None:
    source_id = await factories.hierarchy(database, {name: {} for name in "abcdef"})
    for name in "ecb":
        await database.write(rename, source_id, name, name.upper())
    job = await duplicate(database, source_id)
    assert await child_names(database, source_id) == ["B", "C", "E", "a", "d", "f"]
    assert await child_names(database, job.result_id) == ["B", "C", "E", "a", "d", "f"]


async def test_a_source_deleted_before_the_job_starts_fails_it_and_leaves_nothing(
    database: Database,
) -> None:
    source_id = await factories.hierarchy(database, {"a": {}})
    queued = await factories.pending_duplication(database, source_id)
    await database.write(delete, source_id)
    async with running_queue(database) as end_of:
        job = await end_of(queued.id)
    assert job.status is JobStatus.FAILED
    assert await codes(database, job) == ["NOT_FOUND"]
    assert not await leftovers(database)


async def test_a_source_deleted_between_two_chunks_fails_the_job_and_leaves_nothing(
    database: Database,
) -> None:
    source_id = await factories.hierarchy(database, factories.wide_tree(100))

    def delete_once(tx: Transaction, copied: int) -> None:
        if copied == 49:
            delete(tx, source_id)

    between_chunks(database, delete_once)
    job = await duplicate(database, source_id)
    assert job.status is JobStatus.FAILED
    assert job.result_id is None
    assert await codes(database, job) == ["NOT_FOUND"]
    assert not await leftovers(database)


async def test_an_edit_between_two_chunks_is_completely_in_the_copy(database: Database) -> None:
    source_id = await factories.hierarchy(database, factories.wide_tree(100))
    edited: list[int] = []

    def edit(tx: Transaction, copied: int) -> None:
        # One edit of two nodes: the first is in a chunk that was copied, the last is not.
        if copied == 49 and not edited:
            edited.append(copied)
            for name in ("node 1", "node 100"):
                rename(tx, source_id, name, f"{name} edited")

    between_chunks(database, edit)
    job = await duplicate(database, source_id)
    assert job.result_id is not None
    assert edited == [49]
    source = await database.read(snapshot, source_id)
    assert (await database.read(snapshot, job.result_id)).nodes == source.nodes
    assert not await leftovers(database)


async def test_a_copy_ends_although_its_source_is_edited_between_all_chunks(
    database: Database,
) -> None:
    source_id = await factories.hierarchy(
        database, factories.wide_tree(100), products={"node 5": [f"s{n}" for n in range(20)]}
    )
    seen: list[int] = []

    def edit(tx: Transaction, copied: int) -> None:
        seen.append(copied)
        rename_all(tx, source_id, str(len(seen)))

    between_chunks(database, edit)
    job = await duplicate(database, source_id, include_products=True)
    assert job.result_id is not None
    copied = await database.read(snapshot, job.result_id)
    # Every edit gives all nodes the same prefix, so two prefixes would be two states.
    assert len({row[3].split(" ")[0] for row in copied.nodes}) == 1
    assert len(copied.nodes) == 100
    assert len(copied.products) == 20
    assert seen.count(0) > copies.MAX_RESTARTS
    assert not await leftovers(database)


async def test_stopping_interrupts_a_copy_in_one_transaction_and_rolls_it_back(
    database: Database,
) -> None:
    source_id = await factories.hierarchy(database, factories.wide_tree(100))
    await factories.pending_duplication(database, source_id)
    claimed = await factories.claimed_job(database)
    stopping = asyncio.Event()

    def begin_with_max_restarts(tx: Transaction) -> JobRow:
        copy = copies.begin(tx, claimed, copies.MAX_RESTARTS)
        return attempts.advance(tx, claimed, lambda: Step(copy.as_checkpoint(), 0, 100))

    def stop_at_the_first_chunk(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("INSERT INTO node "):
            stopping.set()

    job = await database.write(begin_with_max_restarts)
    sa.event.listen(database.write_engine, "before_cursor_execute", stop_at_the_first_chunk)
    worker = Worker(database, find_handlers(Dependencies(database)), factories.LEASE, stopping)
    assert await worker.run(job) is Outcome.RELEASED
    assert stopping.is_set()
    count = select(sa.func.count()).select_from(Node)
    assert await database.read(lambda tx: session_of(tx).exec(count).one()) == 100

    resumed = await factories.claimed_job(database)
    assert (resumed.checkpoint, resumed.attempts) == (job.checkpoint, 1)
    worker = Worker(
        database, find_handlers(Dependencies(database)), factories.LEASE, asyncio.Event()
    )
    assert await worker.run(resumed) is Outcome.SUCCEEDED
    assert await database.read(lambda tx: session_of(tx).exec(count).one()) == 200


async def test_constant_edits_are_not_blocked_and_do_not_tear_the_copies(
    database: Database,
) -> None:
    source_id = await factories.hierarchy(database, factories.wide_tree(300))
    done = asyncio.Event()
    edits = 0

    async def edit_without_end() -> None:
        nonlocal edits
        while not done.is_set():
            edits += 1
            await database.write(rename_all, source_id, f"e{edits}")

    async with running_queue(database) as end_of:
        writer = asyncio.create_task(edit_without_end())
        queued = [await factories.pending_duplication(database, source_id) for _ in range(5)]
        ended = [await end_of(job.id) for job in queued]
        done.set()
        await writer
    assert [job.status for job in ended] == [JobStatus.SUCCESS] * 5
    for job in ended:
        assert job.result_id is not None
        copied = await database.read(snapshot, job.result_id)
        assert len({row[3].split(" ")[0] for row in copied.nodes}) == 1
        assert len(copied.nodes) == 300
    assert edits > 5


async def test_a_copy_is_invisible_on_every_path_until_it_is_complete(database: Database) -> None:
    source_id = await factories.hierarchy(database, factories.wide_tree(50))
    seen: list[int] = []

    def look(tx: Transaction, _copied: int) -> None:
        seen.append(hierarchies.count(tx, factories.STORE, []))
        hidden = (
            session_of(tx)
            .exec(select(Hierarchy).where(Hierarchy.state == HierarchyState.COPYING))
            .one()
        )
        assert hidden.pk is not None
        ids = [hidden.id, UUID(int=hidden.id.int + 1)]
        assert hierarchies.by_ids(tx, factories.STORE, ids) == {}
        assert nodes.by_ids(tx, factories.STORE, ids) == {}
        children = nodes.children(tx, factories.STORE, [(hidden.pk, 0)], KeysetWindow(10))
        assert not children[hidden.pk, 0].rows

    between_chunks(database, look)
    job = await duplicate(database, source_id)
    assert set(seen) == {1}
    assert job.status is JobStatus.SUCCESS
    assert job.result_id is not None
    assert await database.read(hierarchies.by_id, factories.STORE, job.result_id)


def between_chunks(database: Database, act: Callable[[Transaction, int], object]) -> None:
    """Call `act` with the copied node count after every chunk.

    Each call is a transaction of its own.
    """
    write_bulk = database.write_bulk

    async def write_then_act(fn: Any, *args: Any) -> Any:
        result = await write_bulk(fn, *args)
        if isinstance(result, JobRow) and result.checkpoint:
            await database.write(act, result.checkpoint["nodes"])
        return result

    # Chunks are a copy's only bulk writes, so this runs between two of them.
    database.write_bulk = write_then_act  # type: ignore[assignment]


def rename(tx: Transaction, hierarchy_id: UUID, name: str, new_name: str) -> None:
    """Rename a node and raise the revision in one transaction."""
    pk, revision = raise_revision(tx, hierarchy_id)
    node = sa.update(Node).where(col(Node.hierarchy_pk) == pk, col(Node.name) == name)
    assert tx.changed(node.values(name=new_name, touched=revision)) == 1


def rename_all(tx: Transaction, hierarchy_id: UUID, prefix: str) -> None:
    """Rename every node at once."""
    pk, _ = raise_revision(tx, hierarchy_id)
    tx.changed(
        sa.update(Node)
        .where(col(Node.hierarchy_pk) == pk)
        .values(name=sa.literal(f"{prefix} ") + sa.cast(col(Node.node_no), sa.Text))
    )


def raise_revision(tx: Transaction, hierarchy_id: UUID) -> tuple[int, int]:
    """Increment the hierarchy's revision. Return its pk and the new revision."""
    [raised] = tx.rows(
        sa.update(Hierarchy)
        .where(col(Hierarchy.id) == hierarchy_id)
        .values(revision=col(Hierarchy.revision) + 1)
        .returning(col(Hierarchy.pk), col(Hierarchy.revision))
    )
    return raised


def delete(tx: Transaction, hierarchy_id: UUID) -> None:
    """Hide the hierarchy, as deletion does; the sweep removes its rows later."""
    tx.changed(
        sa.update(Hierarchy)
        .where(col(Hierarchy.id) == hierarchy_id)
        .values(state=HierarchyState.DISCARDED)
    )


async def child_names(database: Database, hierarchy_id: UUID | None) -> list[str]:
    assert hierarchy_id is not None
    root = await database.read(hierarchies.by_id, factories.STORE, hierarchy_id)
    assert root is not None
    assert root.pk is not None
    pages = await database.read(nodes.children, factories.STORE, [(root.pk, 0)], KeysetWindow(100))
    return [row.node.name for _, row in pages[root.pk, 0].rows]


async def codes(database: Database, job: JobRow) -> list[str]:
    assert job.pk is not None
    pages = await database.read(
        job_errors.of_jobs, factories.STORE, [(job.pk, job.version)], KeysetWindow(10)
    )
    return [error.code for _, error in pages[job.pk, job.version].rows]
