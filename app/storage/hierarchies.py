"""Hierarchies: lookups, lists, inserts, and purging of discarded ones."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.filters import Conditions, Sort
from app.domain.hierarchies import LAST_NODE_NO, HierarchyState, new_hierarchy_id, node_id
from app.domain.stores import ORGANIZATION, owner_of, readable_by
from app.storage.engine.database import now
from app.storage.sql.dialects import dialect_of, in_keys, in_keys_values, no_index
from app.storage.sql.filters import FilterShape, bind_values, conditions_for, filter_shape
from app.storage.sql.keyset import (
    KeysetPage,
    KeysetQuery,
    KeysetWindow,
    Order,
    OrderBy,
    order_by,
    read_page,
)
from app.storage.sql.offset import OffsetPage, OffsetWindow, read_page_keys
from app.storage.sql.rows import ALL_COLUMNS, ID_COLUMN, Projection, RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import DeletedNode, Hierarchy, Node, NodeProduct, Product, ProductNode

FILTER_COLUMNS: Mapping[str, Any] = {
    "id": col(Hierarchy.id),
    "name": col(Hierarchy.name),
    "slug": col(Hierarchy.slug),
    "description": col(Hierarchy.description),
    "owner": col(Hierarchy.owner),
    "created_at": col(Hierarchy.created_at),
    "updated_at": col(Hierarchy.updated_at),
}
"""The column of each attribute that clients can filter by."""

_CREATION = (OrderBy(col(Hierarchy.created_at)), OrderBy(col(Hierarchy.id)))
ORDERS: Mapping[str, Order] = {
    "created_at": _CREATION,
    "updated_at": (OrderBy(col(Hierarchy.updated_at)), *_CREATION),
    "name": (OrderBy(col(Hierarchy.name)), *_CREATION),
}
"""The ascending order of each attribute that clients can sort by."""

NEWEST_FIRST = Sort("created_at", descending=True)


def readable(owned: Any, store: Any) -> sa.ColumnElement[bool]:
    """Condition that a hierarchy or product is the store's or the organization's."""
    condition: sa.ColumnElement[bool] = owned.store.in_((store, ORGANIZATION))
    return condition


def readable_by_key(owned: Any) -> sa.ColumnElement[bool]:
    """`readable` for the parameter `store`, in lookups by key."""
    condition: sa.ColumnElement[bool] = no_index(owned.store).in_(
        (sa.bindparam("store", type_=sa.Text), ORGANIZATION)
    )
    return condition


def visible(store: Any, hierarchy: Any = Hierarchy) -> sa.ColumnElement[bool]:
    """Condition that a store sees a hierarchy: it is readable and READY."""
    return sa.and_(readable(hierarchy, store), _is_ready(hierarchy))


def _is_ready(hierarchy: Any = Hierarchy) -> sa.ColumnElement[bool]:
    # CASE hides the condition from planners. Nearly all hierarchies are READY: without statistics
    # a database would use the index on state for all stores, or expect so few rows of one store
    # that it reads and sorts all of them.
    return sa.case((hierarchy.state == HierarchyState.READY, sa.true()), else_=sa.false())


def by_ids(
    session: Session, store: str, ids: Collection[UUID], projection: Projection = ALL_COLUMNS
) -> dict[UUID, Hierarchy]:
    """The visible hierarchies among `ids`, by id."""
    values = {"store": store, **in_keys_values(dialect_of(session), ids)}
    hierarchies = _BY_IDS.rows(session, values, projection.union(ID_COLUMN))
    return {hierarchy.id: hierarchy for hierarchy in hierarchies}


_VISIBLE_BY_KEY = sa.and_(readable_by_key(Hierarchy), _is_ready())
_BY_IDS = RowQuery(
    Hierarchy,
    lambda dialect: sa.and_(_VISIBLE_BY_KEY, in_keys(dialect, col(Hierarchy.id))),
)


def by_pks(
    session: Session, store: str, pks: Collection[int], projection: Projection = ALL_COLUMNS
) -> dict[int, Hierarchy]:
    """The visible hierarchies among `pks`, by pk."""
    values = {"store": store, **in_keys_values(dialect_of(session), pks)}
    hierarchies = _BY_PKS.rows(session, values, projection.union(PK_COLUMN))
    return {hierarchy.pk: hierarchy for hierarchy in hierarchies}


_BY_PKS = RowQuery(
    Hierarchy,
    lambda dialect: sa.and_(_VISIBLE_BY_KEY, in_keys(dialect, col(Hierarchy.pk))),
)
PK_COLUMN = Projection(frozenset({"pk"}), keys=False)


def by_id(session: Session, store: str, id: UUID) -> Hierarchy | None:
    """The hierarchy, if it is visible."""
    return by_ids(session, store, [id]).get(id)


def lock(session: Session, store: str, id: UUID) -> Hierarchy | None:
    """The hierarchy, if it is visible, locked until the transaction ends."""
    return session.exec(
        select(Hierarchy).where(visible(store), Hierarchy.id == id).with_for_update()
    ).first()


def add(session: Session, store: str, state: HierarchyState, **values: Any) -> Hierarchy:
    """Insert a hierarchy of the store; `values` are its other columns."""
    at = now(session)
    hierarchy = Hierarchy(
        id=new_hierarchy_id(),
        store=store,
        owner=owner_of(store),
        state=state,
        created_at=at,
        updated_at=at,
        **values,
    )
    session.add(hierarchy)
    session.flush()
    return hierarchy


def revision(session: Session, store: str, id: UUID) -> int | None:
    """The hierarchy's revision, if it is visible."""
    return session.exec(
        select(Hierarchy.revision).where(visible(store), Hierarchy.id == id)
    ).first()


