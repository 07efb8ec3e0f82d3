"""Nodes of hierarchies, each with the hierarchy it hangs in."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.hierarchies import ROOT_NO, node_id, place_of
from app.storage.dialects import dialect_of, key_table, key_values
from app.storage.hierarchies import visible
from app.storage.pages import Listing, OrderBy, Page, Window, pages
from app.storage.tables import Hierarchy, Node, ProductNode


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node and its hierarchy: together they know the node's public id."""

    node: Node
    hierarchy: Hierarchy

    @property
    def id(self) -> UUID:
        """The node's public id."""
        return node_id(self.hierarchy.id, self.node.node_no)

    @property
    def key(self) -> tuple[int, int]:
        """What other tables know the node by."""
        return self.node.hierarchy_pk, self.node.node_no


class Ancestor(NamedTuple):
    """A step on the way from a root to a node, the node itself included."""

    id: UUID
    name: str
    slug: str | None


class Leaf(NamedTuple):
    """A node with nothing below it."""

    node_no: int
    name: str


KeyT = TypeVar("KeyT", bound=Hashable)

ParentKey = tuple[int, int]
"""A hierarchy's pk and the number of a node in it, 0 for the root."""


def by_ids(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, TreeNode]:
    """The visible nodes among these ids. The id of a root is none."""
    places = [place_of(id) for id in ids]
    found = session.exec(
        select(Node, Hierarchy).where(
            visible(store),
            Node.hierarchy_pk == Hierarchy.pk,
            sa.tuple_(col(Hierarchy.id), col(Node.node_no)).in_(
                [(place.hierarchy_id, place.node_no) for place in places]
            ),
        )
    )
    return {row.id: row for row in (TreeNode(*pair) for pair in found)}


def items_by_keys(
    session: Session, store: str, keys: Collection[ParentKey]
) -> dict[ParentKey, TreeNode | Hierarchy]:
    """The visible hierarchies and nodes of these keys; the number 0 asks for the hierarchy."""
    found: dict[ParentKey, TreeNode | Hierarchy] = {}
    for node, hierarchy in session.exec(
        select(Node, Hierarchy).where(
            visible(store),
            Node.hierarchy_pk == Hierarchy.pk,
            sa.tuple_(col(Node.hierarchy_pk), col(Node.node_no)).in_(keys),
        )
    ):
        found[node.hierarchy_pk, node.node_no] = TreeNode(node, hierarchy)
    roots = {pk for pk, node_no in keys if node_no == ROOT_NO}
    for hierarchy in session.exec(
        select(Hierarchy).where(visible(store), col(Hierarchy.pk).in_(roots))
    ):
        assert hierarchy.pk is not None
        found[hierarchy.pk, ROOT_NO] = hierarchy
    return found


def children(
    session: Session, store: str, parents: Sequence[ParentKey], window: Window
) -> dict[ParentKey, Page[TreeNode]]:
    """A page of each parent's children: by sort_order descending, unset last, then the latest
    edited first (domain.md, "Hierarchy")."""
    return _tree_nodes(session, pages(session, _children, parents, window, store=store))


def children_counts(
    session: Session, store: str, parents: Sequence[ParentKey]
) -> dict[ParentKey, int]:
    """How many children each parent has."""
    counted = session.exec(
        select(Node.hierarchy_pk, Node.parent_no, sa.func.count())
        .where(
            visible(store),
            Node.hierarchy_pk == Hierarchy.pk,
            sa.tuple_(col(Node.hierarchy_pk), col(Node.parent_no)).in_(parents),
        )
        .group_by(col(Node.hierarchy_pk), col(Node.parent_no))
    )
    return dict.fromkeys(parents, 0) | {(pk, no): count for pk, no, count in counted}


def of_hierarchies(
    session: Session, store: str, hierarchy_pks: Sequence[int], window: Window
) -> dict[int, Page[TreeNode]]:
    """A page of all nodes of each hierarchy, parents before children."""
    return _tree_nodes(session, pages(session, _of_hierarchy, hierarchy_pks, window, store=store))


def of_products(
    session: Session, store: str, product_pks: Sequence[int], window: Window
) -> dict[int, Page[TreeNode]]:
    """A page of the nodes each product is associated with, in all hierarchies of the store."""
    return _tree_nodes(session, pages(session, _of_product, product_pks, window, store=store))


