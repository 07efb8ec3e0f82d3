"""Factories of hierarchies and jobs that use the services of the product."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import col

from app.domain.hierarchies import MAX_TREE_DEPTH, HierarchyState, node_ref
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import JobType
from app.queue.handler import Dependencies
from app.queue.handlers import find_handlers
from app.queue.worker import Worker
from app.services import attempts, imports, jobs
from app.services.imports import Attachment
from app.services.jobs import Requester
from app.services.placement import Line, PlacedLine, Placement
from app.storage import lanes
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.import_scratch import ImportScratch
from app.storage.tables import Hierarchy, JobRow, Node

STORE = "default"
LEASE = timedelta(seconds=30)

Tree = Mapping[str, Any]
"""Node names, each mapped to its subtree, in sibling order."""


async def hierarchy(
    database: Database,
    tree: Tree,
    *,
    name: str = "Garden",
    store: str = STORE,
    products: Mapping[str, list[str]] | None = None,
    curated: Mapping[str, list[str]] | None = None,
    max_depth: int = MAX_TREE_DEPTH,
    **root: Any,
) -> UUID:
    """Create a visible hierarchy with unique node names.

    `products` maps node names to skus, `curated` to the curated skus among them, in order.
    """
    lines = placed_lines(tree, max_depth)
    node_nos = {placed.attributes["name"]: placed.node_no for placed in lines}
    attachments = [
        Attachment(
            node_nos[node],
            sku,
            f"Product {sku}",
            (curated or {}).get(node, []).index(sku) + 1
            if sku in (curated or {}).get(node, [])
            else None,
        )
        for node, skus in (products or {}).items()
        for sku in skus
    ]

    def create(tx: Transaction) -> UUID:
        pk = imports.begin(tx, store, name, **root)
        if lines:
            imports.add_nodes(tx, pk, lines)
        if attachments:
            imports.attach(tx, pk, attachments)
        return imports.publish(tx, pk)

    return await database.write(create)


async def pending_duplication(
    database: Database, source_id: UUID, *, store: str = STORE, **options: Any
) -> JobRow:
    """Queue a duplication of the hierarchy."""
    requested = await database.write(
        jobs.request,
        Requester(store, request_id="given"),
        Duplication(source_id, **options),
    )
    return requested.job


async def pending_job(database: Database, type: JobType, *, store: str = STORE) -> JobRow:
    """Queue a job of any type, including types that no API accepts yet."""

    def enqueue(tx: Transaction) -> JobRow:
        lane = lanes.lock(tx, store)
        return jobs.enqueue(tx, lane, Requester(store, request_id="given"), type, items=0)

    return await database.write(enqueue)


async def claimed_job(database: Database, *, store: str = STORE) -> JobRow:
    """Start the store's next job, without running it."""
    job = await database.write(attempts.claim, store, uuid4(), LEASE)
    assert job is not None
    return job


async def ran_job(database: Database, *, store: str = STORE) -> UUID:
    """Run the store's next job to its end with a real worker."""
    job = await claimed_job(database, store=store)
    await Worker(database, find_handlers(Dependencies(database)), LEASE, asyncio.Event()).run(job)
    return job.id


async def edited(database: Database, id: UUID, **values: Any) -> None:
    """Edit a hierarchy or node and increment the revision, as the services do."""
    ref = node_ref(id)

    def edit(tx: Transaction) -> None:
        [(pk, revision)] = tx.rows(
            sa.select(col(Hierarchy.pk), col(Hierarchy.revision)).where(
                col(Hierarchy.id) == ref.hierarchy_id
            )
        )
        of_root = {} if ref.node_no else values
        root = sa.update(Hierarchy).where(col(Hierarchy.pk) == pk)
        tx.changed(root.values(revision=revision + 1, **of_root))
        if ref.node_no:
            node = sa.update(Node).where(
                col(Node.hierarchy_pk) == pk, col(Node.node_no) == ref.node_no
            )
            assert tx.changed(node.values(touched=revision + 1, **values)) == 1

    await database.write(edit)


async def deleted(database: Database, hierarchy_id: UUID) -> None:
    """Hide a hierarchy from all readers."""
    await edited(database, hierarchy_id, state=HierarchyState.DISCARDED)


def wide_tree(nodes: int, children: int = 10) -> Tree:
    """A tree of `nodes` nodes, each with at most `children` children."""
    root: dict[str, Any] = {}
    open_nodes = [root]
    numbers = count(1)
    left = nodes
    while left:
        parent = open_nodes.pop(0)
        for _ in range(min(children, left)):
            child = parent.setdefault(f"node {next(numbers)}", {})
            open_nodes.append(child)
            left -= 1
    return root


def deep_tree(depth: int) -> Tree:
    """A chain of `depth` nodes, named by their depth."""
    tree: Tree = {}
    for level in range(depth, 0, -1):
        tree = {str(level): tree}
    return tree


def placed_lines(tree: Tree, max_depth: int = MAX_TREE_DEPTH) -> list[PlacedLine]:
    """The nodes of a tree in the order and with the numbers of an import."""
    with ImportScratch() as scratch:
        placement = Placement(scratch, max_depth)
        return [placement.place(no, line) for no, line in enumerate(_lines(tree), 1)]


def _lines(tree: Tree, parent: str | None = None) -> Iterator[Line]:
    for name, subtree in tree.items():
        slug = name.lower().replace(" ", "-")
        yield Line(id=name, parent=parent, name=name, slug=slug)
        yield from _lines(subtree, name)
