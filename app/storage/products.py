"""Products, and those of each node in their order."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from app.domain.filters import Conditions
from app.domain.stores import readable_by
from app.storage import hierarchies
from app.storage.hierarchies import readable, readable_beside
from app.storage.nodes import EMPTY_PAGE, ParentKey, counting
from app.storage.sql.dialects import (
    dialect_of,
    insert_ignore,
    key_table,
    key_values,
    keys_for,
    one_of,
    opaque_limit,
)
from app.storage.sql.filters import FilterShape, bind_values, conditions_for, filter_shape
from app.storage.sql.keyset import (
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    OrderBy,
    page,
    pages,
    sql_order,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.sql.rows import ALL_COLUMNS, ID_COLUMN, Projection, RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import NodeProduct, Product, ProductNode

FILTERED: Mapping[str, Any] = {"sku": col(Product.sku), "name": col(Product.name)}
"""What conditions on products may be about."""


class Association(NamedTuple):
    """A product as one of its nodes holds it."""

    product: Product
    curated: bool


def by_ids(
    session: Session, store: str, ids: Collection[UUID], wanted: Projection = ALL_COLUMNS
) -> dict[UUID, Product]:
    """The products among these ids that are the store's or the organization's."""
    values = {"store": store, **keys_for(dialect_of(session), ids)}
    found = _BY_IDS.rows(session, values, wanted.together(ID_COLUMN))
    return {product.id: product for product in found}


_BY_IDS = RowQuery(
    Product,
    lambda dialect: sa.and_(
        readable_beside(Product),
        one_of(dialect, col(Product.id)),
    ),
)


def listing(
    session: Session,
    store: str,
    filter: Conditions,
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
) -> KeysetPage[Product]:
    """A page of the products a store sees, by sku."""
    lists = [{"of": one, **bind_values(filter)} for one in readable_by(store)]
    return page(session, _listing(filter_shape(filter)), window, wanted, lists)


def count(session: Session, store: str, filter: Conditions) -> int:
    """How many of the products a store sees match."""
    stores = readable_by(store)
    values = {f"of_{place}": one for place, one in enumerate(stores)}
    [(count,)] = _counting(filter_shape(filter), len(stores)).rows(
        session, values | bind_values(filter)
    )
    return int(count)


@lru_cache(maxsize=128)
def _listing(filter: FilterShape) -> KeysetQuery:
    of_one = col(Product.store) == sa.bindparam("of", type_=sa.Text)
    order = (OrderBy(col(Product.sku)), OrderBy(col(Product.id)))
    return KeysetQuery((Product,), (of_one, *conditions_for(filter, FILTERED)), order)


@lru_cache(maxsize=128)
def _counting(filter: FilterShape, stores: int) -> CompiledStatement:
    of = [sa.bindparam(f"of_{place}", type_=sa.Text) for place in range(stores)]
    where = (col(Product.store).in_(of), *conditions_for(filter, FILTERED))
    return CompiledStatement(
        lambda _: sa.select(sa.func.count()).select_from(Product).where(*where)
    )


def of_nodes(
    session: Session,
    store: str,
    nodes: Sequence[ParentKey],
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
) -> dict[ParentKey, KeysetPage[Association]]:
    """A page of each node's products: the curated ones in their order, then by sku."""
    seen = hierarchies.visible_pks(session, store, {pk for pk, _ in nodes})
    known = [node for node in nodes if node[0] in seen]
    found = pages(session, _of_node, known, window, wanted, store=store)
    return {node: found.get(node, EMPTY_PAGE).map(lambda row: Association(*row)) for node in nodes}


def counts_of_nodes(
    session: Session, store: str, nodes: Sequence[ParentKey]
) -> dict[ParentKey, int]:
    """How many products each node holds."""
    if not nodes:
        return {}
    counted = _COUNTS.rows(
        session, {"store": store, **key_values(dialect_of(session), list(nodes))}
    )
    return dict.fromkeys(nodes, 0) | {nodes[int(number)]: count for number, count in counted}


_COUNTS = counting(
    lambda pk, no: sa.and_(col(NodeProduct.hierarchy_pk) == pk, col(NodeProduct.node_no) == no)
)


def keys_by_sku(session: Session, store: str, skus: Collection[str]) -> dict[str, int]:
    """The keys of the store's products among these skus."""
    found = session.exec(
        select(Product.sku, Product.pk).where(Product.store == store, col(Product.sku).in_(skus))
    )
    return {sku: pk for sku, pk in found if sku is not None and pk is not None}


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Write those of the products whose sku the store does not have, as rows by column."""
    insert_ignore(session, Product, rows)


def associate(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Write associations with nodes as rows by column, in both directions."""
    session.execute(sa.insert(NodeProduct), rows)
    reverse = [{key: row[key] for key in row if key != "curated_position"} for row in rows]
    session.execute(sa.insert(ProductNode), reverse)


