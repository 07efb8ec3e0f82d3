"""Associations of products with nodes, in both directions, and their curation."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.errors import InvalidInput
from app.domain.hierarchies import node_ref
from app.storage import hierarchies
from app.storage.hierarchies import readable, visible
from app.storage.nodes import (
    EMPTY_PAGE,
    NodeKey,
    TreeNode,
    count_statement,
    visible_hierarchies,
    with_hierarchies,
)
from app.storage.sql.dialects import (
    any_of_array,
    dialect_of,
    in_keys,
    in_keys_values,
    key_table,
    key_table_values,
    opaque_limit,
)
from app.storage.sql.keyset import (
    Key,
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    OrderBy,
    read_pages,
    sql_order,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.sql.rows import ALL_COLUMNS, Projection
from app.storage.sql.statements import CompiledStatement
from app.storage.subtrees import is_deleted
from app.storage.tables import Hierarchy, Node, NodeProduct, Product, ProductNode


class Association(NamedTuple):
    """A product of a node, and whether it is curated there."""

    product: Product
    curated: bool


def of_nodes(
    session: Session,
    store: str,
    nodes: Sequence[NodeKey],
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> dict[NodeKey, KeysetPage[Association]]:
    """A page of each node's products, curated ones first, then by sku."""
    visible_pks = hierarchies.visible_pks(session, store, {pk for pk, _ in nodes})
    visible_nodes = [node for node in nodes if node[0] in visible_pks]
    pages_by_node = read_pages(session, _node_query, visible_nodes, window, projection, store=store)
    return {
        node: pages_by_node.get(node, EMPTY_PAGE).map(lambda row: Association(*row))
        for node in nodes
    }


def counts_of_nodes(session: Session, store: str, nodes: Sequence[NodeKey]) -> dict[NodeKey, int]:
    """Count each node's products."""
    if not nodes:
        return {}
    rows = _COUNTS_OF_NODES.rows(
        session, {"store": store, **key_table_values(dialect_of(session), list(nodes))}
    )
    return dict.fromkeys(nodes, 0) | {nodes[int(number)]: count for number, count in rows}


_COUNTS_OF_NODES = count_statement(
    lambda pk, no: sa.and_(col(NodeProduct.hierarchy_pk) == pk, col(NodeProduct.node_no) == no)
)


def offset_page(
    session: Session, store: str, node: NodeKey, window: OffsetWindow
) -> OffsetPage[Association]:
    """A page of a node's products, in the order of `of_nodes`."""
    total = counts_of_nodes(session, store, [node])[node]
    if not total:  # Also if the hierarchy is not visible.
        return OffsetPage([], 0)
    query = _node_query()
    assert query.parent_condition is not None
    rows = session.execute(
        sa.select(*query.entities)
        .where(*query.where, query.parent_condition(*node))
        .order_by(*sql_order(query.order))
        .offset(window.offset)
        .limit(opaque_limit(window.limit)),
        {"store": store},
    )
    return OffsetPage([Association(*row) for row in rows], total)


def nodes_of_products(
    session: Session, store: str, product_pks: Sequence[int], window: KeysetWindow
) -> dict[int, KeysetPage[TreeNode]]:
    """A page of each product's nodes, in all visible hierarchies.

    Keys are the nodes' public ids; the node of a cursor may have been deleted. Raises InvalidInput
    for a cursor in a hierarchy that is no longer visible.
    """

    def key_of(id: UUID, argument: str) -> Key:
        ref = node_ref(id)
        hierarchy = hierarchies.by_id(session, store, ref.hierarchy_id)
        if hierarchy is None:
            raise InvalidInput("The hierarchy of this cursor is gone: begin again.", (argument,))
        return hierarchy.pk, ref.node_no

    node_pages = read_pages(
        session, _product_query, product_pks, window.resolved(key_of), store=store
    )
    keys = {
        (node.hierarchy_pk, node.node_no) for page in node_pages.values() for _, node in page.rows
    }
    visible_by_pk = visible_hierarchies(session, store, keys)
    tree_node_pages = with_hierarchies(product_pks, node_pages, visible_by_pk)
    return {product: page.by_id() for product, page in tree_node_pages.items()}


