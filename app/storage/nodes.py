"""Nodes of hierarchies, each with the hierarchy it hangs in."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.errors import InvalidInput
from app.domain.filters import Condition, Conditions
from app.domain.hierarchies import ROOT_NO, node_id, node_ref
from app.storage import hierarchies
from app.storage.hierarchies import visible
from app.storage.sql.dialects import (
    any_of_array,
    dialect_of,
    key_table,
    key_values,
    keys_for,
    one_of,
    opaque_limit,
)
from app.storage.sql.filters import matching
from app.storage.sql.keyset import Key, KeysetPage, KeysetQuery, KeysetWindow, Order, OrderBy, pages
from app.storage.sql.offset import OffsetPage, OffsetWindow, page_keys
from app.storage.sql.rows import ALL_COLUMNS, ColumnEncoder, Projection, columns_of, row_of
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import DeletedNode, Hierarchy, Node, ProductNode


class TreeNode(NamedTuple):
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

    @property
    def told(self) -> Mapping[str, ColumnEncoder]:
        """What tells clients of attributes, without the way over their values."""
        return _TOLD


def _told_ids(nodes: Sequence[TreeNode]) -> list[str]:
    told = []
    hierarchy, begins = None, ""
    for node, of in nodes:
        if of is not hierarchy:
            # A node's id is its hierarchy's, with its number for the last 32 bits.
            hierarchy, begins = of, str(of.id)[:-8]
        told.append(f"{begins}{node.node_no:08x}")
    return told


_TOLD: Mapping[str, ColumnEncoder] = {"id": _told_ids}


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

EMPTY_PAGE: KeysetPage[Any] = KeysetPage()

ParentKey = tuple[int, int]
"""A hierarchy's pk and the number of a node in it, 0 for the root."""

NOWHERE = -1
"""A number that no node has."""

_Child: Any = aliased(Node)
FILTERED: Mapping[str, Any] = {
    "id": col(Node.node_no),
    "parent_id": col(Node.parent_no),
    "name": col(Node.name),
    "slug": col(Node.slug),
    "description": col(Node.description),
    "created_at": col(Node.created_at),
    "updated_at": col(Node.updated_at),
    "has_children": sa.exists().where(
        _Child.hierarchy_pk == col(Node.hierarchy_pk), _Child.parent_no == col(Node.node_no)
    ),
}
"""What conditions on nodes may be about, besides their owner."""

SIBLINGS = (
    OrderBy(col(Node.sort_order), True),
    OrderBy(col(Node.touched), True),
    OrderBy(col(Node.node_no), True),
)
"""By sort_order descending, unset last, then the latest edited first (domain.md, "Hierarchy")."""

PARENTS_FIRST = (OrderBy(col(Node.depth)), OrderBy(col(Node.node_no)))


def by_ids(session: Session, store: str, ids: Collection[UUID]) -> dict[UUID, TreeNode]:
    """The visible nodes among these ids. The id of a root is none."""
    places = [node_ref(id) for id in ids]
    known = hierarchies.by_ids(session, store, {place.hierarchy_id for place in places})
    by_pk = {hierarchy.pk: hierarchy for hierarchy in known.values() if hierarchy.pk is not None}
    pks = {hierarchy.id: pk for pk, hierarchy in by_pk.items()}
    keys = [
        (pks[place.hierarchy_id], place.node_no) for place in places if place.hierarchy_id in pks
    ]
    nodes = (TreeNode(node, by_pk[node.hierarchy_pk]) for node in _by_keys(session, keys))
    return {node.id: node for node in nodes}


def items_by_keys(
    session: Session, store: str, keys: Collection[ParentKey]
) -> dict[ParentKey, TreeNode | Hierarchy]:
    """The visible hierarchies and nodes of these keys; the number 0 asks for the hierarchy."""
    known = _visible(session, store, keys)
    found: dict[ParentKey, TreeNode | Hierarchy] = {
        (pk, no): known[pk] for pk, no in keys if no == ROOT_NO and pk in known
    }
    for node in _by_keys(session, [(pk, no) for pk, no in keys if pk in known]):
        found[node.hierarchy_pk, node.node_no] = TreeNode(node, known[node.hierarchy_pk])
    return found


def children(
    session: Session,
    store: str,
    parents: Sequence[ParentKey],
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
) -> dict[ParentKey, KeysetPage[TreeNode]]:
    """A page of each parent's children, in the order of SIBLINGS."""
    known = _visible(session, store, parents)
    seen = [key for key in parents if key[0] in known]
    return _tree_nodes(
        parents, pages(session, _children, seen, window, wanted.together(_KNOWN)), known
    )


