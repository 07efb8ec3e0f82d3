"""Products of a node. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field
from sqlmodel import Session

from app.api.rest.context import Endpoint, HierarchiesRead, HierarchiesWrite
from app.api.rest.errors import refusals
from app.api.rest.models import (
    IdInPath,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    left_out,
)
from app.api.rest.nodes import NodeData, found_node, one_node, place_in
from app.api.rest.pagination import ListDocument, Paged
from app.domain.nodes import MAX_PRODUCTS
from app.services import products as service
from app.storage import products
from app.storage.nodes import TreeNode
from app.storage.products import Association
from app.storage.sql.offset import OffsetPage

router = APIRouter(route_class=Endpoint, tags=["ProductReferences"])


class ProductAttributes(ResponseModel):
    sku: str | None
    name: str | None


class ProductMeta(ResponseModel):
    curated_product: Literal[True] = left_out(
        description="There where the product is one of those that lead the node's list."
    )


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
    """Products, each by its id."""


def _data(association: Association) -> ProductData:
    product = association.product
    return ProductData(
        id=product.id,
        type="product",
        attributes=ProductAttributes.model_validate(product, from_attributes=True),
        meta=ProductMeta(curated_product=True) if association.curated else ProductMeta(),
    )


def _changed(
    session: Session,
    change: Callable[[Session, str, UUID, Sequence[str]], TreeNode],
    store: str,
    hierarchy_id: str,
    node_id: str,
    body: ProductReferences,
) -> NodeData:
    """The node after its products were changed."""
    ids = [product.id for product in body.data]
    return one_node(session, change(session, store, place_in(hierarchy_id, node_id), ids))


@router.get(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/products",
    summary="Get the products of a node",
    responses=refusals(400, 403, 404),
)
async def list_products(
    asking: HierarchiesRead, hierarchy_id: IdInPath, node_id: IdInPath, part: Paged
) -> ListDocument[ProductData]:
    """Its products: the curated ones in their order, then by sku."""

    def read(session: Session) -> OffsetPage[Association]:
        node = found_node(session, asking.store, hierarchy_id, node_id)
        return products.span_of_node(session, asking.store, node.key, part.span)

    return part.document(await asking.scan(read), _data)


@router.post(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/products",
    status_code=201,
    summary="Attach products to a node",
    responses=refusals(400, 403, 404, 415, 422),
)
async def attach_products(
    asking: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath, body: ProductReferences
) -> ResponseDocument[NodeData]:
    """Attaches all of them or none; those that are attached already stay so."""

    changed = await asking.write(
        _changed, service.attach, asking.store, hierarchy_id, node_id, body
    )
    return ResponseDocument(data=changed)


@router.delete(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/products",
    summary="Detach products from a node",
    responses=refusals(400, 403, 404, 415, 422),
)
async def detach_products(
    asking: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath, body: ProductReferences
) -> ResponseDocument[NodeData]:
    """Detaches all of them or none; those that are not attached stay so."""

    changed = await asking.write(
        _changed, service.detach, asking.store, hierarchy_id, node_id, body
    )
    return ResponseDocument(data=changed)
