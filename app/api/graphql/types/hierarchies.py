"""Hierarchies."""

from typing import Annotated

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import (
    Cursors,
    instant_part,
    int_part,
    none_if_unset,
    short_int_part,
    uuid_part,
)
from app.api.graphql.fields.connection import connection
from app.api.graphql.fields.relation import relation
from app.api.graphql.fields.source import Declared
from app.api.graphql.types.filters import StringFilter
from app.api.graphql.types.nodes import HierarchyNode
from app.api.graphql.types.relay import PRIMARY_KEY, Connection, Node, lazy_connection
from app.api.graphql.types.tree_items import TreeItem
from app.domain.filters import Condition, Operator
from app.domain.hierarchies import Owner
from app.storage import hierarchies, jobs, nodes, tables

HIERARCHIES = Cursors("hierarchies", instant_part, uuid_part)
_ALL_NODES = Cursors("nodes", short_int_part, int_part)
_JOBS = Cursors("hierarchy-jobs", int_part)


@strawberry.type(
    description="A category tree. Its ID is the ID of its root, which holds no products."
)
class Hierarchy(TreeItem, Node):
    nodes: Connection[HierarchyNode] = connection(
        _ALL_NODES,
        nodes.of_hierarchies,
        hierarchies.node_counts,
        lambda hierarchy: hierarchy.pk,
        "Nodes at any depth, parents before children.",
        PRIMARY_KEY,
        projected=True,
    )
    node_count: int = strawberry.field(description="Number of nodes below the root.")
    copied_from: Annotated["Hierarchy", strawberry.lazy(__name__)] | None = relation(
        hierarchies.by_ids,
        lambda hierarchy: hierarchy.copied_from,
        "The source if this is a copy; null if it is not, or once the source is deleted.",
        requires=frozenset({"copied_from"}),
        projected=True,
    )
    jobs: Declared = connection(
        _JOBS,
        jobs.of_hierarchies,
        jobs.counts_of_hierarchies,
        lambda hierarchy: hierarchy.id,
        "Duplications from or into this hierarchy, newest first.",
        frozenset({"id"}),
        projected=True,
        type=lazy_connection("Job", "app.api.graphql.types.jobs"),
    )

    @classmethod
    def is_type_of(cls, row: object, _info: object) -> bool:
        return isinstance(row, tables.HierarchyRow)


@strawberry.input(description="Conditions that must all hold; omitted ones match every hierarchy.")
class HierarchyFilter:
    name: StringFilter | None = strawberry.field(
        default=UNSET, description="Condition on the default name."
    )
    slug: StringFilter | None = strawberry.field(
        default=UNSET, description="Condition on the root's slug."
    )
    owner: Owner | None = strawberry.field(
        default=UNSET, description="Hierarchies with this owner."
    )

    def conditions(self) -> list[Condition]:
        """Build the conditions for storage. Raises InvalidInput."""
        name, slug, owner = (
            none_if_unset(self.name),
            none_if_unset(self.slug),
            none_if_unset(self.owner),
        )
        return [
            *(name.conditions_on("name") if name else ()),
            *(slug.conditions_on("slug") if slug else ()),
            *([Condition("owner", Operator.EQ, [owner])] if owner else ()),
        ]