def children_counts(
    session: Session, store: str, parents: Sequence[ParentKey]
) -> dict[ParentKey, int]:
    """How many children each parent has."""
    dialect = dialect_of(session)
    values = {"store": store, **key_values(dialect, parents)}
    counted = _COUNTS.rows(session, values)
    return dict.fromkeys(parents, 0) | {parents[int(number)]: count for number, count in counted}


def counting(belongs: Callable[[Any, Any], sa.ColumnElement[bool]]) -> CompiledStatement:
    """Counts the rows that belong to each root or node of a visible hierarchy, given its key."""

    def write(dialect: str) -> sa.Select[Any]:
        asked = key_table(dialect, (int, int))
        hierarchy_pk, node_no = asked.parts
        of_each = (
            sa.select(sa.func.count())
            .where(belongs(hierarchy_pk, node_no))
            .correlate(asked.rows)
            .scalar_subquery()
        )
        seen = sa.and_(col(Hierarchy.pk) == hierarchy_pk, visible(sa.bindparam("store")))
        return sa.select(asked.number, of_each).join_from(asked.rows, Hierarchy, seen)

    return CompiledStatement(write)


_COUNTS = counting(lambda pk, no: sa.and_(col(Node.hierarchy_pk) == pk, col(Node.parent_no) == no))


def of_hierarchies(
    session: Session,
    store: str,
    hierarchy_pks: Sequence[int],
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
) -> dict[int, KeysetPage[TreeNode]]:
    """A page of all nodes of each hierarchy, parents before children."""
    known = hierarchies.by_pks(session, store, hierarchy_pks)
    seen = [pk for pk in hierarchy_pks if pk in known]
    found = pages(session, _of_hierarchy, seen, window, wanted.together(_KNOWN))
    return _tree_nodes(hierarchy_pks, found, known)


_KNOWN = Projection(frozenset({"hierarchy_pk", "node_no"}), keys=False)
"""What nodes are known by."""


def of_products(
    session: Session, store: str, product_pks: Sequence[int], window: KeysetWindow
) -> dict[int, KeysetPage[TreeNode]]:
    """A page of the nodes each product is associated with, in all hierarchies the store sees, each
    by its public id, whether that node is still there.

    Raises InvalidInput for a place in a hierarchy that is no longer seen.
    """

    def key_of(id: UUID, argument: str) -> Key:
        place = node_ref(id)
        hierarchy = hierarchies.by_id(session, store, place.hierarchy_id)
        if hierarchy is None:
            raise InvalidInput("The hierarchy of this cursor is gone: begin again.", (argument,))
        return hierarchy.pk, place.node_no

    found = pages(session, _of_product, product_pks, window.placed(key_of), store=store)
    keys = {(node.hierarchy_pk, node.node_no) for page in found.values() for _, node in page.rows}
    of_products = _tree_nodes(product_pks, found, _visible(session, store, keys))
    return {product: page.by_id() for product, page in of_products.items()}


def counts_of_products(session: Session, store: str, product_pks: Sequence[int]) -> dict[int, int]:
    """How many nodes each product is associated with."""
    counted = _COUNTS_OF_PRODUCTS.rows(
        session, {"store": store, **keys_for(dialect_of(session), product_pks)}
    )
    return dict.fromkeys(product_pks, 0) | dict(counted)


_COUNTS_OF_PRODUCTS = CompiledStatement(
    lambda dialect: (
        sa.select(col(ProductNode.product_pk), sa.func.count())
        .where(
            any_of_array(
                col(ProductNode.hierarchy_pk),
                sa.select(col(Hierarchy.pk)).where(visible(sa.bindparam("store"))),
            ),
            one_of(dialect, col(ProductNode.product_pk)),
            ~cut(ProductNode),
        )
        .group_by(col(ProductNode.product_pk))
    )
)


def in_hierarchy(session: Session, hierarchy_pk: int, node_no: int) -> Node | None:
    """The node of that number in a hierarchy, as it is by now: a branch may have been moved."""
    dialect = dialect_of(session)
    node = _of_keys(dialect, Node).execution_options(populate_existing=True)
    found = session.execute(node, key_values(dialect, [(hierarchy_pk, node_no)]))
    return found.scalars().first()


def change(session: Session, node: Node, **values: Any) -> None:
    """Write `values`, and let the node be as it then is."""
    session.execute(
        sa.update(Node)
        .where(
            # Knowing which hierarchy it is, PostgreSQL took another index, and read all its nodes.
            col(Node.hierarchy_pk) == opaque_limit(node.hierarchy_pk),
            col(Node.node_no) == node.node_no,
        )
        .values(**values)
        .returning(Node)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).one()


def last_no(session: Session, hierarchy_pk: int) -> int:
    """The greatest number that a node of the hierarchy has, 0 where there is none."""
    numbers = select(Node.node_no).where(Node.hierarchy_pk == hierarchy_pk)
    return session.exec(numbers.order_by(col(Node.node_no).desc()).limit(1)).first() or 0


