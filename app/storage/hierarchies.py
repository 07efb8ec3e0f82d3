"""Hierarchies: lookups, lists, inserts, and purging of discarded ones."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from app.domain.filters import Conditions, Sort
from app.domain.hierarchies import LAST_NODE_NO, ROOT_NO, HierarchyState, new_hierarchy_id, node_id
from app.domain.stores import ORGANIZATION, owner_of, readable_by
from app.storage.engine.statements import AnyColumn, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.column_types import literal
from app.storage.sql.dialects import in_keys, in_keys_values, no_index
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
from app.storage.sql.patterns import by_code_points
from app.storage.sql.rows import ALL_COLUMNS, ID_COLUMN, Projection, RowInsert, RowQuery, RowUpdate
from app.storage.sql.translations import translated
from app.storage.tables import (
    DeletedNode,
    Hierarchy,
    HierarchyRow,
    Node,
    NodeProduct,
    Product,
    ProductNode,
)

FILTER_COLUMNS: Mapping[str, AnyColumn] = {
    "id": col(Hierarchy.id),
    "hierarchy_id": col(Hierarchy.id),
    # A root has no parent.
    "parent_id": sa.cast(sa.null(), sa.Uuid),
    "name": col(Hierarchy.name),
    "slug": col(Hierarchy.slug),
    "description": col(Hierarchy.description),
    "owner": col(Hierarchy.owner),
    "created_at": col(Hierarchy.created_at),
    "updated_at": col(Hierarchy.updated_at),
    "has_children": sa.exists().where(
        col(Node.hierarchy_pk) == col(Hierarchy.pk), col(Node.parent_no) == ROOT_NO
    ),
}
"""The column of each attribute that clients can filter by, but for translations."""


def filter_columns(filter: FilterShape) -> Mapping[str, AnyColumn]:
    """The column of each attribute of a filter. A root's breadcrumbs are the root alone."""
    columns: dict[str, AnyColumn] = {}
    for name, _, _ in filter:
        attribute = name.removeprefix("breadcrumbs.")
        columns[name] = (
            FILTER_COLUMNS[attribute]
            if attribute in FILTER_COLUMNS
            else translated(col(Hierarchy.locales), attribute)
        )
    return columns


_CREATION = (OrderBy(col(Hierarchy.created_at)), OrderBy(col(Hierarchy.id)))
ORDERS: Mapping[str, Order] = {
    "created_at": _CREATION,
    "updated_at": (OrderBy(col(Hierarchy.updated_at)), *_CREATION),
    "name": (OrderBy(by_code_points(col(Hierarchy.name))), *_CREATION),
}
"""The ascending order of each attribute that clients can sort by."""

NEWEST_FIRST = Sort("created_at", descending=True)


def readable(
    owned: type[Hierarchy | Product], store: sa.BindParameter[str]
) -> sa.ColumnElement[bool]:
    """Condition that a hierarchy or product is the store's or the organization's."""
    return col(owned.store).in_((store, ORGANIZATION))


def readable_by_key(owned: type[Hierarchy | Product]) -> sa.ColumnElement[bool]:
    """`readable` for the parameter `store`, in lookups by key."""
    return no_index(col(owned.store)).in_((sa.bindparam("store", type_=sa.Text), ORGANIZATION))


def visible(
    store: sa.BindParameter[str], hierarchy: type[Hierarchy] = Hierarchy
) -> sa.ColumnElement[bool]:
    """Condition that a store sees a hierarchy: it is readable and READY."""
    return sa.and_(readable(hierarchy, store), _is_ready(hierarchy))


def _is_ready(hierarchy: type[Hierarchy] = Hierarchy) -> sa.ColumnElement[bool]:
    # CASE hides the condition from planners. Nearly all hierarchies are READY: without statistics
    # a database would use the index on state for all stores, or expect so few rows of one store
    # that it reads and sorts all of them.
    return sa.case((col(hierarchy.state) == HierarchyState.READY, sa.true()), else_=sa.false())


def by_ids(
    tx: Transaction, store: str, ids: Collection[UUID], projection: Projection = ALL_COLUMNS
) -> dict[UUID, HierarchyRow]:
    """The visible hierarchies among `ids`, by id."""
    values = {"store": store, **in_keys_values(tx.dialect.name, ids)}
    hierarchies = _BY_IDS.rows(tx, values, projection.union(ID_COLUMN))
    return {hierarchy.id: hierarchy for hierarchy in hierarchies}


_VISIBLE_BY_KEY = sa.and_(readable_by_key(Hierarchy), _is_ready())
_BY_IDS = RowQuery(
    HierarchyRow,
    lambda dialect: sa.and_(_VISIBLE_BY_KEY, in_keys(dialect, col(Hierarchy.id))),
)


