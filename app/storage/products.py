"""Products: lookups, lists, and inserts."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from app.domain.filters import Conditions
from app.domain.hierarchies import Owner
from app.domain.stores import ORGANIZATION, readable_by
from app.storage.engine.statements import AnyColumn, BindValues, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.hierarchies import readable, readable_by_key
from app.storage.sql.column_types import literal, stored_enum
from app.storage.sql.dialects import in_keys, in_keys_values, insert_ignore
from app.storage.sql.filters import FilterShape, bind_values, conditions_for, filter_shape
from app.storage.sql.keyset import KeysetPage, KeysetQuery, KeysetWindow, OrderBy, read_page
from app.storage.sql.rows import ALL_COLUMNS, ID_COLUMN, Projection, RowQuery
from app.storage.tables import Product, ProductRow

FILTER_COLUMNS: Mapping[str, AnyColumn] = {
    "id": col(Product.id),
    "sku": col(Product.sku),
    "name": col(Product.name),
    "owner": sa.type_coerce(
        sa.case(
            (col(Product.store) == ORGANIZATION, literal(Owner.ORGANIZATION)),
            else_=literal(Owner.STORE),
        ),
        stored_enum(Owner),
    ),
}
"""The column of each attribute that clients can filter by."""


def by_ids(
    tx: Transaction, store: str, ids: Collection[UUID], projection: Projection = ALL_COLUMNS
) -> dict[UUID, ProductRow]:
    """The products a store sees among `ids`, by id."""
    values = {"store": store, **in_keys_values(tx.dialect.name, ids)}
    products = _BY_IDS.rows(tx, values, projection.union(ID_COLUMN))
    return {product.id: product for product in products}


_BY_IDS = RowQuery(
    ProductRow,
    lambda dialect: sa.and_(
        readable_by_key(Product),
        in_keys(dialect, col(Product.id)),
    ),
)


def listing(
    tx: Transaction,
    store: str,
    filter: Conditions,
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> KeysetPage[ProductRow]:
    """A page of the matching products a store sees, by sku."""
    # One list per owning store: for a single list a database would sort the rows of both.
    lists = [{"owning_store": owner, **bind_values(filter)} for owner in readable_by(store)]
    return read_page(tx, _list_query(filter_shape(filter)), window, projection, lists)


def count(tx: Transaction, store: str, filter: Conditions) -> int:
    """Count the matching products a store sees."""
    owners = readable_by(store)
    values = {f"owning_store_{index}": owner for index, owner in enumerate(owners)}
    statement = _count_statement(filter_shape(filter), len(owners))
    [(count,)] = tx.rows(statement, values | bind_values(filter))
    return count


def ids(tx: Transaction, store: str, filter: Conditions, limit: int) -> list[UUID]:
    """The ids of up to `limit` matching products a store sees."""
    values = {"store": store, "rows": limit, **bind_values(filter)}
    return [id for (id,) in tx.rows(_ids_statement(filter_shape(filter)), values)]


@lru_cache(maxsize=128)
def _ids_statement(filter: FilterShape) -> PreparedQuery[UUID]:
    where = (
        readable(Product, sa.bindparam("store", type_=sa.Text)),
        *conditions_for(filter, FILTER_COLUMNS),
    )
    rows = sa.bindparam("rows", type_=sa.Integer)
    return PreparedQuery(lambda _: sa.select(col(Product.id)).where(*where).limit(rows))


@lru_cache(maxsize=128)
def _list_query(filter: FilterShape) -> KeysetQuery[ProductRow]:
    owned = col(Product.store) == sa.bindparam("owning_store", type_=sa.Text)
    order = (OrderBy(col(Product.sku)), OrderBy(col(Product.id)))
    return KeysetQuery(Product, (owned, *conditions_for(filter, FILTER_COLUMNS)), order)


@lru_cache(maxsize=128)
def _count_statement(filter: FilterShape, owner_count: int) -> PreparedQuery[int]:
    owners = [sa.bindparam(f"owning_store_{index}", type_=sa.Text) for index in range(owner_count)]
    where = (col(Product.store).in_(owners), *conditions_for(filter, FILTER_COLUMNS))
    return PreparedQuery(lambda _: sa.select(sa.func.count()).select_from(Product).where(*where))


def pks_by_sku(tx: Transaction, store: str, skus: Collection[str]) -> dict[str, int]:
    """The pks of the store's products among `skus`, by sku."""
    rows = tx.rows(
        sa.select(col(Product.sku), col(Product.pk)).where(
            col(Product.store) == store, col(Product.sku).in_(skus)
        )
    )
    return {sku: pk for sku, pk in rows if sku is not None}


def add(tx: Transaction, rows: Sequence[BindValues]) -> None:
    """Insert products, except those whose sku the store has already."""
    insert_ignore(tx, Product, rows)
