"""Mutations of products and of the products of a node."""

from typing import Self

import strawberry

from app.api.graphql.mutations.nodes import NodePayload
from app.api.graphql.mutations.payloads import ERRORS, AuthoringError, authoring_mutation
from app.api.graphql.types.products import Product
from app.domain.ids import require_uuid
from app.domain.nodes import MAX_PRODUCTS
from app.domain.products import MAX_NEW_PRODUCTS, SKU_LIMIT, NewProduct
from app.services import products
from app.storage import tables


@strawberry.input(description="Attributes of a new product.")
class NewProductInput:
    sku: str = strawberry.field(
        description="Stock keeping unit, the shop's own number: 1 to "
        f"{SKU_LIMIT} characters, not blank, unique in its store."
    )
    name: str = strawberry.field(description="Name: 1 to 1000 characters, not blank.")


@strawberry.input(description="Products to create, all or none.")
class CreateProductsInput:
    products: list[NewProductInput] = strawberry.field(
        description=f"1 to {MAX_NEW_PRODUCTS} products."
    )


@strawberry.input(description="Products to attach to a node.")
class AttachProductsInput:
    node_id: strawberry.ID = strawberry.field(description="ID of the node.")
    product_ids: list[strawberry.ID] = strawberry.field(
        description=f"IDs of 1 to {MAX_PRODUCTS} products. Products already attached stay attached."
    )


@strawberry.input(description="Products to detach from a node.")
class DetachProductsInput:
    node_id: strawberry.ID = strawberry.field(description="ID of the node.")
    product_ids: list[strawberry.ID] = strawberry.field(
        description=f"IDs of 1 to {MAX_PRODUCTS} products. Products not attached are ignored."
    )


@strawberry.type(description="Result of createProducts.")
class ProductsPayload:
    products: list[tables.ProductRow] = strawberry.field(
        graphql_type=list[Product],
        description="The new products, in the order of the input; empty if refused.",
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)

    @classmethod
    def of(cls, created: list[tables.ProductRow] | None, errors: list[AuthoringError]) -> Self:
        return cls(products=created or [], errors=errors)


@strawberry.type
class ProductMutations:
    create_products: ProductsPayload = authoring_mutation(
        CreateProductsInput,
        "The products to create.",
        lambda tx, store, input: products.create(
            tx, store, [NewProduct(product.sku, product.name) for product in input.products]
        ),
        ProductsPayload.of,
        "Create products, all or none.",
    )
    attach_products: NodePayload = authoring_mutation(
        AttachProductsInput,
        "The node and its new products.",
        lambda tx, store, input: products.attach(
            tx, store, require_uuid("node", input.node_id, "node_id"), input.product_ids
        ),
        NodePayload.of,
        "Associate products with a node, all or none. The error names every unknown product.",
    )
    detach_products: NodePayload = authoring_mutation(
        DetachProductsInput,
        "The node and the products to remove.",
        lambda tx, store, input: products.detach(
            tx, store, require_uuid("node", input.node_id, "node_id"), input.product_ids
        ),
        NodePayload.of,
        "End the association of products with a node, and their curation.",
    )
