"""Making products, attaching them to nodes and detaching them."""

from typing import Annotated, Any

import strawberry

from app.api.graphql.context import Info
from app.api.graphql.fields.declarations import mutation
from app.api.graphql.mutations.nodes import NodePayload
from app.api.graphql.mutations.payloads import ERRORS, AuthoringError, run_mutation
from app.api.graphql.types.products import Product
from app.domain.ids import known_uuid
from app.domain.nodes import MAX_PRODUCTS
from app.domain.products import MAX_NEW_PRODUCTS, SKU_LIMIT, NewProduct
from app.services import products


@strawberry.input(description="A product to make.")
class NewProductInput:
    sku: str = strawberry.field(
        description=f"The shop's own number: 1 to {SKU_LIMIT} characters, not blank, unique in "
        "its store."
    )
    name: str = strawberry.field(description="1 to 1000 characters, not blank.")


@strawberry.input(description="The products to make: all of them are made, or none.")
class CreateProductsInput:
    products: list[NewProductInput] = strawberry.field(
        description=f"1 to {MAX_NEW_PRODUCTS} products."
    )


@strawberry.input(description="What to attach, and where.")
class AttachProductsInput:
    node_id: strawberry.ID = strawberry.field(description="The node to attach them to.")
    product_ids: list[strawberry.ID] = strawberry.field(
        description=f"1 to {MAX_PRODUCTS} products. Those that are attached already stay so."
    )


@strawberry.input(description="What to detach, and where.")
class DetachProductsInput:
    node_id: strawberry.ID = strawberry.field(description="The node to detach them from.")
    product_ids: list[strawberry.ID] = strawberry.field(
        description=f"1 to {MAX_PRODUCTS} products. Those that are not attached stay so."
    )


@strawberry.type(description="What became of the request.")
class ProductsPayload:
    products: list[Product] = strawberry.field(
        description="The new products, in the order given; empty when refused."
    )
    errors: list[AuthoringError] = strawberry.field(description=ERRORS)


async def _create(
    info: Info,
    input: Annotated[CreateProductsInput, strawberry.argument(description="What to make.")],
) -> Any:
    new = [NewProduct(product.sku, product.name) for product in input.products]
    made: Any
    made, errors = await run_mutation(
        info, input, lambda session, store: products.create(session, store, new)
    )
    return ProductsPayload(products=made or [], errors=errors)


async def _attach(
    info: Info,
    input: Annotated[AttachProductsInput, strawberry.argument(description="What to attach.")],
) -> Any:
    node: Any
    node, errors = await run_mutation(
        info,
        input,
        lambda session, store: products.attach(
            session, store, known_uuid("node", input.node_id, "nodeId"), input.product_ids
        ),
    )
    return NodePayload(node=node, errors=errors)


async def _detach(
    info: Info,
    input: Annotated[DetachProductsInput, strawberry.argument(description="What to detach.")],
) -> Any:
    node: Any
    node, errors = await run_mutation(
        info,
        input,
        lambda session, store: products.detach(
            session, store, known_uuid("node", input.node_id, "nodeId"), input.product_ids
        ),
    )
    return NodePayload(node=node, errors=errors)


@strawberry.type
class ProductMutations:
    create_products: ProductsPayload = mutation(
        _create, "Makes products, all of those given or none."
    )
    attach_products: NodePayload = mutation(
        _attach,
        "Associates products with a node. Unknown ones are all named, and none is attached then.",
    )
    detach_products: NodePayload = mutation(
        _detach,
        "Ends the association of products with a node, and their curation.",
    )
