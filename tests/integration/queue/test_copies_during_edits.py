"""Duplication of a hierarchy under constant edits.

No edit is refused, and each copy equals the hierarchy after one of the edits between the job's
start and its end. Edits of a tree are serialized and numbered by its revision: replayed in that
order on plain objects they produce every state of the tree. `--full` makes 20 copies per database.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import col, select

from app.domain.hierarchies import node_id, node_ref
from app.queue.handler import Dependencies
from app.queue.handlers import find_handlers, hierarchy_duplicate
from app.queue.sweeper import Sweeper
from app.queue.worker import Outcome, Worker
from app.services import hierarchies, nodes, products
from app.storage import jobs as stored_jobs
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy, Node, NodeProduct, Product, ProductNode
from tests import factories
from tests.support.databases import postgresql_is_long
from tests.support.entities import session_of

EDITORS = 4
NODES = 2_000
CHUNKS = (50, 500, 3_000)
"""Rows per chunk, one entry per copy in turn."""


@dataclass(frozen=True)
class NodeState:
    """The editable attributes of a node."""

    parent_no: int
    name: str
    sort_order: int | None
    touched: int


@dataclass
class Tree:
    """The editable attributes of a hierarchy."""

    name: str
    nodes: dict[int, NodeState]
    held: dict[tuple[int, UUID], int | None]
    """Each product's curated position at a node; None if it is not curated."""

    def without_products(self) -> "Tree":
        return replace(self, held={})

    def branch(self, no: int) -> set[int]:
        """The numbers of a node and its descendants."""
        numbers, last = {no}, {no}
        while last := {no for no, state in self.nodes.items() if state.parent_no in last}:
            numbers |= last
        return numbers


Edit = Callable[[Tree, int], None]
"""An edit, replayed on plain objects with its revision."""