def span_of_node(
    session: Session, store: str, node: ParentKey, span: OffsetWindow
) -> OffsetPage[Association]:
    """A span of a node's products, in their order."""
    total = counts_of_nodes(session, store, [node])[node]
    if not total:  # Nor is its hierarchy seen, perhaps.
        return OffsetPage([], 0)
    listing = _of_node()
    assert listing.belongs is not None
    found = session.execute(
        sa.select(*listing.entities)
        .where(*listing.where, listing.belongs(*node))
        .order_by(*sql_order(listing.order))
        .offset(span.offset)
        .limit(opaque_limit(span.limit)),
        {"store": store},
    )
    return OffsetPage([Association(*row) for row in found], total)


def curated_of(session: Session, nodes: Collection[ParentKey]) -> dict[ParentKey, list[UUID]]:
    """The curated products of each node, at most 20, in their order."""
    dialect = dialect_of(session)
    found: dict[ParentKey, list[UUID]] = {node: [] for node in nodes}
    if nodes:
        keys = key_values(dialect, list(nodes))
        for pk, node_no, id in session.execute(_curated(dialect), keys):
            found[pk, node_no].append(id)
    return found


@lru_cache
def _curated(dialect: str) -> sa.Select[int, int, UUID]:
    bind_values = key_table(dialect, (int, int))
    hierarchy_pk, node_no = bind_values.parts
    held = sa.and_(
        col(NodeProduct.hierarchy_pk) == hierarchy_pk,
        col(NodeProduct.node_no) == node_no,
        col(NodeProduct.curated_position).is_not(None),
    )
    return (
        sa.select(col(NodeProduct.hierarchy_pk), col(NodeProduct.node_no), col(Product.id))
        .join_from(bind_values.rows, NodeProduct, held)
        .join(Product, col(Product.pk) == col(NodeProduct.product_pk))
        .order_by(bind_values.number, col(NodeProduct.curated_position))
    )


def attached(session: Session, node: ParentKey, pks: Collection[int]) -> set[int]:
    """Those of these products that the node holds."""
    found = session.exec(select(NodeProduct.product_pk).where(*_associated(NodeProduct, node, pks)))
    return set(found)


def attach(session: Session, node: ParentKey, pks: Sequence[int]) -> None:
    """Let the node hold these products, which it did not."""
    hierarchy_pk, node_no = node
    associate(
        session,
        [
            {
                "hierarchy_pk": hierarchy_pk,
                "node_no": node_no,
                "product_pk": pk,
                "curated_position": None,
            }
            for pk in pks
        ],
    )


def detach(session: Session, node: ParentKey, pks: Collection[int]) -> int:
    """Let the node no longer hold these products; how many it did."""
    session.exec(sa.delete(ProductNode).where(*_associated(ProductNode, node, pks)))
    return session.exec(sa.delete(NodeProduct).where(*_associated(NodeProduct, node, pks))).rowcount


def curate(session: Session, node: ParentKey, pks: Sequence[int]) -> None:
    """Let these products of the node, which it holds, be its curated ones, in this order."""
    hierarchy_pk, node_no = node
    positions = {pk: position for position, pk in enumerate(pks, 1)}
    position = sa.case(positions, value=col(NodeProduct.product_pk)) if pks else sa.null()
    session.exec(
        sa.update(NodeProduct)
        .where(
            col(NodeProduct.hierarchy_pk) == hierarchy_pk,
            col(NodeProduct.node_no) == node_no,
            sa.or_(
                col(NodeProduct.curated_position).is_not(None), col(NodeProduct.product_pk).in_(pks)
            ),
        )
        .values(curated_position=position)
    )


def _associated(
    table: type[NodeProduct | ProductNode], node: ParentKey, pks: Collection[int]
) -> tuple[sa.ColumnElement[bool], ...]:
    hierarchy_pk, node_no = node
    return (
        col(table.hierarchy_pk) == hierarchy_pk,
        col(table.node_no) == node_no,
        col(table.product_pk).in_(pks),
    )


def _of_node() -> KeysetQuery:
    association: Any = aliased(NodeProduct)
    product: Any = aliased(Product)
    position = sa.func.coalesce(association.curated_position, _BEHIND_ALL, type_=sa.Integer)
    return KeysetQuery(
        entities=(product, association.curated_position.is_not(None)),
        where=(
            product.pk == association.product_pk,
            readable(product, sa.bindparam("store")),
        ),
        spine=association,
        belongs=lambda pk, no: sa.and_(association.hierarchy_pk == pk, association.node_no == no),
        order=(
            OrderBy(position),
            OrderBy(sa.func.coalesce(product.sku, "", type_=sa.Text)),
            OrderBy(product.id),
        ),
    )


_BEHIND_ALL = 32767
