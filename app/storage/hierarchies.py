"""Hierarchies: finding them, listing them, and the rows of one on its way in or out."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.filters import Conditions
from app.domain.hierarchies import LAST_NODE_NO, HierarchyState, new_hierarchy_id, node_id
from app.domain.stores import ORGANIZATION, owner_of, readable_by
from app.storage.engine.database import now
from app.storage.sql.dialects import dialect_of, keys_for, no_index, one_of
from app.storage.sql.filters import FilterShape, bind_values, conditions_for, filter_shape, matching
from app.storage.sql.keyset import KeysetPage, KeysetQuery, KeysetWindow, Order, OrderBy, page
from app.storage.sql.offset import OffsetPage, OffsetWindow, page_keys
from app.storage.sql.rows import ALL_COLUMNS, ID_COLUMN, Projection, RowQuery
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import DeletedNode, Hierarchy, Node, NodeProduct, Product, ProductNode

FILTERED: Mapping[str, Any] = {
    "id": col(Hierarchy.id),
    "name": col(Hierarchy.name),
    "slug": col(Hierarchy.slug),
    "description": col(Hierarchy.description),
    "owner": col(Hierarchy.owner),
    "created_at": col(Hierarchy.created_at),
    "updated_at": col(Hierarchy.updated_at),
}
"""What conditions on hierarchies may be about."""

NEWEST_FIRST = (OrderBy(col(Hierarchy.created_at), True), OrderBy(col(Hierarchy.id), True))


def readable(owned: Any, store: Any) -> sa.ColumnElement[bool]:
    """Whether a row, a hierarchy or a product, is the store's or the organization's."""
    of_either: sa.ColumnElement[bool] = owned.store.in_((store, ORGANIZATION))
    return of_either


def readable_beside(owned: Any) -> sa.ColumnElement[bool]:
    """The same for the parameter `store`, of rows that are sought by their keys."""
    of_either: sa.ColumnElement[bool] = no_index(owned.store).in_(
        (sa.bindparam("store", type_=sa.Text), ORGANIZATION)
    )
    return of_either


def visible(store: Any, hierarchy: Any = Hierarchy) -> sa.ColumnElement[bool]:
    """Whether a store may see a hierarchy at all: its own or the organization's, and whole."""
    return sa.and_(readable(hierarchy, store), _whole(hierarchy))


def _whole(hierarchy: Any = Hierarchy) -> sa.ColumnElement[bool]:
    # As a case: nearly all are, and a database that does not know it would seek the hierarchies of
    # all stores by it, or take those of one store for so few that it reads and sorts them all.
    return sa.case((hierarchy.state == HierarchyState.READY, sa.true()), else_=sa.false())


def by_ids(
    session: Session, store: str, ids: Collection[UUID], wanted: Projection = ALL_COLUMNS
) -> dict[UUID, Hierarchy]:
    """The visible ones among these, by id."""
    values = {"store": store, **keys_for(dialect_of(session), ids)}
    found = _BY_IDS.rows(session, values, wanted.together(ID_COLUMN))
    return {hierarchy.id: hierarchy for hierarchy in found}


_SEEN = sa.and_(readable_beside(Hierarchy), _whole())
_BY_IDS = RowQuery(
    Hierarchy,
    lambda dialect: sa.and_(_SEEN, one_of(dialect, col(Hierarchy.id))),
)


def by_pks(
    session: Session, store: str, pks: Collection[int], wanted: Projection = ALL_COLUMNS
) -> dict[int, Hierarchy]:
    """The visible ones among these, by pk."""
    values = {"store": store, **keys_for(dialect_of(session), pks)}
    found = _BY_PKS.rows(session, values, wanted.together(PK))
    return {hierarchy.pk: hierarchy for hierarchy in found}


_BY_PKS = RowQuery(
    Hierarchy,
    lambda dialect: sa.and_(_SEEN, one_of(dialect, col(Hierarchy.pk))),
)
PK = Projection(frozenset({"pk"}), keys=False)


def by_id(session: Session, store: str, id: UUID) -> Hierarchy | None:
    """The visible hierarchy of that id."""
    return by_ids(session, store, [id]).get(id)


def locked(session: Session, store: str, id: UUID) -> Hierarchy | None:
    """The visible hierarchy of that id, which nobody else edits until the transaction ends."""
    return session.exec(
        select(Hierarchy).where(visible(store), Hierarchy.id == id).with_for_update()
    ).first()


def add(session: Session, store: str, state: HierarchyState, **said: Any) -> Hierarchy:
    """A new hierarchy of the store's, made now; `said` are columns of it."""
    at = now(session)
    hierarchy = Hierarchy(
        id=new_hierarchy_id(),
        store=store,
        owner=owner_of(store),
        state=state,
        created_at=at,
        updated_at=at,
        **said,
    )
    session.add(hierarchy)
    session.flush()
    return hierarchy


def revision(session: Session, store: str, id: UUID) -> int | None:
    """The revision of the visible hierarchy of that id."""
    return session.exec(
        select(Hierarchy.revision).where(visible(store), Hierarchy.id == id)
    ).first()


def listing(
    session: Session,
    store: str,
    filter: Conditions,
    window: KeysetWindow,
    wanted: Projection = ALL_COLUMNS,
) -> KeysetPage[Hierarchy]:
    """A page of the hierarchies a store sees, newest first."""
    # A list a store: of all together a database makes one list only by sorting them.
    lists = [{"of": one, **bind_values(filter)} for one in _stores(store, filter)]
    return page(session, _listing(filter_shape(filter)), window, wanted, lists)


