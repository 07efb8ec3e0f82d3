"""Products: lookups, lists, and inserts."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.filters import Conditions
from app.domain.stores import readable_by
from app.storage.hierarchies import readable_by_key
from app.storage.sql.dialects import dialect_of, in_keys, in_keys_values, insert_ignore
from app.storage.sql.filters import FilterShape, bind_values, conditions_for, filter_shape
from app.storage.sql.keyset import KeysetPage, KeysetQuery, KeysetWindow, OrderBy, read_page
from app.storage.sql.rows import ALL_COLUMNS, ID_COLUMN, Projection, RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Product

FILTER_COLUMNS: Mapping[str, Any] = {"sku": col(Product.sku), "name": col(Product.name)}
"""The column of each attribute that clients can filter by."""


def by_ids(
    session: Session, store: str, ids: Collection[UUID], projection: Projection = ALL_COLUMNS
) -> dict[UUID, Product]:
    """The products a store sees among `ids`, by id."""
    values = {"store": store, **in_keys_values(dialect_of(session), ids)}
    products = _BY_IDS.rows(session, values, projection.union(ID_COLUMN))
    return {product.id: product for product in products}


_BY_IDS = RowQuery(
    Product,
    lambda dialect: sa.and_(
        readable_by_key(Product),
        in_keys(dialect, col(Product.id)),
    ),
)


def listing(
    session: Session,
    store: str,
    filter: Conditions,
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> KeysetPage[Product]:
    """A page of the matching products a store sees, by sku."""
    # One list per owning store: for a single list a database would sort the rows of both.
    lists = [{"owning_store": owner, **bind_values(filter)} for owner in readable_by(store)]
    return read_page(session, _list_query(filter_shape(filter)), window, projection, lists)


def count(session: Session, store: str, filter: Conditions) -> int:
    """Count the matching products a store sees."""
    owners = readable_by(store)
    values = {f"owning_store_{index}": owner for index, owner in enumerate(owners)}
    [(count,)] = _count_statement(filter_shape(filter), len(owners)).rows(
        session, values | bind_values(filter)
    )
    return int(count)


@lru_cache(maxsize=128)
def _list_query(filter: FilterShape) -> KeysetQuery:
    owned = col(Product.store) == sa.bindparam("owning_store", type_=sa.Text)
    order = (OrderBy(col(Product.sku)), OrderBy(col(Product.id)))
    return KeysetQuery((Product,), (owned, *conditions_for(filter, FILTER_COLUMNS)), order)


@lru_cache(maxsize=128)
def _count_statement(filter: FilterShape, owner_count: int) -> CompiledStatement:
    owners = [sa.bindparam(f"owning_store_{index}", type_=sa.Text) for index in range(owner_count)]
    where = (col(Product.store).in_(owners), *conditions_for(filter, FILTER_COLUMNS))
    return CompiledStatement(
        lambda _: sa.select(sa.func.count()).select_from(Product).where(*where)
    )


def pks_by_sku(session: Session, store: str, skus: Collection[str]) -> dict[str, int]:
    """The pks of the store's products among `skus`, by sku."""
    rows = session.exec(
        select(Product.sku, Product.pk).where(Product.store == store, col(Product.sku).in_(skus))
    )
    return {sku: pk for sku, pk in rows if sku is not None and pk is not None}


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Insert products, except those whose sku the store has already."""
    insert_ignore(session, Product, rows)
