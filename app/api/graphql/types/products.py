"""Products as trees see them."""

from typing import Any

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import Cursors, given, text, uuid, whole
from app.api.graphql.fields.declarations import (
    NO_COLUMNS,
    connection,
    count_field,
    expression,
    page_field,
)
from app.api.graphql.types.filters import StringFilter
from app.api.graphql.types.relay import ROW_KEY_ONLY, Node, PageInfo, lazy_connection
from app.domain.filters import Condition
from app.storage import nodes, tables
from app.storage.sql.rows import is_row_of

PK = frozenset({"pk"})


@strawberry.type(description="A product as the tree sees it.")
class Product(Node):
    sku: str | None = strawberry.field(description="The shop's own number; unique in its store.")
    name: str | None = strawberry.field(description="What the product is called.")
    nodes: Any = connection(
        Cursors("product-nodes", uuid),
        nodes.of_products,
        nodes.counts_of_products,
        lambda product: product.pk,
        "The nodes this product is associated with, in any hierarchy.",
        PK,
        type=lazy_connection("HierarchyNode", "app.api.graphql.types.nodes"),
    )

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return is_row_of(row, tables.Product)


@strawberry.type(description="One product of a node.")
class NodeProductEdge:
    cursor: str = expression(
        lambda placed: placed.cursor, "Opaque: pass it as after or before.", ROW_KEY_ONLY
    )
    node: Product = expression(lambda placed: placed.row.product, "The product.", NO_COLUMNS)
    curated: bool = expression(
        lambda placed: placed.row.curated,
        "Whether the product is one of the at most 20 that lead the node's list.",
        NO_COLUMNS,
    )


@strawberry.type(description="A page of a node's products.")
class NodeProductConnection:
    edges: list[NodeProductEdge] = page_field(
        lambda placed: placed.edges, "The products of the page with their cursors."
    )
    nodes: list[Product] = page_field(
        lambda placed: [association.product for association in placed.nodes],
        "The products of the page.",
    )
    page_info: PageInfo = page_field(lambda placed: placed, "Where the page lies in the list.")
    total_count: int = count_field("How many products the node has; counted only when asked for.")


@strawberry.input(description="Conditions that all have to hold; what is left out asks nothing.")
class ProductFilter:
    sku: StringFilter | None = strawberry.field(default=UNSET, description="On the sku.")
    name: StringFilter | None = strawberry.field(default=UNSET, description="On the name.")

    def stored(self) -> list[Condition]:
        """The conditions as storage takes them. Raises InvalidInput."""
        sku, name = given(self.sku), given(self.name)
        return [*(sku.on("sku") if sku else ()), *(name.on("name") if name else ())]


PRODUCTS = Cursors("products", text, uuid)
PRODUCTS_OF_NODE = Cursors("node-products", whole, text, uuid)
