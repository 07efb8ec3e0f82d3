"""What tests start from: hierarchies and jobs, made the way the product makes them."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any
from uuid import UUID

from sqlmodel import Session

from app.domain.jobs import Duplication
from app.services import imports, jobs
from app.services.imports import Attachment, Line, PlacedLine, Placement
from app.services.jobs import Requester
from app.storage.database import Database
from app.storage.scratch import Scratch
from app.storage.tables import Job

STORE = "default"

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
    with Scratch() as scratch:
        placement = Placement(scratch)
        return [placement.place(no, line) for no, line in enumerate(_lines(tree), 1)]


def _lines(tree: Tree, parent: str | None = None) -> Iterator[Line]:
    for name, below in tree.items():
        slug = name.lower().replace(" ", "-")
        yield Line(id=name, parent=parent, name=name, slug=slug)
        yield from _lines(below, name)
