"""Filters on nodes as SQL: of one hierarchy, or of all that a store sees."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import col

from app.domain.filters import Conditions, Operator
from app.domain.hierarchies import LAST_NODE_NO, ROOT_NO, node_ref
from app.storage.engine.statements import AnyColumn, AnySelect
from app.storage.sql.filters import FilterShape, bind_values, condition_for
from app.storage.sql.translations import translated
from app.storage.tables import Hierarchy, HierarchyRow, Node

BREADCRUMBS = "breadcrumbs."
"""Prefix of attributes of the path to a node: one of its items has to match."""

_IDS = ("id", "parent_id", f"{BREADCRUMBS}id")
_EQUALITY = (Operator.EQ, Operator.IN)

HierarchyCondition = Callable[[type[Hierarchy]], sa.ColumnElement[bool]]
"""The condition that a hierarchy is one of those whose nodes are listed."""


class public_id(FunctionElement[UUID]):
    """The public id of a node, from its hierarchy's id and its number."""

    inherit_cache = True
    type = sa.Uuid()


@compiles(public_id, "sqlite")
def _public_id_on_sqlite(element: public_id, compiler: SQLCompiler, **rest: object) -> str:
    hierarchy_id, node_no = (compiler.process(part, **rest) for part in element.clauses)
    return f"(substr({hierarchy_id}, 1, 24) || printf('%08x', {node_no}))"


@compiles(public_id, "postgresql")
def _public_id_on_postgresql(element: public_id, compiler: SQLCompiler, **rest: object) -> str:
    hierarchy_id, node_no = (compiler.process(part, **rest) for part in element.clauses)
    digits = f"left(CAST({hierarchy_id} AS text), 28) || lpad(to_hex({node_no}), 8, '0')"
    return f"CAST({digits} AS uuid)"


def in_hierarchy(filter: FilterShape) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the conditions on the nodes of the hierarchy `hierarchy_pk`.

    Their parameters are those of `values_in_hierarchy`.
    """
    columns: Mapping[str, AnyColumn] = {
        **_columns(Node),
        # Numbers are in the key: public ids are computed.
        "id": col(Node.node_no),
        "parent_id": col(Node.parent_no),
        "hierarchy_id": sa.bindparam("hierarchy_id", type_=sa.Uuid()),
        "owner": sa.bindparam("owner", type_=sa.inspect(Hierarchy).columns.owner.type),
    }

    def is_listed(hierarchy: type[Hierarchy]) -> sa.ColumnElement[bool]:
        return col(hierarchy.pk) == sa.bindparam("hierarchy_pk", type_=sa.BigInteger())

    for index, (attribute, _, _) in enumerate(filter):
        if attribute.startswith(BREADCRUMBS):
            yield _is_below_match(filter, index, is_listed)
        else:
            yield condition_for(filter, index, _column(attribute, columns, Node))


def values_in_hierarchy(filter: Conditions, hierarchy: HierarchyRow) -> dict[str, object]:
    """Return the values of the parameters of `in_hierarchy`."""

    def number(id: UUID) -> int:
        ref = node_ref(id)
        if ref.hierarchy_id == hierarchy.id:
            return ref.node_no
        # Another hierarchy's ids are all less than this one's, or all greater.
        return -1 if ref.hierarchy_id < hierarchy.id else LAST_NODE_NO + 1

    numbered = [
        replace(condition, values=list(map(number, condition.values)))
        if condition.attribute in ("id", "parent_id")
        else condition
        for condition in filter
    ]
    own = {"hierarchy_pk": hierarchy.pk, "hierarchy_id": hierarchy.id, "owner": hierarchy.owner}
    return {**own, **bind_values(numbered), **_number_values(filter)}


def everywhere(filter: FilterShape, scope: HierarchyCondition) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the conditions on nodes joined with their hierarchies.

    Their parameters are those of `values_everywhere`.
    """
    columns = {**_columns(Node), **_columns_of_hierarchy(Node, Hierarchy)}
    numbers = {"id": col(Node.node_no), "parent_id": col(Node.parent_no)}
    for index, (attribute, operator, _) in enumerate(filter):
        if attribute.startswith(BREADCRUMBS):
            yield _is_below_match(filter, index, scope)
            continue
        if attribute in numbers and operator in _EQUALITY:
            yield _is_one_of_numbers(filter, index, numbers[attribute])
        yield condition_for(filter, index, _column(attribute, columns, Node))


