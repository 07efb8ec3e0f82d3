"""Products as trees see them."""

from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from strawberry import UNSET

from app.api.connections import (
    Connection,
    Cursors,
    PageInfo,
    edges_of,
    given,
    nodes_of,
    page_info_of,
    paged,
    text,
    total_count_of,
    uuid,
    whole,
)
from app.api.filters import StringFilter
from app.api.node import Node
from app.api.reads import connection, expression
from app.storage import nodes, tables
from app.storage.filters import Condition

if TYPE_CHECKING:
    from app.api.hierarchies import HierarchyNode


@strawberry.type(description="A product as the tree sees it.")
class Product(Node):
    sku: str | None = strawberry.field(description="The shop's own number; unique in its store.")
    name: str | None = strawberry.field(description="What the product is called.")
    nodes: Connection[Annotated["HierarchyNode", strawberry.lazy("app.api.hierarchies")]] = (
        connection(
            Cursors("product-nodes", uuid),
            nodes.of_products,
            nodes.counts_of_products,
            lambda product: product.pk,
            "The nodes this product is associated with, in any hierarchy.",
        )
    )

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return isinstance(row, tables.Product)


@strawberry.type(description="One product of a node.")
class NodeProductEdge:
    cursor: str = strawberry.field(description="Opaque: pass it as after or before.")
    node: Product = expression(lambda edge: edge.row.product, "The product.")
    curated: bool = expression(
        lambda edge: edge.row.curated,
        "Whether the product is one of the at most 20 that lead the node's list.",
    )


async def _products(root: Any) -> list[Any]:
    return [association.product for association in await nodes_of(root)]


@strawberry.type(description="A page of a node's products.")
class NodeProductConnection:
    edges: list[NodeProductEdge] = paged("The products of the page with their cursors.", edges_of)
    nodes: list[Product] = paged("The products of the page.", _products)
    page_info: PageInfo = paged("Where the page lies in the list.", page_info_of)
    total_count: int = paged(
        "How many products the node has; counted only when asked for.", total_count_of
    )


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
