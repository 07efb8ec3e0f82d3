"""Hierarchies and their nodes."""

from typing import Annotated, Any

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import Cursors, given, instant, uuid, whole
from app.api.graphql.fields.declarations import (
    connection,
    relation,
)
from app.api.graphql.types.filters import StringFilter
from app.api.graphql.types.nodes import HierarchyNode, TreeItem
from app.api.graphql.types.products import PK
from app.api.graphql.types.relay import Connection, Node, lazy_connection
from app.domain.filters import Condition, Operator
from app.domain.hierarchies import Owner
from app.storage import hierarchies, jobs, nodes, tables
from app.storage.sql.rows import is_row_of

HIERARCHIES = Cursors("hierarchies", instant, uuid)
_ALL_NODES = Cursors("nodes", whole, whole)
_JOBS = Cursors("hierarchy-jobs", whole)


@strawberry.type(
    description="A category tree. Its id is the id of its root; the root holds no products."
)
class Hierarchy(TreeItem, Node):
    nodes: Connection[HierarchyNode] = connection(
        _ALL_NODES,
        nodes.of_hierarchies,
        hierarchies.node_counts,
        lambda hierarchy: hierarchy.pk,
        "Every node at any depth, parents before children.",
        PK,
    )
    node_count: int = strawberry.field(description="How many nodes there are below the root.")
    copied_from: Annotated["Hierarchy", strawberry.lazy(__name__)] | None = relation(
        hierarchies.by_ids,
        lambda hierarchy: hierarchy.copied_from,
        "The source, when this is a duplicate and the source still exists.",
        needs=frozenset({"copied_from"}),
    )
    jobs: Any = connection(
        _JOBS,
        jobs.of_hierarchies,
        jobs.counts_of_hierarchies,
        lambda hierarchy: hierarchy.id,
        "Duplications from or into this hierarchy, newest first.",
        frozenset({"id"}),
        type=lazy_connection("Job", "app.api.graphql.types.jobs"),
    )

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return is_row_of(row, tables.Hierarchy)


@strawberry.input(description="Conditions that all have to hold; what is left out asks nothing.")
class HierarchyFilter:
    name: StringFilter | None = strawberry.field(default=UNSET, description="On the default name.")
    slug: StringFilter | None = strawberry.field(default=UNSET, description="On the root's slug.")
    owner: Owner | None = strawberry.field(default=UNSET, description="Whose the hierarchy is.")

    def stored(self) -> list[Condition]:
        """The conditions as storage takes them. Raises InvalidInput."""
        name, slug, owner = given(self.name), given(self.slug), given(self.owner)
        return [
            *(name.on("name") if name else ()),
            *(slug.on("slug") if slug else ()),
            *([Condition("owner", Operator.EQ, [owner])] if owner else ()),
        ]
