"""What tests start from: hierarchies and jobs, made the way the product makes them."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Session, select

from app.domain.hierarchies import HierarchyState, node_ref
from app.domain.jobs import Duplication, JobType
from app.queue.handlers import find_handlers
from app.queue.worker import Worker
from app.services import attempts, imports, jobs
from app.services.imports import Attachment
from app.services.jobs import Requester
from app.services.placement import Line, PlacedLine, Placement
from app.storage import lanes
from app.storage.engine.database import Database
from app.storage.import_scratch import ImportScratch
from app.storage.tables import Hierarchy, Job, Node

STORE = "default"
LEASE = timedelta(seconds=30)

Tree = Mapping[str, Any]
"""Names of nodes, each with the tree below it; the order is that of the siblings."""


async def hierarchy(
    database: Database,
    tree: Tree,
    *,
    name: str = "Garden",
    store: str = STORE,
    products: Mapping[str, list[str]] | None = None,
    curated: Mapping[str, list[str]] | None = None,
    **root: Any,
) -> UUID:
    """A visible hierarchy of this tree. Node names are unique in it; `products` are skus by node
    name, `curated` the curated ones among them, in order."""
    placed = placed_lines(tree)
    node_nos = {place.line.name: place.node_no for place in placed}
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

    def made(session: Session) -> UUID:
        pk = imports.begin(session, store, name, **root)
        if placed:
            imports.add_nodes(session, pk, placed)
        if attachments:
            imports.attach(session, pk, attachments)
        return imports.publish(session, pk)

    return await database.write(made)


async def pending_duplication(
    database: Database, source_id: UUID, *, store: str = STORE, **asked: Any
) -> Job:
    """A queued duplication of that hierarchy."""
    requested = await database.write(
        jobs.request_duplication,
        Requester(store, request_id="given"),
        Duplication(source_id, **asked),
    )
    return requested.job


async def pending_job(database: Database, type: JobType, *, store: str = STORE) -> Job:
    """A queued job of any type, also one that no API takes yet."""

    def queued(session: Session) -> Job:
        lane = lanes.lock(session, store)
        return jobs.enqueue(session, lane, Requester(store, request_id="given"), type, items=0)

    return await database.write(queued)


async def claimed_job(database: Database, *, store: str = STORE) -> Job:
    """The next job of the store, started by a worker that does nothing more."""
    job = await database.write(attempts.claim, store, uuid4(), LEASE)
    assert job is not None
    return job


async def ran_job(database: Database, *, store: str = STORE) -> UUID:
    """The next job of the store, run to its end by a real worker."""
    job = await claimed_job(database, store=store)
    await Worker(database, find_handlers(), LEASE, asyncio.Event()).run(job)
    return job.id


async def edited(database: Database, id: UUID, **values: Any) -> None:
    """An edit of a hierarchy or node as authoring makes it: the revision grows with it."""
    place = node_ref(id)

    def edit(session: Session) -> None:
        hierarchy = session.exec(select(Hierarchy).where(Hierarchy.id == place.hierarchy_id)).one()
        hierarchy.revision += 1
        row: Hierarchy | Node = hierarchy
        if place.node_no:
            row = session.get_one(Node, (hierarchy.pk, place.node_no))
            row.touched = hierarchy.revision
        for name, value in values.items():
            setattr(row, name, value)

    await database.write(edit)


async def deleted(database: Database, hierarchy_id: UUID) -> None:
    """The end of a hierarchy for everybody who reads."""
    await edited(database, hierarchy_id, state=HierarchyState.DISCARDED)


def wide_tree(nodes: int, children: int = 10) -> Tree:
    """A tree of that many nodes, each with at most so many children."""
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


def placed_lines(tree: Tree) -> list[PlacedLine]:
    """The tree as an import places it."""
    with ImportScratch() as scratch:
        placement = Placement(scratch)
        return [placement.place(no, line) for no, line in enumerate(_lines(tree), 1)]


def _lines(tree: Tree, parent: str | None = None) -> Iterator[Line]:
    for name, below in tree.items():
        slug = name.lower().replace(" ", "-")
        yield Line(id=name, parent=parent, name=name, slug=slug)
        yield from _lines(below, name)