@dataclass
class Editor:
    """Edits a branch of its own, and so knows its nodes."""

    database: Database
    hierarchy_id: UUID
    top: int
    """The top node of its branch, which it neither moves nor deletes."""
    own: dict[int, int]
    """The other nodes of its branch, each with its parent."""
    products: Sequence[UUID]
    random: random.Random
    history: dict[int, Edit]
    """Edits by revision, shared by all editors."""
    held: dict[int, list[UUID]] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    async def edit_until(self, done: asyncio.Event) -> None:
        edits = (self.rename, self.move, self.create, self.delete, self.attach, self.detach,
                 self.curate, self.rename_hierarchy)  # fmt: skip
        while not done.is_set():
            edit = self.random.choice(edits)
            await edit()

    async def rename(self) -> None:
        no, name = self.random.choice([*self.own]), self.name()

        def renamed(tree: Tree, revision: int) -> None:
            tree.nodes[no] = replace(tree.nodes[no], name=name, touched=revision)

        await self.write(renamed, nodes.update, self.id(no), {"name": name})

    async def move(self) -> None:
        no = self.random.choice([*self.own])
        below = self.branch(no)
        parent_no = self.random.choice(
            [node_no for node_no in (self.top, *self.own) if node_no not in below]
        )
        order = self.random.choice([None, 1, 2])

        def moved(tree: Tree, revision: int) -> None:
            tree.nodes[no] = replace(
                tree.nodes[no], parent_no=parent_no, sort_order=order, touched=revision
            )

        await self.write(moved, nodes.move, self.id(no), self.id(parent_no), {"sort_order": order})
        self.own[no] = parent_no

    async def create(self) -> None:
        parent_no, name = self.random.choice([self.top, *self.own]), self.name()

        def created(tree: Tree, revision: int) -> None:
            tree.nodes[no] = NodeState(parent_no, name, None, revision)

        new = await self.write(created, nodes.create, self.id(parent_no), {"name": name})
        no = node_ref(new.id).node_no
        self.own[no] = parent_no

    async def delete(self) -> None:
        no = self.random.choice([*self.own])
        if len(gone := self.branch(no)) > 5 or len(self.own) < 50:
            # Otherwise the branch would soon be empty.
            await self.create()
            return

        def deleted(tree: Tree, _: int) -> None:
            for node_no in tree.branch(no):
                del tree.nodes[node_no]
            tree.held = {key: at for key, at in tree.held.items() if key[0] in tree.nodes}

        await self.write(deleted, nodes.delete, self.id(no))
        for node_no in gone:
            del self.own[node_no]
            self.held.pop(node_no, None)

    async def attach(self) -> None:
        no = self.random.choice([self.top, *self.own])
        held = self.held.setdefault(no, [])
        new = [id for id in self.random.sample(self.products, 3) if id not in held]
        if not new:
            return

        def attached(tree: Tree, _: int) -> None:
            tree.held |= {(no, id): None for id in new}

        await self.write(attached, products.attach, self.id(no), list(map(str, new)))
        held += new

    async def detach(self) -> None:
        if (no := self.holding()) is None:
            await self.attach()
            return
        id = self.random.choice(self.held[no])

        def detached(tree: Tree, _: int) -> None:
            del tree.held[no, id]

        await self.write(detached, products.detach, self.id(no), [str(id)])
        self.held[no].remove(id)

    async def curate(self) -> None:
        if (no := self.holding()) is None:
            await self.attach()
            return
        ids = self.random.sample(self.held[no], min(3, len(self.held[no])))

        def curated(tree: Tree, revision: int) -> None:
            for node_no, id in tree.held:
                if node_no == no:
                    tree.held[no, id] = None
            # Detaching a curated product leaves the positions of the others.
            tree.held |= {(no, id): position for position, id in enumerate(ids, 1)}
            tree.nodes[no] = replace(tree.nodes[no], touched=revision)

        await self.write(
            curated, nodes.update, self.id(no), {"curated_product_ids": list(map(str, ids))}
        )

    async def rename_hierarchy(self) -> None:
        name = self.name()

        def renamed(tree: Tree, _: int) -> None:
            tree.name = name

        await self.write(renamed, hierarchies.update, self.hierarchy_id, {"name": name})

    async def write(self, edit: Edit, fn: Callable[..., Any], *args: Any) -> Any:
        """Run an edit in one transaction and record it by its revision."""

        def transaction(tx: Transaction) -> tuple[Any, int]:
            return fn(tx, factories.STORE, *args), revision(tx, self.hierarchy_id)

        started = perf_counter()
        result, number = await self.database.write(transaction)
        self.waits.append(perf_counter() - started)
        self.kinds[edit.__name__] += 1
        assert number not in self.history
        self.history[number] = edit
        return result

    def id(self, no: int) -> UUID:
        return node_id(self.hierarchy_id, no)

    def name(self) -> str:
        """A name that was never used."""
        return f"{self.top} {self.kinds.total()}"

    def holding(self) -> int | None:
        holding = [no for no, held in self.held.items() if held]
        return self.random.choice(holding) if holding else None

    def branch(self, no: int) -> set[int]:
        numbers, last = {no}, {no}
        while last := {child for child, parent in self.own.items() if parent in last}:
            numbers |= last
        return numbers


def revision(tx: Transaction, hierarchy_id: UUID) -> int:
    return session_of(tx).exec(select(Hierarchy.revision).where(Hierarchy.id == hierarchy_id)).one()


def tree_of(tx: Transaction, hierarchy_id: UUID) -> Tree:
    """Read a hierarchy; check that its rows are consistent."""
    hierarchy = session_of(tx).exec(select(Hierarchy).where(Hierarchy.id == hierarchy_id)).one()
    rows = session_of(tx).exec(select(Node).where(Node.hierarchy_pk == hierarchy.pk)).all()
    depths = {0: 0, **{node.node_no: node.depth for node in rows}}
    assert all(node.depth == depths[node.parent_no] + 1 for node in rows)
    held = (
        session_of(tx)
        .exec(
            select(NodeProduct.node_no, Product.id, Product.pk, NodeProduct.curated_position)
            .join(Product, col(Product.pk) == col(NodeProduct.product_pk))
            .where(NodeProduct.hierarchy_pk == hierarchy.pk)
        )
        .all()
    )
    reverse = session_of(tx).exec(
        select(ProductNode.node_no, ProductNode.product_pk)
        .where(ProductNode.hierarchy_pk == hierarchy.pk)
    ).all()  # fmt: skip
    assert {*reverse} == {(no, pk) for no, _, pk, _ in held}
    assert (hierarchy.node_count, hierarchy.association_count) == (len(rows), len(held))
    return Tree(
        hierarchy.name,
        {
            node.node_no: NodeState(node.parent_no, node.name, node.sort_order, node.touched)
            for node in rows
        },
        {(no, id): position for no, id, _, position in held},
    )


