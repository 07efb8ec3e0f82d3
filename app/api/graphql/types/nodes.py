"""Nodes of hierarchies."""

import strawberry

from app.api.graphql.fields.attribute import attribute
from app.api.graphql.fields.connection import connection
from app.api.graphql.fields.relation import relation
from app.api.graphql.fields.source import NO_COLUMNS, Declared
from app.api.graphql.strawberry_seam import lazy_type
from app.api.graphql.types.products import PRODUCTS_OF_NODE, NodeProductConnection
from app.api.graphql.types.relay import Node
from app.api.graphql.types.tree_items import TreeItem, attributes_row, parent_key
from app.storage import associations, nodes
from app.storage.nodes import TreeNode


@strawberry.type(description="A category inside a hierarchy.")
class HierarchyNode(TreeItem, Node):
    hierarchy: Declared = strawberry.field(
        description="The hierarchy that contains the node.",
        graphql_type=lazy_type("Hierarchy", "app.api.graphql.types.hierarchies"),
    )
    parent: TreeItem = relation(
        nodes.items_by_keys,
        lambda row: (row.node.hierarchy_pk, row.node.parent_no),
        "The parent node, or the hierarchy for a child of the root.",
        requires=frozenset({"parent_no"}),
    )
    depth: int = attribute("depth", "Depth; 1 = child of the root.", owner=attributes_row)
    sort_order: int | None = attribute(
        "sort_order", "Siblings with a higher value come first; unset last.", owner=attributes_row
    )
    products: NodeProductConnection = connection(
        PRODUCTS_OF_NODE,
        associations.of_nodes,
        associations.counts_of_nodes,
        parent_key,
        "Products: curated ones first, in curated order (at most 20), then by SKU.",
        NO_COLUMNS,
        projected=True,
    )

    @classmethod
    def is_type_of(cls, row: object, _info: object) -> bool:
        return isinstance(row, TreeNode)