def by_pks(
    tx: Transaction, store: str, pks: Collection[int], projection: Projection = ALL_COLUMNS
) -> dict[int, HierarchyRow]:
    """The visible hierarchies among `pks`, by pk."""
    values = {"store": store, **in_keys_values(tx.dialect.name, pks)}
    hierarchies = _BY_PKS.rows(tx, values, projection.union(PK_COLUMN))
    return {hierarchy.pk: hierarchy for hierarchy in hierarchies}


_BY_PKS = RowQuery(
    HierarchyRow,
    lambda dialect: sa.and_(_VISIBLE_BY_KEY, in_keys(dialect, col(Hierarchy.pk))),
)
PK_COLUMN = Projection(frozenset({"pk"}), keys=False)


def by_id(tx: Transaction, store: str, id: UUID) -> HierarchyRow | None:
    """The hierarchy, if it is visible."""
    return by_ids(tx, store, [id]).get(id)


def begin_edit(tx: Transaction, store: str, id: UUID) -> HierarchyRow | None:
    """Increment the revision of the store's own hierarchy, if it is READY, and return it.

    It is locked until the transaction ends.
    """
    return _BEGIN_EDIT.row(tx, {"owner_store": store, "of": id})


_BEGIN_EDIT = RowUpdate(
    HierarchyRow,
    lambda _: sa.and_(
        no_index(col(Hierarchy.store)) == sa.bindparam("owner_store", type_=sa.Text),
        _is_ready(),
        col(Hierarchy.id) == sa.bindparam("of"),
    ),
    revision=col(Hierarchy.revision) + 1,
)


def lock_unfinished(tx: Transaction, pk: int) -> HierarchyRow:
    """The hierarchy of a copy or an import, in any state, locked until the transaction ends."""
    [hierarchy] = _LOCK_UNFINISHED.rows(tx, {"pk": pk})
    return hierarchy


_LOCK_UNFINISHED = RowQuery(
    HierarchyRow,
    lambda _: col(Hierarchy.pk) == sa.bindparam("pk"),
    lambda query: query.with_for_update(),
)


def add(tx: Transaction, store: str, state: HierarchyState, **values: object) -> HierarchyRow:
    """Insert a hierarchy of the store; `values` are its other columns."""
    at = tx.now()
    return _INSERT.row(
        tx,
        id=new_hierarchy_id(),
        store=store,
        owner=owner_of(store),
        state=state,
        created_at=at,
        updated_at=at,
        **values,
    )


_INSERT = RowInsert(HierarchyRow)


def update(tx: Transaction, pk: int, **values: object) -> HierarchyRow:
    """Write `values` to a hierarchy, and return it as it is then."""
    hierarchy = _UPDATE.row(tx, {"of": pk}, **values)
    assert hierarchy, "only the sweeper deletes hierarchies, and only discarded ones"
    return hierarchy


_UPDATE = RowUpdate(HierarchyRow, lambda _: col(Hierarchy.pk) == sa.bindparam("of"))


def revision(tx: Transaction, store: str, id: UUID) -> int | None:
    """The hierarchy's revision, if it is visible."""
    hierarchies = by_ids(tx, store, [id], _REVISION)
    return hierarchies[id].revision if hierarchies else None


_REVISION = Projection(frozenset({"revision"}), keys=False)


def listing(
    tx: Transaction,
    store: str,
    filter: Conditions,
    window: KeysetWindow,
    projection: Projection = ALL_COLUMNS,
) -> KeysetPage[HierarchyRow]:
    """A page of the matching hierarchies a store sees, newest first."""
    # One list per owning store: for a single list a database would sort the rows of both.
    lists = [
        _owner_values([owner]) | bind_values(filter) for owner in _owning_stores(store, filter)
    ]
    query = _list_query(filter_shape(filter), NEWEST_FIRST, 0)
    return read_page(tx, query, window, projection, lists)


@lru_cache(maxsize=128)
def _list_query(filter: FilterShape, sort: Sort, number: int) -> KeysetQuery[HierarchyRow]:
    """The list of one owning store, the parameter `_owning_store(number)`."""
    owned = col(Hierarchy.store) == _owning_store(number)
    return KeysetQuery(
        Hierarchy,
        (owned, _is_ready(), *conditions_for(filter, filter_columns(filter))),
        order_by(sort, ORDERS),
    )


def offset_page(
    tx: Transaction, store: str, filter: Conditions, sort: Sort | None, window: OffsetWindow
) -> OffsetPage[HierarchyRow]:
    """A page of the matching hierarchies a store sees, by default newest first."""
    shape, owners = filter_shape(filter), _owning_stores(store, filter)
    # One list per owning store, as in `listing`.
    queries = [_list_query(shape, sort or NEWEST_FIRST, number) for number in range(len(owners))]
    keys = read_page_keys(tx, queries, window, _owner_values(owners) | bind_values(filter))
    pks = [pk for (pk,) in keys]
    hierarchies = by_pks(tx, store, pks)
    return OffsetPage([hierarchies[pk] for pk in pks], count(tx, store, filter))


