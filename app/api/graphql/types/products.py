"""Products and the products of a node."""

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import Cursors, none_if_unset, short_int_part, text_part, uuid_part
from app.api.graphql.fields.connection import connection, count_field, page_field
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.source import NO_COLUMNS, Declared
from app.api.graphql.types.filters import StringFilter
from app.api.graphql.types.relay import PRIMARY_KEY, ROW_KEY_ONLY, Node, PageInfo, lazy_connection
from app.domain.filters import Condition
from app.storage import associations, tables

PRODUCTS = Cursors("products", text_part, uuid_part)
PRODUCTS_OF_NODE = Cursors("node-products", short_int_part, text_part, uuid_part)
_NODES_OF_PRODUCT = Cursors("product-nodes", uuid_part)


@strawberry.type(description="A product, as far as hierarchies need it.")
class Product(Node):
    sku: str | None = strawberry.field(
        description="Stock keeping unit, the shop's own number; unique in its store."
    )
    name: str | None = strawberry.field(description="Name of the product.")
    nodes: Declared = connection(
        _NODES_OF_PRODUCT,
        associations.nodes_of_products,
        associations.counts_of_products,
        lambda product: product.pk,
        "Nodes of any hierarchy that have this product.",
        PRIMARY_KEY,
        type=lazy_connection("HierarchyNode", "app.api.graphql.types.nodes"),
    )

    @classmethod
    def is_type_of(cls, row: object, _info: object) -> bool:
        return isinstance(row, tables.ProductRow)


@strawberry.type(description="A product of a node with its cursor.")
class NodeProductEdge:
    cursor: str = expression(
        lambda row: row.cursor, "Opaque cursor of this row, for `after` or `before`.", ROW_KEY_ONLY
    )
    node: Product = expression(lambda row: row.row.product, "The product.", NO_COLUMNS)
    curated: bool = expression(
        lambda row: row.row.curated,
        "True if the product is one of the at most 20 curated ones that lead the node's list.",
        NO_COLUMNS,
    )


@strawberry.type(description="A page of a node's products.")
class NodeProductConnection:
    edges: list[NodeProductEdge] = page_field(
        lambda page: page.edges, "Products of this page with their cursors."
    )
    nodes: list[Product] = page_field(
        lambda page: [association.product for association in page.nodes],
        "Products of this page.",
    )
    page_info: PageInfo = page_field(lambda page: page, "Position of this page in the list.")
    total_count: int = count_field("Number of products of the node; counted only if selected.")


@strawberry.input(description="Conditions that must all hold; omitted ones match every product.")
class ProductFilter:
    sku: StringFilter | None = strawberry.field(default=UNSET, description="Condition on the SKU.")
    name: StringFilter | None = strawberry.field(
        default=UNSET, description="Condition on the name."
    )

    def conditions(self) -> list[Condition]:
        """Build the conditions for storage. Raises InvalidInput."""
        sku, name = none_if_unset(self.sku), none_if_unset(self.name)
        return [
            *(sku.conditions_on("sku") if sku else ()),
            *(name.conditions_on("name") if name else ()),
        ]