def listing(
    session: Session,
    store: str,
    filter: Conditions,
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> KeysetPage[Hierarchy]:
    """A page of the matching hierarchies a store sees, newest first."""
    # One list per owning store: for a single list a database would sort the rows of both.
    lists = [
        _owner_values([owner]) | bind_values(filter) for owner in _owning_stores(store, filter)
    ]
    query = _list_query(filter_shape(filter), NEWEST_FIRST, 0)
    return read_page(session, query, window, projection, lists)


@lru_cache(maxsize=128)
def _list_query(filter: FilterShape, sort: Sort, number: int) -> KeysetQuery:
    """The list of one owning store, the parameter `_owning_store(number)`."""
    owned = col(Hierarchy.store) == _owning_store(number)
    return KeysetQuery(
        (Hierarchy,),
        (owned, _is_ready(), *conditions_for(filter, FILTER_COLUMNS)),
        order_by(sort, ORDERS),
        row_entity=Hierarchy,
    )


def offset_page(
    session: Session, store: str, filter: Conditions, sort: Sort | None, window: OffsetWindow
) -> OffsetPage[Hierarchy]:
    """A page of the matching hierarchies a store sees, by default newest first."""
    shape, owners = filter_shape(filter), _owning_stores(store, filter)
    # One list per owning store, as in `listing`.
    queries = [_list_query(shape, sort or NEWEST_FIRST, number) for number in range(len(owners))]
    keys = read_page_keys(session, queries, window, _owner_values(owners) | bind_values(filter))
    pks = [pk for (pk,) in keys]
    hierarchies = by_pks(session, store, pks)
    return OffsetPage([hierarchies[pk] for pk in pks], count(session, store, filter))


def count(session: Session, store: str, filter: Conditions) -> int:
    """Count the matching hierarchies a store sees."""
    owners = _owning_stores(store, filter)
    [(count,)] = _count_statement(filter_shape(filter), len(owners)).rows(
        session, _owner_values(owners) | bind_values(filter)
    )
    return int(count)


@lru_cache(maxsize=128)
def _count_statement(filter: FilterShape, owner_count: int) -> CompiledStatement:
    owners = [_owning_store(number) for number in range(owner_count)]
    where = (col(Hierarchy.store).in_(owners), _is_ready(), *conditions_for(filter, FILTER_COLUMNS))
    return CompiledStatement(
        lambda _: sa.select(sa.func.count()).select_from(Hierarchy).where(*where)
    )


def node_counts(session: Session, store: str, pks: Collection[int]) -> dict[int, int]:
    """The nodes below the root of each visible hierarchy, by pk."""
    hierarchies = by_pks(session, store, pks, NODE_COUNT)
    return {pk: hierarchy.node_count for pk, hierarchy in hierarchies.items()}


NODE_COUNT = Projection(frozenset({"node_count"}))


def visible_pks(session: Session, store: str, pks: Collection[int]) -> set[int]:
    """The visible hierarchies among `pks`."""
    return set(node_counts(session, store, pks))


def discard(session: Session, pk: int) -> None:
    """Mark an unfinished hierarchy as discarded; the sweeper deletes it."""
    session.exec(
        sa.update(Hierarchy)
        .where(col(Hierarchy.pk) == pk, col(Hierarchy.state) != HierarchyState.READY)
        .values(state=HierarchyState.DISCARDED)
    )


def abandon_import(session: Session, pk: int) -> None:
    """Mark an unfinished import as abandoned; the sweeper deletes it."""
    _abandon_imports(session, col(Hierarchy.pk) == pk)


def abandon_idle_imports(session: Session, idle_since: datetime) -> None:
    """Mark unfinished imports without additions since `idle_since` as abandoned."""
    _abandon_imports(session, col(Hierarchy.updated_at) < idle_since)


def _abandon_imports(session: Session, condition: sa.ColumnElement[bool]) -> None:
    session.exec(
        sa.update(Hierarchy)
        .where(col(Hierarchy.state) == HierarchyState.IMPORTING, condition)
        .values(state=HierarchyState.ABANDONED)
    )


def purge_discarded(session: Session, rows: int) -> bool:
    """Delete up to `rows` rows of one discarded hierarchy. Return False if none remains."""
    discarded = (HierarchyState.DISCARDED, HierarchyState.ABANDONED)
    hierarchy = session.exec(
        select(Hierarchy)
        .where(col(Hierarchy.state).in_(discarded))
        .limit(1)
        # A locked one is being purged by another process.
        .with_for_update(skip_locked=True)
    ).first()
    if hierarchy is None:
        return False
    pk = hierarchy.pk
    for table in (ProductNode, NodeProduct, DeletedNode, Node):
        owner, *key = sa.inspect(table).primary_key
        last = session.execute(
            sa.select(*key).where(owner == pk).order_by(*key).offset(rows - 1).limit(1)
        ).first()
        chunk = [] if last is None else [sa.tuple_(*key) <= sa.tuple_(*last)]
        if session.exec(sa.delete(table).where(owner == pk, *chunk)).rowcount:
            return True
    if hierarchy.state is HierarchyState.ABANDONED and _delete_generated_products(
        session, hierarchy, rows
    ):
        return True
    session.exec(sa.delete(Hierarchy).where(col(Hierarchy.pk) == pk))
    return True


def _delete_generated_products(session: Session, hierarchy: Hierarchy, rows: int) -> int:
    """Delete products that an import generated for its leaves.

    Their skus begin with the id of their node. Deletes up to `rows` of them and returns how many.
    """
    first, last = (str(node_id(hierarchy.id, no)) for no in (0, LAST_NODE_NO))
    generated = (
        select(Product.pk)
        .where(
            Product.store == hierarchy.store,
            col(Product.sku) >= first,
            col(Product.sku) <= last,
        )
        .limit(rows)
    )
    return session.exec(sa.delete(Product).where(col(Product.pk).in_(generated))).rowcount


def _owning_store(number: int) -> sa.BindParameter[str]:
    return sa.bindparam(f"owning_store_{number}", type_=sa.Text)


def _owner_values(owners: Sequence[str]) -> dict[str, Any]:
    """The values of the parameters `_owning_store`."""
    return {f"owning_store_{number}": owner for number, owner in enumerate(owners)}


def _owning_stores(store: str, filter: Conditions) -> list[str]:
    """The stores that `store` can read and whose owner matches `filter`.

    At least `store` itself, so that a statement has a list to read.
    """
    conditions = [condition for condition in filter if condition.attribute == "owner"]
    owning = [
        readable_store
        for readable_store in readable_by(store)
        if all(owner_of(readable_store) in condition.values for condition in conditions)
    ]
    return owning or [store]