def count(tx: Transaction, store: str, filter: Conditions) -> int:
    """Count the matching hierarchies a store sees."""
    owners = _owning_stores(store, filter)
    statement = _count_statement(filter_shape(filter), len(owners))
    [(count,)] = tx.rows(statement, _owner_values(owners) | bind_values(filter))
    return count


@lru_cache(maxsize=128)
def _count_statement(filter: FilterShape, owner_count: int) -> PreparedQuery[int]:
    owners = [_owning_store(number) for number in range(owner_count)]
    conditions = conditions_for(filter, filter_columns(filter))
    where = (col(Hierarchy.store).in_(owners), _is_ready(), *conditions)
    return PreparedQuery(lambda _: sa.select(sa.func.count()).select_from(Hierarchy).where(*where))


def node_counts(tx: Transaction, store: str, pks: Collection[int]) -> dict[int, int]:
    """The nodes below the root of each visible hierarchy, by pk."""
    hierarchies = by_pks(tx, store, pks, NODE_COUNT)
    return {pk: hierarchy.node_count for pk, hierarchy in hierarchies.items()}


NODE_COUNT = Projection(frozenset({"node_count"}))


def visible_pks(tx: Transaction, store: str, pks: Collection[int]) -> set[int]:
    """The visible hierarchies among `pks`."""
    return set(node_counts(tx, store, pks))


def discard(tx: Transaction, pk: int) -> None:
    """Mark an unfinished hierarchy as discarded; the sweeper deletes it."""
    tx.changed(
        sa.update(Hierarchy)
        .where(col(Hierarchy.pk) == pk, col(Hierarchy.state) != HierarchyState.READY)
        .values(state=HierarchyState.DISCARDED)
    )


def abandon_import(tx: Transaction, pk: int) -> None:
    """Mark an unfinished import as abandoned; the sweeper deletes it."""
    _abandon_imports(tx, col(Hierarchy.pk) == pk)


def abandon_idle_imports(tx: Transaction, idle_since: datetime) -> None:
    """Mark unfinished imports without additions since `idle_since` as abandoned."""
    _abandon_imports(tx, col(Hierarchy.updated_at) < idle_since)


def _abandon_imports(tx: Transaction, condition: sa.ColumnElement[bool]) -> None:
    tx.changed(
        sa.update(Hierarchy)
        .where(col(Hierarchy.state) == HierarchyState.IMPORTING, condition)
        .values(state=HierarchyState.ABANDONED)
    )


def purge_discarded(tx: Transaction, rows: int) -> bool:
    """Delete up to `rows` rows of one discarded hierarchy. Return False if none remains."""
    discarded = _LOCK_DISCARDED.first(tx, {})
    if discarded is None:
        return False
    pk = discarded.pk
    for table in (ProductNode, NodeProduct, DeletedNode, Node):
        owner, *key = sa.inspect(table).primary_key
        last_of_chunk = sa.select(*key).where(owner == pk).order_by(*key).offset(rows - 1).limit(1)
        chunk = [sa.tuple_(*key) <= sa.tuple_(*last) for last in tx.rows(last_of_chunk)]
        if tx.changed(sa.delete(table).where(owner == pk, *chunk)):
            return True
    if discarded.state is HierarchyState.ABANDONED and _delete_generated_products(
        tx, discarded, rows
    ):
        return True
    tx.changed(sa.delete(Hierarchy).where(col(Hierarchy.pk) == pk))
    return True


_LOCK_DISCARDED = RowQuery(
    HierarchyRow,
    lambda _: col(Hierarchy.state).in_(
        [literal(HierarchyState.DISCARDED), literal(HierarchyState.ABANDONED)]
    ),
    # A locked one is being purged by another process.
    lambda query: query.limit(1).with_for_update(skip_locked=True),
)


def _delete_generated_products(tx: Transaction, hierarchy: HierarchyRow, rows: int) -> int:
    """Delete products that an import generated for its leaves.

    Their skus begin with the id of their node. Deletes up to `rows` of them and returns how many.
    """
    first, last = (str(node_id(hierarchy.id, no)) for no in (0, LAST_NODE_NO))
    generated = (
        sa.select(col(Product.pk))
        .where(
            col(Product.store) == hierarchy.store,
            col(Product.sku) >= first,
            col(Product.sku) <= last,
        )
        .limit(rows)
    )
    return tx.changed(sa.delete(Product).where(col(Product.pk).in_(generated)))


def _owning_store(number: int) -> sa.BindParameter[str]:
    return sa.bindparam(f"owning_store_{number}", type_=sa.Text)


def _owner_values(owners: Sequence[str]) -> dict[str, object]:
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