def counts_of_products(session: Session, store: str, product_pks: Sequence[int]) -> dict[int, int]:
    """How many nodes each product is associated with."""
    counted = session.exec(
        select(ProductNode.product_pk, sa.func.count())
        .where(
            visible(store),
            ProductNode.hierarchy_pk == Hierarchy.pk,
            col(ProductNode.product_pk).in_(product_pks),
        )
        .group_by(col(ProductNode.product_pk))
    )
    return dict.fromkeys(product_pks, 0) | dict(counted.all())


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Write nodes as rows by column."""
    session.execute(sa.insert(Node), rows)


def leaves(session: Session, hierarchy_pk: int, after_no: int, limit: int) -> list[Leaf]:
    """The next nodes past `after_no` that have nothing below them, visible or not."""
    child: Any = aliased(Node)
    found = session.exec(
        select(Node.node_no, Node.name)
        .where(
            Node.hierarchy_pk == hierarchy_pk,
            Node.node_no > after_no,
            # Only the key is selected, so that SQLite sees that its index on parents will do.
            ~sa.select(child.node_no)
            .where(child.hierarchy_pk == hierarchy_pk, child.parent_no == col(Node.node_no))
            .exists(),
        )
        .order_by(col(Node.node_no))
        .limit(limit)
    )
    return [Leaf(*row) for row in found]


def ancestors(
    session: Session, store: str, keys: Sequence[ParentKey]
) -> dict[ParentKey, list[Ancestor]]:
    """The way from the root to each node, both included, in one statement."""
    dialect = dialect_of(session)
    asked = key_table(dialect, (int, int))
    hierarchy_pk, node_no = asked.parts
    up = (
        sa.select(
            asked.number.label("number"),
            hierarchy_pk.label("hierarchy_pk"),
            node_no.label("node_no"),
        )
    ).cte("up", recursive=True)
    up = up.union_all(
        sa.select(up.c.number, up.c.hierarchy_pk, col(Node.parent_no)).where(
            col(Node.hierarchy_pk) == up.c.hierarchy_pk,
            col(Node.node_no) == up.c.node_no,
            up.c.node_no != ROOT_NO,
        )
    )
    node: Any = aliased(Node)
    steps = session.execute(
        sa.select(
            up.c.number,
            up.c.node_no,
            col(Hierarchy.id),
            sa.case((up.c.node_no == ROOT_NO, col(Hierarchy.name)), else_=node.name),
            sa.case((up.c.node_no == ROOT_NO, col(Hierarchy.slug)), else_=node.slug),
        )
        .join_from(up, Hierarchy, sa.and_(col(Hierarchy.pk) == up.c.hierarchy_pk, visible(store)))
        .outerjoin(
            node,
            sa.and_(node.hierarchy_pk == up.c.hierarchy_pk, node.node_no == up.c.node_no),
        )
        .order_by(up.c.number, sa.func.coalesce(node.depth, 0)),
        key_values(dialect, keys),
    )
    found: dict[ParentKey, list[Ancestor]] = {key: [] for key in keys}
    for number, node_no, hierarchy_id, name, slug in steps:
        found[keys[int(number)]].append(Ancestor(node_id(hierarchy_id, node_no), name, slug))
    return found


def _tree_nodes(session: Session, found: dict[KeyT, Page[Node]]) -> dict[KeyT, Page[TreeNode]]:
    """The same pages with the nodes' hierarchies, each read once: beside every node they made a
    tree of 200 nodes a third slower."""
    pks = {node.hierarchy_pk for page in found.values() for _, node in page.rows}
    hierarchies = {
        hierarchy.pk: hierarchy
        for hierarchy in session.exec(select(Hierarchy).where(col(Hierarchy.pk).in_(pks)))
    }
    return {
        parent: page.map(lambda node: TreeNode(node, hierarchies[node.hierarchy_pk]))
        for parent, page in found.items()
    }


def _children() -> Listing:
    node: Any = aliased(Node)
    hierarchy: Any = aliased(Hierarchy)
    return Listing(
        entities=(node,),
        where=(node.hierarchy_pk == hierarchy.pk, visible(sa.bindparam("store"), hierarchy)),
        spine=node,
        belongs=lambda pk, no: sa.and_(node.hierarchy_pk == pk, node.parent_no == no),
        order=(
            OrderBy(node.sort_order, True),
            OrderBy(node.touched, True),
            OrderBy(node.node_no, True),
        ),
    )


def _of_hierarchy() -> Listing:
    node: Any = aliased(Node)
    hierarchy: Any = aliased(Hierarchy)
    return Listing(
        entities=(node,),
        where=(node.hierarchy_pk == hierarchy.pk, visible(sa.bindparam("store"), hierarchy)),
        spine=node,
        belongs=lambda pk: node.hierarchy_pk == pk,
        order=(OrderBy(node.depth), OrderBy(node.node_no)),
    )


def _of_product() -> Listing:
    node: Any = aliased(Node)
    hierarchy: Any = aliased(Hierarchy)
    association: Any = aliased(ProductNode)
    return Listing(
        entities=(node,),
        where=(
            visible(sa.bindparam("store"), hierarchy),
            association.hierarchy_pk == hierarchy.pk,
            node.hierarchy_pk == association.hierarchy_pk,
            node.node_no == association.node_no,
        ),
        spine=association,
        belongs=lambda pk: association.product_pk == pk,
        order=(OrderBy(node.hierarchy_pk), OrderBy(node.node_no)),
    )
