"""Associations of products with nodes, in both directions, and their curation."""

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.errors import InvalidInput
from app.domain.hierarchies import node_ref
from app.storage import hierarchies
from app.storage.engine.statements import AnyQuery, AnySelect, BindValues, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.hierarchies import readable, visible
from app.storage.nodes import (
    EMPTY_PAGE,
    NodeKey,
    TreeNode,
    count_statement,
    items_by_keys,
    visible_hierarchies,
    with_hierarchies,
)
from app.storage.sql.dialects import (
    any_of_array,
    in_keys,
    in_keys_values,
    key_table,
    key_table_values,
    opaque_limit,
)
from app.storage.sql.keyset import (
    ROW_LIMIT,
    Key,
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    OrderBy,
    read_pages,
    sql_order,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.sql.rows import ALL_COLUMNS, Projection, all_columns, row_maker
from app.storage.subtrees import is_deleted
from app.storage.tables import (
    Hierarchy,
    Node,
    NodeProduct,
    NodeRow,
    Product,
    ProductNode,
    ProductRow,
)


class Association(NamedTuple):
    """A product of a node, and whether it is curated there."""

    product: ProductRow
    curated: bool


def of_nodes(
    tx: Transaction,
    store: str,
    nodes: Sequence[NodeKey],
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> dict[NodeKey, KeysetPage[Association]]:
    """A page of each node's products, curated ones first, then by sku."""
    visible_pks = hierarchies.visible_pks(tx, store, {pk for pk, _ in nodes})
    visible_nodes = [node for node in nodes if node[0] in visible_pks]
    pages_by_node = read_pages(tx, _node_query, visible_nodes, window, projection, store=store)
    return {node: pages_by_node.get(node, EMPTY_PAGE) for node in nodes}


def counts_of_nodes(tx: Transaction, store: str, nodes: Sequence[NodeKey]) -> dict[NodeKey, int]:
    """Count each node's products."""
    if not nodes:
        return {}
    rows = tx.rows(
        _COUNTS_OF_NODES, {"store": store, **key_table_values(tx.dialect.name, list(nodes))}
    )
    return dict.fromkeys(nodes, 0) | {nodes[int(number)]: count for number, count in rows}


_COUNTS_OF_NODES = count_statement(
    lambda pk, no: sa.and_(col(NodeProduct.hierarchy_pk) == pk, col(NodeProduct.node_no) == no)
)


def offset_page(
    tx: Transaction, store: str, node: NodeKey, window: OffsetWindow
) -> OffsetPage[Association]:
    """A page of a node's products, in the order of `of_nodes`."""
    total = counts_of_nodes(tx, store, [node])[node]
    if not total:  # Also if the hierarchy is not visible.
        return OffsetPage([], 0)
    values = {"store": store, "pk": node[0], "no": node[1]}
    rows = tx.raw_rows(_PAGE, {**values, "offset": window.offset, "rows": window.limit})
    product = row_maker(tx.dialect, ProductRow)
    return OffsetPage([Association(product(row), bool(row[-1])) for row in rows], total)


def _page(_dialect: str) -> AnySelect:
    query = _node_query()
    assert query.parent_condition is not None
    is_of_node = query.parent_condition(sa.bindparam("pk"), sa.bindparam("no"))
    return (
        sa.select(*all_columns(query.entity), *query.others)
        .where(*query.where, is_of_node)
        .order_by(*sql_order(query.order))
        .offset(sa.bindparam("offset", type_=sa.Integer))
        .limit(opaque_limit(ROW_LIMIT))
    )


_PAGE: AnyQuery = PreparedQuery(_page)


def nodes_of_products(
    tx: Transaction, store: str, product_pks: Sequence[int], window: KeysetWindow
) -> dict[int, KeysetPage[TreeNode]]:
    """A page of each product's nodes, in all visible hierarchies.

    Keys are the nodes' public ids; the node of a cursor may have been deleted. Raises InvalidInput
    for a cursor in a hierarchy that is no longer visible.
    """

    def key_of(id: UUID, argument: str) -> Key:
        ref = node_ref(id)
        hierarchy = hierarchies.by_id(tx, store, ref.hierarchy_id)
        if hierarchy is None:
            raise InvalidInput("The hierarchy of this cursor is gone: begin again.", (argument,))
        return hierarchy.pk, ref.node_no

    node_pages = read_pages(tx, _product_query, product_pks, window.resolved(key_of), store=store)
    keys = {
        (node.hierarchy_pk, node.node_no) for page in node_pages.values() for _, node in page.rows
    }
    visible_by_pk = visible_hierarchies(tx, store, keys)
    tree_node_pages = with_hierarchies(product_pks, node_pages, visible_by_pk)
    return {product: page.by_id() for product, page in tree_node_pages.items()}


def nodes_page(
    tx: Transaction, store: str, product_pk: int, window: OffsetWindow
) -> OffsetPage[TreeNode]:
    """A page of a product's nodes, in the order of `nodes_of_products`."""
    total = counts_of_products(tx, store, [product_pk])[product_pk]
    values = {"store": store, "product_pk": product_pk}
    bounds = {"offset": window.offset, "rows": window.limit}
    keys = [(pk, no) for pk, no in tx.rows(_NODES_PAGE, {**values, **bounds})]
    items = items_by_keys(tx, store, keys)
    rows = (items.get(key) for key in keys)
    return OffsetPage([item for item in rows if isinstance(item, TreeNode)], total)


_NODES_PAGE = PreparedQuery(
    lambda _: (
        sa.select(col(ProductNode.hierarchy_pk), col(ProductNode.node_no))
        .where(
            any_of_array(
                col(ProductNode.hierarchy_pk),
                sa.select(col(Hierarchy.pk)).where(visible(sa.bindparam("store"))),
            ),
            col(ProductNode.product_pk) == sa.bindparam("product_pk"),
            ~is_deleted(ProductNode),
        )
        .order_by(col(ProductNode.hierarchy_pk), col(ProductNode.node_no))
        .offset(sa.bindparam("offset", type_=sa.Integer))
        .limit(opaque_limit(ROW_LIMIT))
    )
)


def counts_of_products(tx: Transaction, store: str, product_pks: Sequence[int]) -> dict[int, int]:
    """Count each product's nodes in the hierarchies that the store sees."""
    rows = tx.rows(
        _COUNTS_OF_PRODUCTS, {"store": store, **in_keys_values(tx.dialect.name, product_pks)}
    )
    return dict.fromkeys(product_pks, 0) | dict(rows)


_COUNTS_OF_PRODUCTS = PreparedQuery(
    lambda dialect: (
        sa.select(col(ProductNode.product_pk), sa.func.count())
        .where(
            any_of_array(
                col(ProductNode.hierarchy_pk),
                sa.select(col(Hierarchy.pk)).where(visible(sa.bindparam("store"))),
            ),
            in_keys(dialect, col(ProductNode.product_pk)),
            ~is_deleted(ProductNode),
        )
        .group_by(col(ProductNode.product_pk))
    )
)


def curated_ids(tx: Transaction, nodes: Collection[NodeKey]) -> dict[NodeKey, list[UUID]]:
    """The ids of each node's curated products (up to 20) in order."""
    dialect = tx.dialect.name
    ids: dict[NodeKey, list[UUID]] = {node: [] for node in nodes}
    if nodes:
        keys = key_table_values(dialect, list(nodes))
        for pk, node_no, id in tx.rows(_CURATED_IDS, keys):
            ids[pk, node_no].append(id)
    return ids


def _curated_ids(dialect: str) -> sa.Select[int, int, UUID]:
    keys = key_table(dialect, (int, int))
    hierarchy_pk, node_no = keys.parts
    is_curated = sa.and_(
        col(NodeProduct.hierarchy_pk) == hierarchy_pk,
        col(NodeProduct.node_no) == node_no,
        col(NodeProduct.curated_position).is_not(None),
    )
    return (
        sa.select(col(NodeProduct.hierarchy_pk), col(NodeProduct.node_no), col(Product.id))
        .join_from(keys.rows, NodeProduct, is_curated)
        .join(Product, col(Product.pk) == col(NodeProduct.product_pk))
        .order_by(keys.number, col(NodeProduct.curated_position))
    )


_CURATED_IDS = PreparedQuery(_curated_ids)


def attached(tx: Transaction, node: NodeKey, product_pks: Collection[int]) -> set[int]:
    """The products among `product_pks` that are associated with the node."""
    rows = tx.rows(
        sa.select(col(NodeProduct.product_pk)).where(*_is_between(NodeProduct, node, product_pks))
    )
    return {pk for (pk,) in rows}


def add(tx: Transaction, rows: Sequence[BindValues]) -> None:
    """Insert rows of node_product, and their counterparts in product_node."""
    tx.changed(sa.insert(NodeProduct), rows)
    reverse = [{key: row[key] for key in row if key != "curated_position"} for row in rows]
    tx.changed(sa.insert(ProductNode), reverse)


def attach(tx: Transaction, node: NodeKey, product_pks: Sequence[int]) -> None:
    """Associate products with the node; none of them may be associated already."""
    hierarchy_pk, node_no = node
    add(
        tx,
        [
            {
                "hierarchy_pk": hierarchy_pk,
                "node_no": node_no,
                "product_pk": product_pk,
                "curated_position": None,
            }
            for product_pk in product_pks
        ],
    )


def detach(tx: Transaction, node: NodeKey, product_pks: Collection[int]) -> int:
    """End the associations of products with the node. Return how many there were."""
    tx.changed(sa.delete(ProductNode).where(*_is_between(ProductNode, node, product_pks)))
    return tx.changed(sa.delete(NodeProduct).where(*_is_between(NodeProduct, node, product_pks)))


def curate(tx: Transaction, node: NodeKey, product_pks: Sequence[int]) -> None:
    """Replace the node's curated products by these associated ones, in this order."""
    hierarchy_pk, node_no = node
    positions = {pk: position for position, pk in enumerate(product_pks, 1)}
    position = sa.case(positions, value=col(NodeProduct.product_pk)) if product_pks else sa.null()
    tx.changed(
        sa.update(NodeProduct)
        .where(
            col(NodeProduct.hierarchy_pk) == hierarchy_pk,
            col(NodeProduct.node_no) == node_no,
            sa.or_(
                col(NodeProduct.curated_position).is_not(None),
                col(NodeProduct.product_pk).in_(product_pks),
            ),
        )
        .values(curated_position=position)
    )


def _is_between(
    table: type[NodeProduct | ProductNode], node: NodeKey, product_pks: Collection[int]
) -> tuple[sa.ColumnElement[bool], ...]:
    hierarchy_pk, node_no = node
    return (
        col(table.hierarchy_pk) == hierarchy_pk,
        col(table.node_no) == node_no,
        col(table.product_pk).in_(product_pks),
    )


def _node_query() -> KeysetQuery[Association]:
    association = aliased(NodeProduct)
    product = aliased(Product)
    position = sa.func.coalesce(col(association.curated_position), _AFTER_CURATED, type_=sa.Integer)
    return KeysetQuery(
        entity=product,
        others=(col(association.curated_position).is_not(None),),
        make=Association,
        where=(
            col(product.pk) == col(association.product_pk),
            readable(product, sa.bindparam("store")),
        ),
        key_entity=association,
        parent_condition=lambda pk, no: sa.and_(
            col(association.hierarchy_pk) == pk, col(association.node_no) == no
        ),
        order=(
            OrderBy(position),
            OrderBy(sa.func.coalesce(col(product.sku), "", type_=sa.Text)),
            OrderBy(col(product.id)),
        ),
    )


_AFTER_CURATED = 32767
"""Position of products that are not curated, the largest SMALLINT."""


def _product_query() -> KeysetQuery[NodeRow]:
    node = aliased(Node)
    hierarchy = aliased(Hierarchy)
    association = aliased(ProductNode)
    visible_pks = sa.select(col(hierarchy.pk)).where(visible(sa.bindparam("store"), hierarchy))
    return KeysetQuery(
        entity=node,
        where=(
            any_of_array(col(association.hierarchy_pk), visible_pks),
            col(node.hierarchy_pk) == col(association.hierarchy_pk),
            col(node.node_no) == col(association.node_no),
        ),
        key_entity=association,
        parent_condition=lambda pk: col(association.product_pk) == pk,
        order=(OrderBy(col(association.hierarchy_pk)), OrderBy(col(association.node_no))),
        contiguous_index=False,  # The index has product_pk between the two columns.
    )