def values_everywhere(filter: Conditions) -> dict[str, object]:
    """Return the values of the parameters of `everywhere`."""
    return {**bind_values(filter), **_number_values(filter)}


def hierarchy_ids(filter: Conditions) -> set[UUID] | None:
    """Return the hierarchies that all matching nodes are in, None if the filter names none."""
    named = [
        {node_ref(id).hierarchy_id for id in condition.values}
        for condition in filter
        if condition.attribute in (*_IDS, "hierarchy_id") and condition.operator in _EQUALITY
    ]
    return set.intersection(*named) if named else None


def _columns(node: type[Node]) -> dict[str, AnyColumn]:
    child = aliased(Node)
    return {
        "name": col(node.name),
        "slug": col(node.slug),
        "description": col(node.description),
        "created_at": col(node.created_at),
        "updated_at": col(node.updated_at),
        "has_children": sa.exists().where(
            col(child.hierarchy_pk) == col(node.hierarchy_pk),
            col(child.parent_no) == col(node.node_no),
        ),
    }


def _columns_of_hierarchy(node: type[Node], hierarchy: type[Hierarchy]) -> dict[str, AnyColumn]:
    return {
        "id": public_id(col(hierarchy.id), col(node.node_no)),
        "parent_id": public_id(col(hierarchy.id), col(node.parent_no)),
        "hierarchy_id": col(hierarchy.id),
        "owner": col(hierarchy.owner),
    }


def _column(
    attribute: str, columns: Mapping[str, AnyColumn], item: type[Node] | type[Hierarchy]
) -> AnyColumn:
    """Return the column of an attribute, or the text of a translation."""
    return columns[attribute] if attribute in columns else translated(col(item.locales), attribute)


def _is_below_match(
    filter: FilterShape, index: int, scope: HierarchyCondition
) -> sa.ColumnElement[bool]:
    """Return the condition that a breadcrumb of a node matches: itself, or an item above it.

    The matching roots and nodes are read first, then all below them, each once: looking up the
    path of every listed node would read its ancestors again and again.
    """
    name, operator, _ = filter[index]
    attribute = name.removeprefix(BREADCRUMBS)
    hierarchy, node, below_node = aliased(Hierarchy), aliased(Node), aliased(Node)
    root_columns: Mapping[str, AnyColumn] = {
        "id": col(hierarchy.id),
        "name": col(hierarchy.name),
        "slug": col(hierarchy.slug),
    }
    node_columns = {**_columns(node), **_columns_of_hierarchy(node, hierarchy)}
    roots: AnySelect = sa.select(
        col(hierarchy.pk).label("hierarchy_pk"),
        sa.literal_column(str(ROOT_NO), sa.BigInteger()).label("node_no"),
    ).where(
        scope(hierarchy), condition_for(filter, index, _column(attribute, root_columns, hierarchy))
    )
    nodes: AnySelect = (
        sa.select(col(node.hierarchy_pk), col(node.node_no))
        .join(hierarchy, col(hierarchy.pk) == col(node.hierarchy_pk))
        .where(
            scope(hierarchy), condition_for(filter, index, _column(attribute, node_columns, node))
        )
    )
    if attribute == "id" and operator in _EQUALITY:
        nodes = nodes.where(_is_one_of_numbers(filter, index, col(node.node_no)))
    matches = sa.union_all(roots, nodes).subquery()
    below = sa.select(matches.c.hierarchy_pk, matches.c.node_no).cte(
        f"below_{index}", recursive=True
    )
    below = below.union(
        sa.select(col(below_node.hierarchy_pk), col(below_node.node_no)).where(
            col(below_node.hierarchy_pk) == below.c.hierarchy_pk,
            col(below_node.parent_no) == below.c.node_no,
        )
    )
    return sa.tuple_(col(Node.hierarchy_pk), col(Node.node_no)).in_(
        sa.select(below.c.hierarchy_pk, below.c.node_no)
    )


def _is_one_of_numbers(
    filter: FilterShape, index: int, column: AnyColumn
) -> sa.ColumnElement[bool]:
    """Return the condition on the number in an id: an index has it, unlike the whole id."""
    _, _, count = filter[index]
    return column.in_(
        [sa.bindparam(f"number_{index}_{no}", type_=sa.BigInteger()) for no in range(count)]
    )


def _number_values(filter: Conditions) -> dict[str, object]:
    return {
        f"number_{index}_{no}": node_ref(id).node_no
        for index, condition in enumerate(filter)
        if condition.attribute in _IDS and condition.operator in _EQUALITY
        for no, id in enumerate(condition.values)
    }
