"""Nodes of hierarchies: lookups, lists, and edits of single nodes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Never
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.filters import Conditions, Sort
from app.domain.hierarchies import ROOT_NO, node_id, node_ref
from app.storage import hierarchies
from app.storage.engine.statements import AnyColumn, AnyQuery, AnySelect, BindValues, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.hierarchies import visible
from app.storage.node_filters import in_hierarchy, values_in_hierarchy
from app.storage.sql.dialects import key_table, key_table_values, opaque_limit
from app.storage.sql.filters import FilterShape, filter_shape
from app.storage.sql.keyset import (
    ROW_LIMIT,
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    Order,
    OrderBy,
    ParentT,
    order_by,
    read_pages,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow, read_page_keys
from app.storage.sql.patterns import by_code_points
from app.storage.sql.rows import (
    ALL_COLUMNS,
    Projection,
    RowInsert,
    RowQuery,
    RowUpdate,
    all_columns,
    row_maker,
)
from app.storage.tables import Hierarchy, HierarchyRow, Node, NodeRow

NodeKey = tuple[int, int]
"""A hierarchy's pk and a node number, 0 for the root."""


class TreeNode(NamedTuple):
    """A node with its hierarchy, which its public id depends on."""

    node: NodeRow
    hierarchy: HierarchyRow

    @property
    def id(self) -> UUID:
        return node_id(self.hierarchy.id, self.node.node_no)

    @property
    def key(self) -> NodeKey:
        return self.node.hierarchy_pk, self.node.node_no


class Leaf(NamedTuple):
    """A node without children."""

    node_no: int
    name: str


EMPTY_PAGE: KeysetPage[Never] = KeysetPage()

_NODE_NO = OrderBy(col(Node.node_no))
ORDERS: Mapping[str, Order] = {
    "created_at": (OrderBy(col(Node.created_at)), _NODE_NO),
    "updated_at": (OrderBy(col(Node.updated_at)), _NODE_NO),
    "name": (OrderBy(by_code_points(col(Node.name))), _NODE_NO),
}
"""The ascending order of each attribute that clients can sort by."""


def sibling_order(node: type[Node] = Node) -> Order:
    """Siblings by sort_order descending, unset last, then last edited (domain.md, "Hierarchy")."""
    return (
        OrderBy(col(node.sort_order), True),
        OrderBy(col(node.touched), True),
        OrderBy(col(node.node_no), True),
    )


def parents_first(node: type[Node] = Node) -> Order:
    """Nodes by depth, then in the order of creation."""
    return OrderBy(col(node.depth)), OrderBy(col(node.node_no))


def by_ids(tx: Transaction, store: str, ids: Collection[UUID]) -> dict[UUID, TreeNode]:
    """The visible nodes among `ids`, by id. Roots are not nodes."""
    refs = [node_ref(id) for id in ids]
    by_id = hierarchies.by_ids(tx, store, {ref.hierarchy_id for ref in refs})
    by_pk = {hierarchy.pk: hierarchy for hierarchy in by_id.values()}
    pks = {hierarchy.id: pk for pk, hierarchy in by_pk.items()}
    keys = [(pks[ref.hierarchy_id], ref.node_no) for ref in refs if ref.hierarchy_id in pks]
    nodes = (TreeNode(node, by_pk[node.hierarchy_pk]) for node in by_keys(tx, keys))
    return {node.id: node for node in nodes}


def items_by_keys(
    tx: Transaction, store: str, keys: Collection[NodeKey]
) -> dict[NodeKey, TreeNode | HierarchyRow]:
    """The visible hierarchies (node number 0) and nodes with these keys."""
    by_pk = visible_hierarchies(tx, store, keys)
    items: dict[NodeKey, TreeNode | HierarchyRow] = {
        (pk, no): by_pk[pk] for pk, no in keys if no == ROOT_NO and pk in by_pk
    }
    for node in by_keys(tx, [(pk, no) for pk, no in keys if pk in by_pk]):
        items[node.hierarchy_pk, node.node_no] = TreeNode(node, by_pk[node.hierarchy_pk])
    return items