def sibling_with(
    session: Session,
    hierarchy_pk: int,
    parent_no: int,
    name: str,
    slug: str | None,
    except_no: int | None = None,
) -> Node | None:
    """A node below that parent, other than `except_no`, which has this name or this slug."""
    same = col(Node.name) == name
    found = session.exec(
        select(Node)
        .where(
            Node.hierarchy_pk == hierarchy_pk,
            Node.parent_no == parent_no,
            Node.node_no != except_no,
            same if slug is None else sa.or_(same, col(Node.slug) == slug),
        )
        # In the order of the index on parents, so that PostgreSQL takes no other one.
        .order_by(col(Node.sort_order), col(Node.touched))
        .limit(opaque_limit(1))
    )
    return found.first()


def cut(association: Any) -> sa.ColumnElement[bool]:
    """Whether the node of an association was deleted."""
    return sa.exists().where(
        col(DeletedNode.hierarchy_pk) == association.hierarchy_pk,
        col(DeletedNode.node_no) == association.node_no,
    )


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Write nodes as rows by column."""
    session.execute(sa.insert(Node), rows)


def leaves(session: Session, hierarchy_pk: int, after_no: int, limit: int) -> list[Leaf]:
    """The next nodes past `after_no` that have nothing below them, visible or not."""
    child: Any = aliased(Node)
    below = (
        # Only the key is selected, so that SQLite sees that its index on parents will do.
        sa.select(child.node_no)
        .where(child.hierarchy_pk == hierarchy_pk, child.parent_no == col(Node.node_no))
        # In the order of that index, so that PostgreSQL takes no other one.
        .order_by(child.sort_order, child.touched)
        .limit(1)
        .scalar_subquery()
    )
    # As a case, so that PostgreSQL does not take leaves for so rare that it looks at all nodes.
    is_leaf = sa.case((below.is_(None), sa.true()), else_=sa.false())
    found = session.exec(
        select(Node.node_no, Node.name)
        .where(Node.hierarchy_pk == hierarchy_pk, Node.node_no > after_no, is_leaf)
        .order_by(col(Node.node_no))
        .limit(opaque_limit(limit))
    )
    return [Leaf(*row) for row in found]


def offset_page(
    session: Session,
    hierarchy: Hierarchy,
    filter: Conditions,
    order: Order,
    span: OffsetWindow,
    parent_no: int | None = None,
) -> OffsetPage[TreeNode]:
    """A span of the nodes of a visible hierarchy, all of them or those right below a parent."""
    assert hierarchy.pk is not None
    numbered = [_numbered(condition, hierarchy) for condition in filter]
    where = [
        col(Node.hierarchy_pk) == hierarchy.pk,
        *([] if parent_no is None else [col(Node.parent_no) == parent_no]),
        *matching(numbered, {**FILTERED, "owner": _owner(hierarchy)}),
    ]
    keys: list[Any] = page_keys(
        session, [KeysetQuery((Node,), tuple(where), order, spine=Node)], span
    )
    by_key = {(node.hierarchy_pk, node.node_no): node for node in _by_keys(session, keys)}
    # Below a parent in the order of their index, so that PostgreSQL takes no other one.
    counted = select(col(Node.node_no)).where(*where)
    if parent_no is not None:
        counted = counted.order_by(col(Node.sort_order), col(Node.touched)).offset(0)
    total = session.exec(select(sa.func.count()).select_from(counted.subquery())).one()
    return OffsetPage([TreeNode(by_key[key], hierarchy) for key in keys], total)


def _owner(hierarchy: Hierarchy) -> sa.ColumnElement[Any]:
    return sa.literal(hierarchy.owner, sa.inspect(Hierarchy).columns.owner.type)


def _numbered(condition: Condition, hierarchy: Hierarchy) -> Condition:
    """The condition with the numbers of nodes where it has public ids."""
    if condition.attribute not in ("id", "parent_id"):
        return condition
    places = map(node_ref, condition.values)
    numbers = [place.node_no if place.hierarchy_id == hierarchy.id else NOWHERE for place in places]
    return replace(condition, values=numbers)


def ancestors(
    session: Session, store: str, keys: Sequence[ParentKey]
) -> dict[ParentKey, list[Ancestor]]:
    """The way from the root to each node, both included."""
    known = _visible(session, store, keys)
    seen = [key for key in keys if key[0] in known]
    found: dict[ParentKey, list[Ancestor]] = {key: [] for key in keys}
    for pk, no in seen:
        root = known[pk]
        found[pk, no].append(Ancestor(root.id, root.name, root.slug))
    if seen:
        dialect = dialect_of(session)
        for number, node_no, name, slug in _WAYS_UP.rows(session, key_values(dialect, seen)):
            key = seen[int(number)]
            found[key].append(Ancestor(node_id(known[key[0]].id, node_no), name, slug))
    return found


def _ways_up(dialect: str) -> sa.Select[Any]:
    """All above each node but the root, and the node itself. Each row has all that is wanted of
    it: joined to them in the end, PostgreSQL may well read all the nodes there are."""
    asked = key_table(dialect, (int, int))
    hierarchy_pk, node_no = asked.parts
    node: Any = aliased(Node)
    columns = (node.hierarchy_pk, node.node_no, node.parent_no, node.depth, node.name, node.slug)
    up = (
        sa.select(asked.number.label("number"), *columns)
        .join_from(
            asked.rows,
            sa.inspect(node).selectable,
            sa.and_(node.hierarchy_pk == hierarchy_pk, node.node_no == node_no),
        )
        .cte("up", recursive=True)
    )
    up = up.union_all(
        sa.select(up.c.number, *columns).where(
            node.hierarchy_pk == up.c.hierarchy_pk, node.node_no == up.c.parent_no
        )
    )
    return sa.select(up.c.number, up.c.node_no, up.c.name, up.c.slug).order_by(
        up.c.number, up.c.depth
    )


_WAYS_UP = CompiledStatement(_ways_up)


def _visible(session: Session, store: str, keys: Collection[ParentKey]) -> dict[int, Hierarchy]:
    """The visible ones among the hierarchies of these keys. Read by themselves: beside every node
    they made a tree of 200 nodes a third slower, and PostgreSQL, where it knew too little of the
    tables, looked for them again with each node."""
    return hierarchies.by_pks(session, store, {pk for pk, _ in keys})


def names(session: Session, keys: Collection[ParentKey]) -> dict[ParentKey, str]:
    """The names of the nodes of these keys."""
    return {
        (node.hierarchy_pk, node.node_no): node.name for node in _by_keys(session, list({*keys}))
    }


def _by_keys(session: Session, keys: Sequence[ParentKey]) -> Sequence[Node]:
    if not keys:
        return ()
    found = _OF_KEYS.rows(session, key_values(dialect_of(session), keys))
    return list(map(row_of(session, Node, _NODE_COLUMNS), found))


_NODE_COLUMNS = columns_of(Node, ALL_COLUMNS)
_OF_KEYS = CompiledStatement(
    lambda dialect: _of_keys(dialect, *(getattr(Node, name) for name in _NODE_COLUMNS))
)


def _of_keys(dialect: str, *read: Any) -> sa.Select[Any]:
    asked = key_table(dialect, (int, int))
    hierarchy_pk, node_no = asked.parts
    return sa.select(*read).join_from(
        asked.rows,
        Node,
        sa.and_(col(Node.hierarchy_pk) == hierarchy_pk, col(Node.node_no) == node_no),
    )


def _tree_nodes(
    parents: Sequence[KeyT], found: dict[KeyT, KeysetPage[Node]], known: dict[int, Hierarchy]
) -> dict[KeyT, KeysetPage[TreeNode]]:
    return {
        parent: found.get(parent, EMPTY_PAGE).map(
            lambda node: TreeNode(node, known[node.hierarchy_pk])
        )
        for parent in parents
    }


def _children() -> KeysetQuery:
    node: Any = aliased(Node)
    return KeysetQuery(
        entities=(node,),
        where=(),
        spine=node,
        belongs=lambda pk, no: sa.and_(node.hierarchy_pk == pk, node.parent_no == no),
        order=tuple(OrderBy(getattr(node, column.key), down) for column, down in SIBLINGS),
    )


def _of_hierarchy() -> KeysetQuery:
    node: Any = aliased(Node)
    return KeysetQuery(
        entities=(node,),
        where=(),
        spine=node,
        belongs=lambda pk: node.hierarchy_pk == pk,
        order=tuple(OrderBy(getattr(node, column.key), down) for column, down in PARENTS_FIRST),
    )


def _of_product() -> KeysetQuery:
    node: Any = aliased(Node)
    hierarchy: Any = aliased(Hierarchy)
    association: Any = aliased(ProductNode)
    seen = sa.select(hierarchy.pk).where(visible(sa.bindparam("store"), hierarchy))
    return KeysetQuery(
        entities=(node,),
        where=(
            any_of_array(association.hierarchy_pk, seen),
            node.hierarchy_pk == association.hierarchy_pk,
            node.node_no == association.node_no,
        ),
        spine=association,
        belongs=lambda pk: association.product_pk == pk,
        order=(OrderBy(association.hierarchy_pk), OrderBy(association.node_no)),
        side_by_side=False,  # The product is between them.
    )