def counts_of_products(session: Session, store: str, product_pks: Sequence[int]) -> dict[int, int]:
    """Count each product's nodes in the hierarchies that the store sees."""
    rows = _COUNTS_OF_PRODUCTS.rows(
        session, {"store": store, **in_keys_values(dialect_of(session), product_pks)}
    )
    return dict.fromkeys(product_pks, 0) | dict(rows)


_COUNTS_OF_PRODUCTS = CompiledStatement(
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


def curated_ids(session: Session, nodes: Collection[NodeKey]) -> dict[NodeKey, list[UUID]]:
    """The ids of each node's curated products (up to 20) in order."""
    dialect = dialect_of(session)
    ids: dict[NodeKey, list[UUID]] = {node: [] for node in nodes}
    if nodes:
        keys = key_table_values(dialect, list(nodes))
        for pk, node_no, id in session.execute(_curated_ids_statement(dialect), keys):
            ids[pk, node_no].append(id)
    return ids


@lru_cache
def _curated_ids_statement(dialect: str) -> sa.Select[int, int, UUID]:
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


def attached(session: Session, node: NodeKey, product_pks: Collection[int]) -> set[int]:
    """The products among `product_pks` that are associated with the node."""
    pks = session.exec(
        select(NodeProduct.product_pk).where(*_is_between(NodeProduct, node, product_pks))
    )
    return set(pks)


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows of node_product, and their counterparts in product_node."""
    session.execute(sa.insert(NodeProduct), rows)
    reverse = [{key: row[key] for key in row if key != "curated_position"} for row in rows]
    session.execute(sa.insert(ProductNode), reverse)


def attach(session: Session, node: NodeKey, product_pks: Sequence[int]) -> None:
    """Associate products with the node; none of them may be associated already."""
    hierarchy_pk, node_no = node
    add(
        session,
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


def detach(session: Session, node: NodeKey, product_pks: Collection[int]) -> int:
    """End the associations of products with the node. Return how many there were."""
    session.exec(sa.delete(ProductNode).where(*_is_between(ProductNode, node, product_pks)))
    return session.exec(
        sa.delete(NodeProduct).where(*_is_between(NodeProduct, node, product_pks))
    ).rowcount


def curate(session: Session, node: NodeKey, product_pks: Sequence[int]) -> None:
    """Replace the node's curated products by these associated ones, in this order."""
    hierarchy_pk, node_no = node
    positions = {pk: position for position, pk in enumerate(product_pks, 1)}
    position = sa.case(positions, value=col(NodeProduct.product_pk)) if product_pks else sa.null()
    session.exec(
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


def _node_query() -> KeysetQuery:
    association: Any = aliased(NodeProduct)
    product: Any = aliased(Product)
    position = sa.func.coalesce(association.curated_position, _AFTER_CURATED, type_=sa.Integer)
    return KeysetQuery(
        entities=(product, association.curated_position.is_not(None)),
        where=(
            product.pk == association.product_pk,
            readable(product, sa.bindparam("store")),
        ),
        row_entity=association,
        parent_condition=lambda pk, no: sa.and_(
            association.hierarchy_pk == pk, association.node_no == no
        ),
        order=(
            OrderBy(position),
            OrderBy(sa.func.coalesce(product.sku, "", type_=sa.Text)),
            OrderBy(product.id),
        ),
    )


_AFTER_CURATED = 32767
"""Position of products that are not curated, the largest SMALLINT."""


def _product_query() -> KeysetQuery:
    node: Any = aliased(Node)
    hierarchy: Any = aliased(Hierarchy)
    association: Any = aliased(ProductNode)
    visible_pks = sa.select(hierarchy.pk).where(visible(sa.bindparam("store"), hierarchy))
    return KeysetQuery(
        entities=(node,),
        where=(
            any_of_array(association.hierarchy_pk, visible_pks),
            node.hierarchy_pk == association.hierarchy_pk,
            node.node_no == association.node_no,
        ),
        row_entity=association,
        parent_condition=lambda pk: association.product_pk == pk,
        order=(OrderBy(association.hierarchy_pk), OrderBy(association.node_no)),
        contiguous_index=False,  # The index has product_pk between the two columns.
    )
