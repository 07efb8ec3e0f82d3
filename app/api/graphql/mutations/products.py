"""Mutations of products and of the products of a node."""

from typing import Annotated, Any

import strawberry

from app.api.graphql.context import Info
from app.api.graphql.fields.declarations import mutation
from app.api.graphql.mutations.nodes import NodePayload
from app.api.graphql.mutations.payloads import ERRORS, AuthoringError, run_mutation
from app.api.graphql.types.products import Product
from app.domain.ids import require_uuid
from app.domain.nodes import MAX_PRODUCTS
from app.domain.products import MAX_NEW_PRODUCTS, SKU_LIMIT, NewProduct
from app.services import products


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
    products: list[Product] = strawberry.field(
        description="The new products, in the order of the input; empty if refused."
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)


async def _create(
    info: Info,
    input: Annotated[
        CreateProductsInput, strawberry.argument(description="The products to create.")
    ],
) -> Any:
    new = [NewProduct(product.sku, product.name) for product in input.products]
    created: Any
    created, errors = await run_mutation(
        info, input, lambda session, store: products.create(session, store, new)
    )
    return ProductsPayload(products=created or [], errors=errors)


async def _attach(
    info: Info,
    input: Annotated[
        AttachProductsInput, strawberry.argument(description="The node and its new products.")
    ],
) -> Any:
    node: Any
    node, errors = await run_mutation(
        info,
        input,
        lambda session, store: products.attach(
            session, store, require_uuid("node", input.node_id, "nodeId"), input.product_ids
        ),
    )
    return NodePayload(node=node, errors=errors)


async def _detach(
    info: Info,
    input: Annotated[
        DetachProductsInput, strawberry.argument(description="The node and the products to remove.")
    ],
) -> Any:
    node: Any
    node, errors = await run_mutation(
        info,
        input,
        lambda session, store: products.detach(
            session, store, require_uuid("node", input.node_id, "nodeId"), input.product_ids
        ),
    )
    return NodePayload(node=node, errors=errors)


@strawberry.type
class ProductMutations:
    create_products: ProductsPayload = mutation(_create, "Create products, all or none.")
    attach_products: NodePayload = mutation(
        _attach,
        "Associate products with a node, all or none. The error names every unknown product.",
    )
    detach_products: NodePayload = mutation(
        _detach, "End the association of products with a node, and their curation."
    )