@lru_cache(maxsize=128)
def _listing(filter: FilterShape) -> KeysetQuery:
    of_one = col(Hierarchy.store) == sa.bindparam("of", type_=sa.Text)
    return KeysetQuery(
        (Hierarchy,), (of_one, _whole(), *conditions_for(filter, FILTERED)), NEWEST_FIRST
    )


def span(
    session: Session, store: str, filter: Conditions, order: Order, span: OffsetWindow
) -> OffsetPage[Hierarchy]:
    """A span of the hierarchies a store sees, in that order."""
    keys = page_keys(session, _listings(store, filter, order), span)
    pks = [pk for (pk,) in keys]
    found = session.exec(select(Hierarchy).where(col(Hierarchy.pk).in_(pks)))
    by_pk = {hierarchy.pk: hierarchy for hierarchy in found}
    return OffsetPage([by_pk[pk] for pk in pks], count(session, store, filter))


def count(session: Session, store: str, filter: Conditions) -> int:
    """How many of the hierarchies a store sees match."""
    stores = _stores(store, filter)
    values = {f"of_{place}": one for place, one in enumerate(stores)}
    [(count,)] = _counting(filter_shape(filter), len(stores)).rows(
        session, values | bind_values(filter)
    )
    return int(count)


@lru_cache(maxsize=128)
def _counting(filter: FilterShape, stores: int) -> CompiledStatement:
    of = [sa.bindparam(f"of_{place}", type_=sa.Text) for place in range(stores)]
    where = (col(Hierarchy.store).in_(of), _whole(), *conditions_for(filter, FILTERED))
    return CompiledStatement(
        lambda _: sa.select(sa.func.count()).select_from(Hierarchy).where(*where)
    )


def node_counts(session: Session, store: str, pks: Collection[int]) -> dict[int, int]:
    """How many nodes each of these visible hierarchies has below its root."""
    found = by_pks(session, store, pks, COUNTED)
    return {pk: hierarchy.node_count for pk, hierarchy in found.items()}


COUNTED = Projection(frozenset({"node_count"}))


def visible_pks(session: Session, store: str, pks: Collection[int]) -> set[int]:
    """The visible ones among these hierarchies."""
    return set(node_counts(session, store, pks))


def discard(session: Session, pk: int) -> None:
    """Give a hierarchy that never became visible to the sweep."""
    session.exec(
        sa.update(Hierarchy)
        .where(col(Hierarchy.pk) == pk, col(Hierarchy.state) != HierarchyState.READY)
        .values(state=HierarchyState.DISCARDED)
    )


def abandon_import(session: Session, pk: int) -> None:
    """Give an import that never became visible to the sweep."""
    _abandon_imports(session, col(Hierarchy.pk) == pk)


def abandon_idle_imports(session: Session, idle_since: datetime) -> None:
    """Give imports that nobody has added to since then to the sweep."""
    _abandon_imports(session, col(Hierarchy.updated_at) < idle_since)


def _abandon_imports(session: Session, which: sa.ColumnElement[bool]) -> None:
    session.exec(
        sa.update(Hierarchy)
        .where(col(Hierarchy.state) == HierarchyState.IMPORTING, which)
        .values(state=HierarchyState.ABANDONED)
    )


def sweep(session: Session, rows: int) -> bool:
    """Delete up to `rows` rows of one discarded hierarchy; whether any were left to delete."""
    discarded = (HierarchyState.DISCARDED, HierarchyState.ABANDONED)
    hierarchy = session.exec(
        select(Hierarchy)
        .where(col(Hierarchy.state).in_(discarded))
        .limit(1)
        # Another process sweeps it.
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
    if hierarchy.state is HierarchyState.ABANDONED and _delete_generated(session, hierarchy, rows):
        return True
    session.exec(sa.delete(Hierarchy).where(col(Hierarchy.pk) == pk))
    return True


def _delete_generated(session: Session, hierarchy: Hierarchy, rows: int) -> int:
    """Delete products that were made for the leaves of an import: their skus begin with the id of
    their node."""
    first, last = (str(node_id(hierarchy.id, no)) for no in (0, LAST_NODE_NO))
    made = (
        select(Product.pk)
        .where(
            Product.store == hierarchy.store,
            col(Product.sku) >= first,
            col(Product.sku) <= last,
        )
        .limit(rows)
    )
    return session.exec(sa.delete(Product).where(col(Product.pk).in_(made))).rowcount


def _listings(store: str, filter: Conditions, order: Order) -> list[KeysetQuery]:
    """The list of each store whose hierarchies are seen: of all together a database makes one only
    by sorting them."""
    wanted = _whole(), *matching(filter, FILTERED)
    return [
        KeysetQuery((Hierarchy,), (col(Hierarchy.store) == one, *wanted), order, spine=Hierarchy)
        for one in _stores(store, filter)
    ]


def _stores(store: str, filter: Conditions) -> list[str]:
    """Where the hierarchies are that a store sees and that have an owner asked for; the store
    itself in any case."""
    owners = [condition.values for condition in filter if condition.attribute == "owner"]
    seen = [
        one
        for one in readable_by(store)
        if all(owner_of(one) in bind_values for bind_values in owners)
    ]
    return seen or [store]
