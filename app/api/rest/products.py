"""Endpoints of a node's products. Source: domain.md, "REST endpoints and statuses"."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from app.api.rest.context import HierarchiesRead, HierarchiesWrite, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.models import (
    IdInPath,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    optional_field,
)
from app.api.rest.nodes import NodeData, load_node, node_data, uuid_in_hierarchy
from app.api.rest.pagination import ListDocument, PagedListRequest
from app.domain.hierarchies import Owner
from app.domain.nodes import MAX_PRODUCTS
from app.domain.stores import owner_of
from app.services import products as service
from app.services.products import ProductsChange
from app.storage import associations
from app.storage.associations import Association
from app.storage.engine.transaction import Transaction
from app.storage.sql.offset import OffsetPage

router = APIRouter(route_class=RestRoute, tags=["Products"])


class ProductAttributes(ResponseModel):
    sku: str = optional_field()
    name: str = optional_field()
    curated_product: Literal[True] = optional_field(
        description="Present if the product is a curated one, which lead the node's list."
    )


class ProductMeta(ResponseModel):
    owner: Owner = Field(description="Owner: a single store, or the organization above all stores.")


class ProductData(ResponseModel):
    id: UUID
    type: Literal["product"]
    attributes: ProductAttributes
    meta: ProductMeta


class ProductReference(RequestModel):
    type: Literal["product"]
    id: str


class ProductReferences(
    RequestDocument[Annotated[list[ProductReference], Field(min_length=1, max_length=MAX_PRODUCTS)]]
):
    """Products by ID."""


def _product_data(association: Association) -> ProductData:
    curated = {"curated_product": True} if association.curated else {}
    return ProductData(
        id=association.product.id,
        type="product",
        attributes=ProductAttributes.of(association.product, **curated),
        meta=ProductMeta(owner=owner_of(association.product.store)),
    )


def _change_products(
    tx: Transaction,
    change: ProductsChange,
    store: str,
    hierarchy_id: str,
    node_id: str,
    body: ProductReferences,
) -> NodeData:
    """Attach or detach the products in the body, and return the node."""
    product_ids = [product.id for product in body.data]
    node = change(tx, store, uuid_in_hierarchy(hierarchy_id, node_id), product_ids)
    return node_data(tx, node)


@router.get(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/products",
    summary="Get the products of a node",
    responses=error_responses(400, 403, 404),
)
async def list_products(
    context: HierarchiesRead,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    list_request: PagedListRequest,
) -> ListDocument[ProductData]:
    """List the products of a node: curated ones in their order, then the others by SKU."""

    def read(tx: Transaction) -> OffsetPage[Association]:
        node = load_node(tx, context.store, hierarchy_id, node_id)
        return associations.offset_page(tx, context.store, node.key, list_request.window)

    page = await context.scan(read)
    return list_request.document(
        [_product_data(association) for association in page.rows], page.total
    )


@router.post(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/products",
    status_code=201,
    summary="Attach products to a node",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def attach_products(
    context: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath, body: ProductReferences
) -> ResponseDocument[NodeData]:
    """Attach products to a node, all or none. Products already attached stay attached."""
    node = await context.write(
        _change_products, service.attach, context.store, hierarchy_id, node_id, body
    )
    return ResponseDocument(data=node)


@router.delete(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/products",
    summary="Detach products from a node",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def detach_products(
    context: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath, body: ProductReferences
) -> ResponseDocument[NodeData]:
    """Detach products from a node, all or none. Products not attached are ignored."""
    node = await context.write(
        _change_products, service.detach, context.store, hierarchy_id, node_id, body
    )
    return ResponseDocument(data=node)
