"""Lists of the nodes, and roots, of all hierarchies that a store sees."""

from collections.abc import Sequence
from functools import lru_cache

import sqlalchemy as sa
from sqlmodel import col

from app.domain.filters import Conditions, Sort
from app.domain.hierarchies import ROOT_NO
from app.storage import hierarchies, nodes
from app.storage.engine.statements import AnyColumn, AnyQuery, AnySelect, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.hierarchies import visible
from app.storage.node_filters import (
    HierarchyCondition,
    everywhere,
    hierarchy_ids,
    values_everywhere,
)
from app.storage.nodes import TreeNode
from app.storage.sql.dialects import in_keys, in_keys_values, opaque_limit
from app.storage.sql.filters import FilterShape, conditions_for, filter_shape
from app.storage.sql.keyset import ROW_LIMIT
from app.storage.sql.offset import OffsetPage, OffsetWindow
from app.storage.sql.patterns import by_code_points
from app.storage.tables import Hierarchy, HierarchyRow, Node


def offset_page(
    tx: Transaction,
    store: str,
    filter: Conditions,
    sort: Sort | None,
    window: OffsetWindow,
    *,
    include_roots: bool,
) -> OffsetPage[TreeNode | HierarchyRow]:
    """A page of the matching nodes, and roots if included.

    By default hierarchy by hierarchy, each in the order of creation with its root first.
    """
    values: dict[str, object] = {"store": store, **values_everywhere(filter)}
    named = hierarchy_ids(filter)
    if named is not None:
        # Conditions on ids are sought in the named hierarchies only.
        named_pks = [row.pk for row in hierarchies.by_ids(tx, store, named).values()]
        if not named_pks:
            return OffsetPage([], 0)
        values |= in_keys_values(tx.dialect.name, named_pks)
    shape = filter_shape(filter)
    offset, limit = window
    bounds = {"offset": offset, "rows": limit, "end": offset + limit}
    statement = _keys_statement(shape, sort, include_roots, named is not None)
    keys = [(pk, no) for pk, no, *_ in tx.rows(statement, {**values, **bounds})]
    items = nodes.items_by_keys(tx, store, keys)
    [(total,)] = tx.rows(_count_statement(shape, include_roots, named is not None), values)
    return OffsetPage([items[key] for key in keys if key in items], total)


@lru_cache(maxsize=128)
def _keys_statement(
    filter: FilterShape, sort: Sort | None, include_roots: bool, named: bool
) -> AnyQuery:
    return PreparedQuery(lambda dialect: _keys(dialect, filter, sort, include_roots, named))


def _keys(
    dialect: str, filter: FilterShape, sort: Sort | None, include_roots: bool, named: bool
) -> AnySelect:
    lists = _lists(dialect, filter, include_roots, named)
    ordered: list[AnySelect] = []
    for item, pk, no, rows in lists:
        by = [_sort_column(item, sort)] if sort else []
        columns: list[AnyColumn] = [column.label("by") for column in by]
        order = [column.desc() if sort and sort.descending else column for column in by]
        # A literal 0, the number of all roots, would be the position of a column.
        order += [pk] if item is Hierarchy else [pk, no]
        ordered.append(
            rows.with_only_columns(pk.label("pk"), no.label("no"), *columns).order_by(*order)
        )
    offset = sa.bindparam("offset", type_=sa.Integer)
    if len(ordered) == 1:
        return ordered[0].offset(offset).limit(opaque_limit(ROW_LIMIT))
    # Each list up to the end of the window: a union of whole lists would be sorted.
    end = opaque_limit(sa.bindparam("end", type_=sa.Integer))
    merged = sa.union_all(*(sa.select(rows.limit(end).subquery()) for rows in ordered)).subquery()
    key: list[AnyColumn] = [merged.c.pk, merged.c.no]
    if sort:
        by_column = merged.c.by
        key = [by_column.desc() if sort.descending else by_column, *key]
    return sa.select(merged).order_by(*key).offset(offset).limit(opaque_limit(ROW_LIMIT))


def _sort_column(item: type[Node] | type[Hierarchy], sort: Sort) -> AnyColumn:
    match sort.attribute:
        case "name":
            return by_code_points(col(item.name))
        case "updated_at":
            return col(item.updated_at)
        case _:
            return col(item.created_at)


@lru_cache(maxsize=128)
def _count_statement(filter: FilterShape, include_roots: bool, named: bool) -> PreparedQuery[int]:
    return PreparedQuery(lambda dialect: _count(dialect, filter, include_roots, named))


def _count(dialect: str, filter: FilterShape, include_roots: bool, named: bool) -> sa.Select[int]:
    if not filter:
        # Every edit maintains the number of nodes.
        own = sa.literal(1 if include_roots else 0)
        total = sa.func.coalesce(sa.func.sum(col(Hierarchy.node_count) + own), 0)
        return sa.select(sa.cast(total, sa.BigInteger)).where(_in_scope(dialect, named)(Hierarchy))
    counts = [
        rows.with_only_columns(sa.func.count()).scalar_subquery()
        for _, _, _, rows in _lists(dialect, filter, include_roots, named)
    ]
    return sa.select(sum(counts[1:], counts[0]))


_List = tuple[type[Node] | type[Hierarchy], AnyColumn, AnyColumn, AnySelect]
"""A table, the columns of its rows' hierarchy and number, and the matching rows."""


def _lists(dialect: str, filter: FilterShape, include_roots: bool, named: bool) -> Sequence[_List]:
    scope = _in_scope(dialect, named)
    matching_nodes = (
        sa.select(col(Node.hierarchy_pk), col(Node.node_no))
        .join(Hierarchy, col(Hierarchy.pk) == col(Node.hierarchy_pk))
        .where(scope(Hierarchy), *everywhere(filter, scope))
    )
    lists: list[_List] = [(Node, col(Node.hierarchy_pk), col(Node.node_no), matching_nodes)]
    if include_roots:
        conditions = conditions_for(filter, hierarchies.filter_columns(filter))
        roots = sa.select(col(Hierarchy.pk)).where(scope(Hierarchy), *conditions)
        no = sa.literal_column(str(ROOT_NO), sa.BigInteger())
        lists.append((Hierarchy, col(Hierarchy.pk), no, roots))
    return lists


def _in_scope(dialect: str, named: bool) -> HierarchyCondition:
    def is_in_scope(hierarchy: type[Hierarchy]) -> sa.ColumnElement[bool]:
        is_visible = visible(sa.bindparam("store", type_=sa.Text), hierarchy)
        return sa.and_(in_keys(dialect, col(hierarchy.pk)), is_visible) if named else is_visible

    return is_in_scope