@dataclass(frozen=True)
class CopyResult:
    """A copy, and its source's revisions before and after the job."""

    tree: Tree
    with_products: bool
    first: int
    last: int
    restarts: int
    at_once: bool


async def copied(database: Database, source_id: UUID, with_products: bool) -> CopyResult:
    """Make a copy with a real worker."""
    await factories.pending_duplication(database, source_id, include_products=with_products)
    claimed = await factories.claimed_job(database)
    worker = Worker(
        database, find_handlers(Dependencies(database)), factories.LEASE, asyncio.Event()
    )
    first = await database.read(revision, source_id)
    # Sweep deleted branches at the same time, as happens after every job.
    outcome, _ = await asyncio.gather(worker.run(claimed), Sweeper(database).sweep())
    assert outcome is Outcome.SUCCEEDED
    last = await database.read(revision, source_id)
    job = (await database.read(stored_jobs.by_ids, factories.STORE, [claimed.id]))[claimed.id]
    assert job.result_id
    assert job.checkpoint
    tree = await database.read(tree_of, job.result_id)
    restarts, at_once = job.checkpoint["restarts"], job.checkpoint["at_once"]
    return CopyResult(tree, with_products, first, last, restarts, at_once)


def editors_of(
    database: Database, source_id: UUID, tree: Tree, seed: int, history: dict[int, Edit]
) -> list[Editor]:
    """Editors, each with its own branch."""
    tops = [no for no, state in tree.nodes.items() if state.parent_no == 0]
    known = sorted({id for _, id in tree.held})
    editors = []
    for top in tops[:EDITORS]:
        own = {no: tree.nodes[no].parent_no for no in tree.branch(top) if no != top}
        editor = Editor(
            database, source_id, top, own, known, random.Random(f"{seed} {top}"), history
        )
        for no, id in tree.held:
            if no in own or no == top:
                editor.held.setdefault(no, []).append(id)
        editors.append(editor)
    return editors


@postgresql_is_long
async def test_each_copy_equals_the_tree_after_one_edit(
    database: Database,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {f"node {no}": [f"{(no + i) % 40}" for i in range(5)] for no in range(1, NODES, 5)}
    source_id = await factories.hierarchy(database, factories.wide_tree(NODES), products=held)
    tree = await database.read(tree_of, source_id)
    history: dict[int, Edit] = {}
    editors = editors_of(database, source_id, tree, seed, history)
    done = asyncio.Event()
    copies = []
    async with asyncio.TaskGroup() as editing:
        for editor in editors:
            editing.create_task(editor.edit_until(done))
        for number in range(counted(3, 20)):
            monkeypatch.setattr(hierarchy_duplicate, "CHUNK_ROWS", CHUNKS[number % len(CHUNKS)])
            copies.append(await copied(database, source_id, with_products=number % 4 < 3))
        done.set()

    assert sorted(history) == list(range(1, len(history) + 1))
    matches: list[list[int]] = [[] for _ in copies]
    for number in range(len(history) + 1):
        if number:
            history[number](tree, number)
        for copy, equal in zip(copies, matches, strict=True):
            if copy.first <= number <= copy.last:
                source = tree if copy.with_products else tree.without_products()
                if source == copy.tree:
                    equal.append(number)
    await Sweeper(database).sweep()
    assert tree == await database.read(tree_of, source_id)
    assert all(matches)
    meanwhile = [copy.last - copy.first for copy in copies]
    assert sum(meanwhile)
    waits = [wait * 1000 for editor in editors for wait in editor.waits]
    kinds = sum((editor.kinds for editor in editors), Counter[str]())
    report(
        f"{len(copies)} copies, {sum(copy.at_once for copy in copies)} of them at once in the end, "
        f"{sum(copy.restarts for copy in copies)} restarts; {len(waits)} edits, none refused, "
        f"{sum(meanwhile)} of them during copies, {min(meanwhile)} at least"
    )
    report(f"edits waited {median(waits):.1f} ms in the median, {max(waits):.1f} ms at most")
    report(", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items())))