def children(
    tx: Transaction,
    store: str,
    parents: Sequence[NodeKey],
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> dict[NodeKey, KeysetPage[TreeNode]]:
    """A page of each parent's children, in `sibling_order`."""
    by_pk = visible_hierarchies(tx, store, parents)
    visible_parents = [key for key in parents if key[0] in by_pk]
    projection = projection.union(_KEY_COLUMNS)
    node_pages = read_pages(tx, _children_query, visible_parents, window, projection)
    return with_hierarchies(parents, node_pages, by_pk)


def children_counts(tx: Transaction, store: str, parents: Sequence[NodeKey]) -> dict[NodeKey, int]:
    """Count each parent's children."""
    values = {"store": store, **key_table_values(tx.dialect.name, parents)}
    rows = tx.rows(_CHILDREN_COUNTS, values)
    return dict.fromkeys(parents, 0) | {parents[int(number)]: count for number, count in rows}


def count_statement(
    parent_condition: Callable[[AnyColumn, AnyColumn], sa.ColumnElement[bool]],
) -> PreparedQuery[int, int]:
    """Count the rows of each root or node, in visible hierarchies.

    `parent_condition` is the condition that a row belongs to a hierarchy pk and node number.
    """

    def write(dialect: str) -> sa.Select[int, int]:
        keys = key_table(dialect, (int, int))
        hierarchy_pk, node_no = keys.parts
        count = (
            sa.select(sa.func.count())
            .where(parent_condition(hierarchy_pk, node_no))
            .correlate(keys.rows)
            .scalar_subquery()
        )
        is_visible = sa.and_(col(Hierarchy.pk) == hierarchy_pk, visible(sa.bindparam("store")))
        return sa.select(keys.number, count).join_from(keys.rows, Hierarchy, is_visible)

    return PreparedQuery(write)


_CHILDREN_COUNTS = count_statement(
    lambda pk, no: sa.and_(col(Node.hierarchy_pk) == pk, col(Node.parent_no) == no)
)


def of_hierarchies(
    tx: Transaction,
    store: str,
    hierarchy_pks: Sequence[int],
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> dict[int, KeysetPage[TreeNode]]:
    """A page of each hierarchy's nodes, parents before children."""
    by_pk = hierarchies.by_pks(tx, store, hierarchy_pks)
    visible_pks = [pk for pk in hierarchy_pks if pk in by_pk]
    projection = projection.union(_KEY_COLUMNS)
    node_pages = read_pages(tx, _hierarchy_query, visible_pks, window, projection)
    return with_hierarchies(hierarchy_pks, node_pages, by_pk)


_KEY_COLUMNS = Projection(frozenset({"hierarchy_pk", "node_no"}), keys=False)


def by_no(tx: Transaction, hierarchy_pk: int, node_no: int) -> NodeRow | None:
    """The node with this number."""
    nodes = by_keys(tx, [(hierarchy_pk, node_no)])
    return nodes[0] if nodes else None


def insert(tx: Transaction, **values: object) -> NodeRow:
    """Insert one node, and return it. Columns that are not in `values` get their defaults."""
    return _INSERT.row(tx, **values)


_INSERT = RowInsert(NodeRow)


def update(tx: Transaction, key: NodeKey, **values: object) -> NodeRow:
    """Write `values` to a node, and return it as it is then."""
    pk, node_no = key
    node = _UPDATE.row(tx, {"of": pk, "no": node_no}, **values)
    assert node, "the lock of its hierarchy keeps others from deleting it"
    return node


_UPDATE = RowUpdate(
    NodeRow,
    lambda _: sa.and_(
        # With a known hierarchy PostgreSQL may take another index, and read all its nodes.
        col(Node.hierarchy_pk) == opaque_limit(sa.bindparam("of")),
        col(Node.node_no) == sa.bindparam("no"),
    ),
)


def last_no(tx: Transaction, hierarchy_pk: int) -> int:
    """The greatest node number in the hierarchy, 0 without nodes."""
    rows = tx.rows(_LAST_NO, {"hierarchy_pk": hierarchy_pk})
    return rows[0][0] if rows else 0


_LAST_NO = PreparedQuery(
    lambda _: (
        sa.select(col(Node.node_no))
        .where(col(Node.hierarchy_pk) == sa.bindparam("hierarchy_pk"))
        .order_by(col(Node.node_no).desc())
        .limit(1)
    )
)


def sibling_with(
    tx: Transaction,
    hierarchy_pk: int,
    parent_no: int,
    name: str,
    slug: str | None,
    except_no: int,
) -> NodeRow | None:
    """A child of the parent, except `except_no`, with this name or slug."""
    values = {"hierarchy_pk": hierarchy_pk, "parent_no": parent_no, "name": name, "slug": slug}
    return _SIBLING_WITH.first(tx, {**values, "no": except_no})


_SIBLING_WITH = RowQuery(
    NodeRow,
    lambda _: sa.and_(
        col(Node.hierarchy_pk) == sa.bindparam("hierarchy_pk"),
        col(Node.parent_no) == sa.bindparam("parent_no"),
        col(Node.node_no) != sa.bindparam("no"),
        # A null slug equals that of no row.
        sa.or_(col(Node.name) == sa.bindparam("name"), col(Node.slug) == sa.bindparam("slug")),
    ),
    # In the order of the index on parents, so that PostgreSQL uses that one.
    lambda query: query.order_by(col(Node.sort_order), col(Node.touched)).limit(opaque_limit(1)),
)


def add(tx: Transaction, rows: Sequence[BindValues]) -> None:
    """Insert nodes, as mappings of columns to values."""
    tx.changed(sa.insert(Node), rows)


def leaves(tx: Transaction, hierarchy_pk: int, after_no: int, limit: int) -> list[Leaf]:
    """The next `limit` nodes after `after_no` without children, of any hierarchy."""
    values = {"hierarchy_pk": hierarchy_pk, "after": after_no, "rows": limit}
    return [Leaf(*row) for row in tx.rows(_LEAVES, values)]


def _leaves(_dialect: str) -> sa.Select[int, str]:
    child = aliased(Node)
    first_child = (
        # Selects only a key column, so that SQLite answers it from the index on parents alone.
        sa.select(col(child.node_no))
        .where(
            col(child.hierarchy_pk) == sa.bindparam("hierarchy_pk"),
            col(child.parent_no) == col(Node.node_no),
        )
        # In the order of that index, so that PostgreSQL uses it.
        .order_by(col(child.sort_order), col(child.touched))
        .limit(1)
        .scalar_subquery()
    )
    # CASE keeps PostgreSQL from expecting few leaves, for which it would scan all nodes.
    is_leaf = sa.case((first_child.is_(None), sa.true()), else_=sa.false())
    return (
        sa.select(col(Node.node_no), col(Node.name))
        .where(
            col(Node.hierarchy_pk) == sa.bindparam("hierarchy_pk"),
            col(Node.node_no) > sa.bindparam("after"),
            is_leaf,
        )
        .order_by(col(Node.node_no))
        .limit(opaque_limit(ROW_LIMIT))
    )


_LEAVES = PreparedQuery(_leaves)


def offset_page(
    tx: Transaction,
    hierarchy: HierarchyRow,
    filter: Conditions,
    sort: Sort | None,
    window: OffsetWindow,
    parent_no: int | None = None,
) -> OffsetPage[TreeNode]:
    """A page of a visible hierarchy's matching nodes, by default in `parents_first` order.

    `parent_no` restricts it to the children of that node, 0 for the root, by default in
    `sibling_order`.
    """
    shape, of_parent = filter_shape(filter), parent_no is not None
    values = {**values_in_hierarchy(filter, hierarchy), "parent_no": parent_no}
    query = _list_query(shape, sort, of_parent)
    keys = read_page_keys(tx, [query], window, values)
    by_key = {(node.hierarchy_pk, node.node_no): node for node in by_keys(tx, keys)}
    [(total,)] = tx.rows(_count_statement(shape, of_parent), values)
    return OffsetPage([TreeNode(by_key[key], hierarchy) for key in keys], total)


@lru_cache(maxsize=128)
def _list_query(filter: FilterShape, sort: Sort | None, of_parent: bool) -> KeysetQuery[NodeRow]:
    listed = [col(Node.hierarchy_pk) == sa.bindparam("hierarchy_pk")]
    if of_parent:
        listed.append(col(Node.parent_no) == sa.bindparam("parent_no"))
    default = sibling_order() if of_parent else parents_first()
    return KeysetQuery(
        Node,
        (*listed, *in_hierarchy(filter)),
        order_by(sort, ORDERS) if sort else default,
    )


@lru_cache(maxsize=128)
def _count_statement(filter: FilterShape, of_parent: bool) -> PreparedQuery[int]:
    counted = sa.select(col(Node.node_no)).where(*_list_query(filter, None, of_parent).where)
    if of_parent:
        # Children in the order of the index on parents, so that PostgreSQL uses that one.
        counted = counted.order_by(col(Node.sort_order), col(Node.touched)).offset(0)
    return PreparedQuery(lambda _: sa.select(sa.func.count()).select_from(counted.subquery()))


def visible_hierarchies(
    tx: Transaction, store: str, keys: Collection[NodeKey]
) -> dict[int, HierarchyRow]:
    """The visible hierarchies of these keys, by pk.

    Read by a statement of their own: joined to each node they make a tree of 200 nodes a third
    slower, and without table statistics PostgreSQL looks them up again per node.
    """
    return hierarchies.by_pks(tx, store, {pk for pk, _ in keys})


def parents_among(tx: Transaction, keys: Sequence[NodeKey]) -> set[NodeKey]:
    """The nodes and roots among `keys` that have children."""
    if not keys:
        return set()
    rows = tx.rows(_PARENTS_AMONG, key_table_values(tx.dialect.name, keys))
    return {keys[int(number)] for (number,) in rows}


def _parents_among(dialect: str) -> sa.Select[int]:
    keys = key_table(dialect, (int, int))
    hierarchy_pk, node_no = keys.parts
    child = aliased(Node)
    first_child = (
        # Selects only a key column, so that SQLite answers it from the index on parents alone.
        sa.select(col(child.node_no))
        .where(col(child.hierarchy_pk) == hierarchy_pk, col(child.parent_no) == node_no)
        # In the order of that index, so that PostgreSQL uses it.
        .order_by(col(child.sort_order), col(child.touched))
        .limit(opaque_limit(1))
        .correlate(keys.rows)
        .scalar_subquery()
    )
    return sa.select(keys.number).select_from(keys.rows).where(first_child.is_not(None))


_PARENTS_AMONG = PreparedQuery(_parents_among)


def by_keys(tx: Transaction, keys: Sequence[NodeKey]) -> Sequence[NodeRow]:
    """The nodes with these keys, of any hierarchy, in any order."""
    if not keys:
        return ()
    rows = tx.raw_rows(_BY_KEYS, key_table_values(tx.dialect.name, keys))
    return list(map(row_maker(tx.dialect, NodeRow), rows))


def _select_by_keys(dialect: str) -> AnySelect:
    keys = key_table(dialect, (int, int))
    hierarchy_pk, node_no = keys.parts
    return sa.select(*all_columns(Node)).join_from(
        keys.rows,
        Node,
        sa.and_(col(Node.hierarchy_pk) == hierarchy_pk, col(Node.node_no) == node_no),
    )


_BY_KEYS: AnyQuery = PreparedQuery(_select_by_keys)


def with_hierarchies(
    parents: Sequence[ParentT],
    node_pages: dict[ParentT, KeysetPage[NodeRow]],
    by_pk: dict[int, HierarchyRow],
) -> dict[ParentT, KeysetPage[TreeNode]]:
    """Add its hierarchy to each node. A parent without a page gets an empty one."""
    return {
        parent: node_pages.get(parent, EMPTY_PAGE).map(
            lambda node: TreeNode(node, by_pk[node.hierarchy_pk])
        )
        for parent in parents
    }


def _children_query() -> KeysetQuery[NodeRow]:
    node = aliased(Node)
    return KeysetQuery(
        entity=node,
        where=(),
        parent_condition=lambda pk, no: sa.and_(
            col(node.hierarchy_pk) == pk, col(node.parent_no) == no
        ),
        order=sibling_order(node),
    )


def _hierarchy_query() -> KeysetQuery[NodeRow]:
    node = aliased(Node)
    return KeysetQuery(
        entity=node,
        where=(),
        parent_condition=lambda pk: col(node.hierarchy_pk) == pk,
        order=parents_first(node),
    )
