"""What differs between a hierarchy and a copy of it, by the numbers that their nodes share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from app.domain.differences import DifferenceAspect, DifferenceKind
from app.domain.hierarchies import ROOT_NO
from app.domain.jobs import JobStatus
from app.storage import hierarchies, jobs, nodes
from app.storage.nodes import ParentKey, TreeNode
from app.storage.sql.dialects import any_order, opaque_limit, prefer_hash_join, use_snapshot
from app.storage.tables import Hierarchy, Job, Node, NodeProduct

SAID = {
    DifferenceAspect.NAME: "name",
    DifferenceAspect.SLUG: "slug",
    DifferenceAspect.DESCRIPTION: "description",
    DifferenceAspect.LOCALIZATIONS: "locales",
}
"""The columns of what roots and nodes alike say."""

TRUE = sa.true()

PLACED = {DifferenceAspect.SORT_ORDER: "sort_order", DifferenceAspect.PARENT: "parent_no"}


@dataclass(frozen=True, slots=True)
class Difference:
    """An item, in the source where it is there, else in the copy, the names from the root down to
    it, and what of it differs."""

    kind: DifferenceKind
    item: TreeNode | Hierarchy
    path: Sequence[str]
    aspects: Sequence[DifferenceAspect]


@dataclass(frozen=True, slots=True)
class Differences:
    """How many items differ, and the first of them: the root, then nodes by their numbers."""

    source: Hierarchy
    copy: Hierarchy
    counts: Mapping[DifferenceKind, int]
    first: Sequence[Difference]


def of_duplication(session: Session, store: str, job_id: UUID, limit: int) -> Differences | None:
    """What differs now between the source and the copy of a job; None unless it is a duplication
    of the store that succeeded, and both are still there.

    Reads both trees as wholes, in one picture, of which this is the first act.
    """
    use_snapshot(session)
    job = jobs.by_id(session, store, job_id)
    if job is None or job.status is not JobStatus.SUCCESS or not job.source_id or not job.result_id:
        return None
    known = hierarchies.by_ids(session, store, [job.source_id, job.result_id])
    source, copy = known.get(job.source_id), known.get(job.result_id)
    if source is None or copy is None:
        return None
    assert source.pk is not None
    assert copy.pk is not None

    counts: dict[DifferenceKind, int] = {}
    first: list[tuple[DifferenceKind, ParentKey, Sequence[DifferenceAspect]]] = []
    said = [aspect for aspect, name in SAID.items() if getattr(source, name) != getattr(copy, name)]
    if said:
        counts[DifferenceKind.CHANGED] = 1
        first.append((DifferenceKind.CHANGED, (source.pk, ROOT_NO), said))
    with prefer_hash_join(session):
        found = session.execute(_counted(_items(job, source, copy), limit - len(first))).all()
    for node_no, value, number, *differs in found:
        kind = DifferenceKind(value)
        if node_no is None:
            counts[kind] = counts.get(kind, 0) + number
        else:
            owner = copy if kind is DifferenceKind.ONLY_IN_COPY else source
            assert owner.pk is not None
            aspects = [one for one, is_so in zip(DifferenceAspect, differs, strict=True) if is_so]
            first.append((kind, (owner.pk, node_no), aspects))
    keys = [key for _, key, _ in first]
    items = nodes.items_by_keys(session, store, keys)
    ways = nodes.ancestors(session, store, keys)
    differences = [
        Difference(kind, items[key], [ancestor.name for ancestor in ways[key]], aspects)
        for kind, key, aspects in first
    ]
    return Differences(source, copy, counts, differences)


def _counted(items: sa.Select[Any], limit: int) -> sa.Select[Any]:
    """How many items there are of each kind, in rows without a number, then the first of them: in
    one statement, so that they are found once."""
    found = items.cte("found")
    aspects = [found.c[aspect.name] for aspect in DifferenceAspect]
    none = sa.null()
    counts = sa.select(
        sa.cast(none, sa.BigInteger).label("node_no"),
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
    # Without a number first, on every database.
    return sa.select(both).order_by(both.c.node_no.is_not(None), both.c.node_no, both.c.kind)


def _items(job: Job, source: Hierarchy, copy: Hierarchy) -> sa.Select[Any]:
    """A row for each node that differs: kind, number, and of each aspect whether it does."""
    there: Any = aliased(Node)
    here: Any = aliased(Node)
    both = _shared(there, here, source, copy)
    differs = {
        aspect: _differs(getattr(there, name), getattr(here, name))
        for aspect, name in {**SAID, **PLACED}.items()
    }
    # Nodes that were made since share numbers, and nothing else.
    made_since = there.parent_no > copy.copied_node_no
    differs[DifferenceAspect.PARENT] = sa.or_(differs[DifferenceAspect.PARENT], made_since)
    found = [
        sa.select(*_row(DifferenceKind.CHANGED, there.node_no, differs))
        .join_from(there, here, both)
        .where(there.hierarchy_pk == source.pk, sa.or_(*differs.values())),
        *(
            sa.select(*_row(kind, one.node_no, {}))
            .join_from(one, other, both, isouter=True)
            .where(one.hierarchy_pk == owner.pk, other.node_no.is_(None))
            for kind, one, other, owner in (
                (DifferenceKind.ONLY_IN_SOURCE, there, here, source),
                (DifferenceKind.ONLY_IN_COPY, here, there, copy),
            )
        ),
    ]
    if job.include_products:
        found += _associations(source, copy)
    rows = sa.union_all(*found).subquery()
    aspects = [sa.func.max(rows.c[aspect.name]).label(aspect.name) for aspect in DifferenceAspect]
    return sa.select(rows.c.kind, rows.c.node_no, *aspects).group_by(rows.c.kind, rows.c.node_no)


def _associations(source: Hierarchy, copy: Hierarchy) -> list[sa.Select[Any]]:
    """A row for each product that a node of both has in one of them only, or otherwise curated."""
    there: Any = aliased(NodeProduct)
    here: Any = aliased(NodeProduct)
    same = sa.and_(_shared(there, here, source, copy), there.product_pk == here.product_pk)
    found = [
        sa.select(*_row(DifferenceKind.CHANGED, one.node_no, {DifferenceAspect.PRODUCTS: TRUE}))
        .join_from(one, other, same, isouter=True)
        .where(one.hierarchy_pk == owner.pk, other.product_pk.is_(None))
        for one, other, owner in ((there, here, source), (here, there, copy))
    ]
    for one, other in ((source, copy), (copy, source)):
        only = sa.except_(_curated(one), _curated(other)).subquery().c
        found.append(
            sa.select(
                *_row(DifferenceKind.CHANGED, only.node_no, {DifferenceAspect.CURATION: TRUE})
            )
        )
    # Nodes that only one of them has, and the deleted ones that are still to be swept, are told of
    # elsewhere, or not at all.
    tree: Any = aliased(Node)
    twin: Any = aliased(Node)
    both = (
        sa.select(tree.node_no)
        .join_from(tree, twin, _shared(tree, twin, source, copy))
        .where(tree.hierarchy_pk == source.pk)
    )
    return [select.where(select.selected_columns.node_no.in_(both)) for select in found]


def _curated(hierarchy: Hierarchy) -> sa.Select[Any]:
    """The curated products of each node and the place of each among them. Their positions have gaps
    where products were detached."""
    position = col(NodeProduct.curated_position)
    place = sa.func.row_number().over(partition_by=col(NodeProduct.node_no), order_by=position)
    return sa.select(
        col(NodeProduct.node_no), col(NodeProduct.product_pk), place.label("place")
    ).where(col(NodeProduct.hierarchy_pk) == hierarchy.pk, position.is_not(None))


def _shared(there: Any, here: Any, source: Hierarchy, copy: Hierarchy) -> sa.ColumnElement[bool]:
    """Whether rows of the two trees are of nodes with one number, which the copy has from the
    source."""
    return sa.and_(
        there.hierarchy_pk == source.pk,
        here.hierarchy_pk == copy.pk,
        there.node_no == here.node_no,
        there.node_no <= copy.copied_node_no,
    )


def _row(
    kind: DifferenceKind, node_no: Any, aspects: Mapping[DifferenceAspect, sa.ColumnElement[bool]]
) -> list[sa.ColumnElement[Any]]:
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


def _differs(there: Any, here: Any) -> sa.ColumnElement[bool]:
    differs: sa.ColumnElement[bool]
    if isinstance(there.type, sa.JSON):
        # Most are written alike, which is cheaper to see.
        written = sa.cast(there, sa.Text) != sa.cast(here, sa.Text)
        return sa.and_(written, any_order(there).is_distinct_from(any_order(here)))
    differs = there.is_distinct_from(here)
    return differs
