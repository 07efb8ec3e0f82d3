"""Differences between a hierarchy and its copy, matched by shared node numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.domain.differences import DifferenceAspect, DifferenceKind
from app.domain.hierarchies import ROOT_NO
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import JobType
from app.storage import ancestors, hierarchies, jobs, nodes
from app.storage.engine.statements import AnyColumn, AnySelect
from app.storage.engine.transaction import Transaction
from app.storage.nodes import NodeKey, TreeNode
from app.storage.sql.column_types import type_of
from app.storage.sql.dialects import canonical_json, opaque_limit, prefer_hash_join, use_snapshot
from app.storage.tables import HierarchyRow, Node, NodeProduct

ATTRIBUTE_COLUMNS = {
    DifferenceAspect.NAME: "name",
    DifferenceAspect.SLUG: "slug",
    DifferenceAspect.DESCRIPTION: "description",
    DifferenceAspect.LOCALIZATIONS: "locales",
    DifferenceAspect.ADMIN_ATTRIBUTES: "admin_attributes",
    DifferenceAspect.SHOPPER_ATTRIBUTES: "shopper_attributes",
}
"""The columns of the attributes that roots and nodes share."""

POSITION_COLUMNS = {DifferenceAspect.SORT_ORDER: "sort_order", DifferenceAspect.PARENT: "parent_no"}


@dataclass(frozen=True, slots=True)
class Difference:
    """An item that differs between the two trees."""

    kind: DifferenceKind
    item: TreeNode | HierarchyRow
    """The source's, if it has the item."""
    path: Sequence[str]
    """The names from the root to the item, both included."""
    aspects: Sequence[DifferenceAspect]


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences between two trees."""

    source: HierarchyRow
    copy: HierarchyRow
    counts: Mapping[DifferenceKind, int]
    first: Sequence[Difference]
    """The root, then nodes by their numbers, up to a limit."""


def of_duplication(tx: Transaction, store: str, job_id: UUID, limit: int) -> Differences | None:
    """Compare the present source and copy of a job.

    Returns None unless the job is a successful duplication of the store and both trees still exist.
    Reads both trees completely, in one snapshot, so the transaction must begin here.
    """
    use_snapshot(tx)
    job = jobs.by_id(tx, store, job_id)
    if job is None or job.type is not JobType.HIERARCHY_DUPLICATE or not job.result_id:
        return None
    duplication = jobs.args_of(job, Duplication)
    by_id = hierarchies.by_ids(tx, store, [duplication.source_id, job.result_id])
    source, copy = by_id.get(duplication.source_id), by_id.get(job.result_id)
    if source is None or copy is None:
        return None

    counts: dict[DifferenceKind, int] = {}
    first: list[tuple[DifferenceKind, NodeKey, Sequence[DifferenceAspect]]] = []
    root_aspects = [
        aspect
        for aspect, name in ATTRIBUTE_COLUMNS.items()
        if getattr(source, name) != getattr(copy, name)
    ]
    if root_aspects:
        counts[DifferenceKind.CHANGED] = 1
        first.append((DifferenceKind.CHANGED, (source.pk, ROOT_NO), root_aspects))
    with prefer_hash_join(tx):
        query = _counts_then_first(_items(duplication, source, copy), limit - len(first))
        rows = tx.rows(query)
    for node_no, value, count, *flags in rows:
        kind = DifferenceKind(value)
        if node_no is None:
            counts[kind] = counts.get(kind, 0) + count
        else:
            owner = copy if kind is DifferenceKind.ONLY_IN_COPY else source
            aspects = list(compress(DifferenceAspect, flags))
            first.append((kind, (owner.pk, node_no), aspects))
    keys = [key for _, key, _ in first]
    items = nodes.items_by_keys(tx, store, keys)
    paths = ancestors.of_nodes(tx, store, keys)
    differences = [
        Difference(kind, items[key], [ancestor.name for ancestor in paths[key]], aspects)
        for kind, key, aspects in first
    ]
    return Differences(source, copy, counts, differences)


def _counts_then_first(items: AnySelect, limit: int) -> AnySelect:
    """Select the number of items per kind, then the first `limit` items.

    Rows of counts have a null node_no. One statement, so that the items are computed once.
    """
    found = items.cte("found")
    aspects = [found.c[aspect.name] for aspect in DifferenceAspect]
    counts = sa.select(
        sa.cast(sa.null(), sa.BigInteger).label("node_no"),
        found.c.kind,
        sa.func.count().label("number"),
        *(sa.literal(0).label(aspect.name) for aspect in aspects),
    ).group_by(found.c.kind)
    first = (
        sa.select(found.c.node_no, found.c.kind, sa.literal(0).label("number"), *aspects)
        .order_by(found.c.node_no, found.c.kind)
        .limit(opaque_limit(limit))
        .subquery()
    )
    both = sa.union_all(counts, sa.select(first)).subquery()
    # `IS NOT NULL` first: the databases sort nulls differently.
    return sa.select(both).order_by(both.c.node_no.is_not(None), both.c.node_no, both.c.kind)


def _items(duplication: Duplication, source: HierarchyRow, copy: HierarchyRow) -> AnySelect:
    """Select differing nodes: kind, node number, 0 or 1 per aspect."""
    in_source = aliased(Node)
    in_copy = aliased(Node)
    same_node = _same_node(in_source, in_copy, source, copy)
    differs = {
        aspect: _differs(getattr(in_source, name), getattr(in_copy, name))
        for aspect, name in {**ATTRIBUTE_COLUMNS, **POSITION_COLUMNS}.items()
    }
    # Parents created after the copy differ even if their numbers are equal.
    has_new_parent = col(in_source.parent_no) > copy.copied_node_no
    differs[DifferenceAspect.PARENT] = sa.or_(differs[DifferenceAspect.PARENT], has_new_parent)
    queries = [
        sa.select(*_row(DifferenceKind.CHANGED, col(in_source.node_no), differs))
        .join_from(in_source, in_copy, same_node)
        .where(col(in_source.hierarchy_pk) == source.pk, sa.or_(*differs.values())),
        *(
            sa.select(*_row(kind, col(node.node_no), {}))
            .join_from(node, counterpart, same_node, isouter=True)
            .where(col(node.hierarchy_pk) == hierarchy.pk, col(counterpart.node_no).is_(None))
            for kind, node, counterpart, hierarchy in (
                (DifferenceKind.ONLY_IN_SOURCE, in_source, in_copy, source),
                (DifferenceKind.ONLY_IN_COPY, in_copy, in_source, copy),
            )
        ),
    ]
    if duplication.include_products:
        queries += _association_queries(source, copy)
    rows = sa.union_all(*queries).subquery()
    aspects = [sa.func.max(rows.c[aspect.name]).label(aspect.name) for aspect in DifferenceAspect]
    return sa.select(rows.c.kind, rows.c.node_no, *aspects).group_by(rows.c.kind, rows.c.node_no)


def _association_queries(source: HierarchyRow, copy: HierarchyRow) -> list[AnySelect]:
    """Select nodes whose products or curation differ, a row per product."""
    in_source = aliased(NodeProduct)
    in_copy = aliased(NodeProduct)
    same_association = sa.and_(
        _same_node(in_source, in_copy, source, copy),
        col(in_source.product_pk) == col(in_copy.product_pk),
    )
    products_differ = {DifferenceAspect.PRODUCTS: sa.true()}
    curation_differs = {DifferenceAspect.CURATION: sa.true()}
    queries = [
        sa.select(*_row(DifferenceKind.CHANGED, col(association.node_no), products_differ))
        .join_from(association, counterpart, same_association, isouter=True)
        .where(col(association.hierarchy_pk) == hierarchy.pk, col(counterpart.product_pk).is_(None))
        for association, counterpart, hierarchy in (
            (in_source, in_copy, source),
            (in_copy, in_source, copy),
        )
    ]
    for hierarchy, counterpart in ((source, copy), (copy, source)):
        only = sa.except_(_curated(hierarchy), _curated(counterpart)).subquery().c
        queries.append(sa.select(*_row(DifferenceKind.CHANGED, only.node_no, curation_differs)))
    # Nodes that only one tree has are ONLY_IN_..., and deleted nodes waiting for the sweeper are
    # not compared.
    source_node = aliased(Node)
    copy_node = aliased(Node)
    in_both = (
        sa.select(col(source_node.node_no))
        .join_from(source_node, copy_node, _same_node(source_node, copy_node, source, copy))
        .where(col(source_node.hierarchy_pk) == source.pk)
    )
    return [query.where(query.selected_columns.node_no.in_(in_both)) for query in queries]


def _curated(hierarchy: HierarchyRow) -> AnySelect:
    """Select the curated products of each node with their ranks.

    Ranks are compared because positions have gaps where products were detached.
    """
    position = col(NodeProduct.curated_position)
    rank = sa.func.row_number().over(partition_by=col(NodeProduct.node_no), order_by=position)
    return sa.select(
        col(NodeProduct.node_no), col(NodeProduct.product_pk), rank.label("place")
    ).where(col(NodeProduct.hierarchy_pk) == hierarchy.pk, position.is_not(None))


def _same_node(
    in_source: type[Node | NodeProduct],
    in_copy: type[Node | NodeProduct],
    source: HierarchyRow,
    copy: HierarchyRow,
) -> sa.ColumnElement[bool]:
    """Condition that two rows belong to a node and its copy.

    Numbers above `copied_node_no` were assigned after the copy, independently in each tree.
    """
    return sa.and_(
        col(in_source.hierarchy_pk) == source.pk,
        col(in_copy.hierarchy_pk) == copy.pk,
        col(in_source.node_no) == col(in_copy.node_no),
        col(in_source.node_no) <= copy.copied_node_no,
    )


def _row(
    kind: DifferenceKind,
    node_no: AnyColumn,
    aspects: Mapping[DifferenceAspect, sa.ColumnElement[bool]],
) -> list[AnyColumn]:
    return [
        sa.literal(str(kind)).label("kind"),
        node_no.label("node_no"),
        *(
            sa.case((aspects[aspect], 1), else_=0).label(aspect.name)
            if aspect in aspects
            else sa.literal(0).label(aspect.name)
            for aspect in DifferenceAspect
        ),
    ]


def _differs(in_source: AnyColumn, in_copy: AnyColumn) -> sa.ColumnElement[bool]:
    if isinstance(type_of(in_source), sa.JSON):
        # Most documents have the same text, and comparing text is cheaper.
        text_differs = sa.cast(in_source, sa.Text).is_distinct_from(sa.cast(in_copy, sa.Text))
        return sa.and_(
            text_differs, canonical_json(in_source).is_distinct_from(canonical_json(in_copy))
        )
    return in_source.is_distinct_from(in_copy)
