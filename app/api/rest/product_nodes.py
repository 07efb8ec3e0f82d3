"""Endpoints of the nodes of products. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.requests import ClientDisconnect

from app.api.rest.context import HierarchiesRead, HierarchiesWrite, RestContext, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.filters import ID, TEXT, AttributeKind, enum_kind, parse_filter
from app.api.rest.models import IdInPath, RequestDocument, RequestModel, ResponseModel
from app.api.rest.nodes import NodeData, nodes_data
from app.api.rest.pagination import ListDocument, PagedListRequest
from app.domain.errors import InvalidInput, NotFound
from app.domain.hierarchies import Owner
from app.domain.ids import require_uuid, uuid_of
from app.domain.nodes import MAX_PRODUCTS
from app.domain.stores import OwnedByOrganization, owner_of
from app.services import products as service
from app.services.products import ProductsChange
from app.storage import associations, nodes, products
from app.storage.engine.transaction import Transaction

router = APIRouter(route_class=RestRoute, tags=["Products"])

MAX_NODES = 100
"""Nodes per request that attaches or detaches the products of a filter."""

ASSOCIATION_COST = 5
"""Cost of an association that is attached or detached: 25 µs of processor time."""

_FILTERS: Mapping[str, AttributeKind] = {
    "id": ID,
    "sku": TEXT,
    "name": TEXT,
    "owner": enum_kind(Owner),
}


class ProductsAndNodes(RequestModel):
    filter: str = Field(
        description=f"Filter of at most {MAX_PRODUCTS} products. Attributes: {', '.join(_FILTERS)}."
    )
    node_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_NODES)] = Field(
        description="IDs of nodes in any hierarchies."
    )


class AttachedMeta(ResponseModel):
    nodes_attached: int = Field(description="Number of nodes that have the products now.")
    nodes_not_found: list[str] = Field(description="The unknown IDs.")


class AttachedDocument(ResponseModel):
    meta: AttachedMeta


class DetachedMeta(ResponseModel):
    nodes_detached: int = Field(description="Number of nodes that do not have the products now.")
    nodes_not_found: list[str] = Field(description="The unknown IDs.")


class DetachedDocument(ResponseModel):
    meta: DetachedMeta


@router.get(
    "/products/{product_id}/nodes",
    response_model=ListDocument[NodeData],
    summary="Get the nodes of a product",
    responses=error_responses(400, 403, 404),
)
async def list_product_nodes(
    context: HierarchiesRead, product_id: IdInPath, list_request: PagedListRequest
) -> Response:
    """List the nodes of a product in all hierarchies, hierarchy by hierarchy."""

    def read(tx: Transaction) -> Response:
        uuid = require_uuid("product", product_id)
        product = products.by_ids(tx, context.store, [uuid]).get(uuid)
        if product is None:
            raise NotFound("product", product_id)
        page = associations.nodes_page(tx, context.store, product.pk, list_request.window)
        return list_request.response(nodes_data(tx, page.rows), page.total)

    return await context.scan(read)


@router.post(
    "/products/attach_nodes",
    summary="Attach the products of a filter to nodes",
    responses=error_responses(400, 403, 415, 422),
)
async def attach_nodes(
    context: HierarchiesWrite, request: Request, body: RequestDocument[ProductsAndNodes]
) -> AttachedDocument:
    """Attach all matching products to nodes, one node after the other. Repeat a request that
    failed: products already attached stay attached."""
    changed, missing = await _change(context, request, service.attach, body.data)
    return AttachedDocument(meta=AttachedMeta(nodes_attached=changed, nodes_not_found=missing))


@router.post(
    "/products/detach_nodes",
    summary="Detach the products of a filter from nodes",
    responses=error_responses(400, 403, 415, 422),
)
async def detach_nodes(
    context: HierarchiesWrite, request: Request, body: RequestDocument[ProductsAndNodes]
) -> DetachedDocument:
    """Detach all matching products from nodes, one node after the other. Repeat a request that
    failed: products not attached are ignored."""
    changed, missing = await _change(context, request, service.detach, body.data)
    return DetachedDocument(meta=DetachedMeta(nodes_detached=changed, nodes_not_found=missing))


async def _change(
    context: RestContext, request: Request, change: ProductsChange, body: ProductsAndNodes
) -> tuple[int, list[str]]:
    """Change the products of each node in a transaction of its own, so that other writes get turns.

    Return the number of nodes and the unknown ids. Raises, before any change, OwnedByOrganization
    and BadRequest (429) without enough tokens.
    """
    store = context.store
    conditions = parse_filter(body.filter, _FILTERS)
    uuids = {id: uuid_of(id) for id in body.node_ids}

    def read(tx: Transaction) -> tuple[list[UUID], list[UUID]]:
        known = nodes.by_ids(tx, store, [uuid for uuid in uuids.values() if uuid])
        if any(node.hierarchy.owner is not owner_of(store) for node in known.values()):
            raise OwnedByOrganization(("node_ids",))
        return products.ids(tx, store, conditions, MAX_PRODUCTS + 1), list(known)

    product_ids, known_ids = await context.scan(read)
    if len(product_ids) > MAX_PRODUCTS:
        raise InvalidInput(f"filter: It matches more than {MAX_PRODUCTS} products.")
    context.work.take_cost(len(product_ids) * len(known_ids) * ASSOCIATION_COST)

    async def change_all() -> set[UUID]:
        changed = set()
        # By hierarchy and number, in which order concurrent requests lock hierarchies too.
        for node_id in sorted(known_ids):
            if await request.is_disconnected():
                raise ClientDisconnect
            # It may have been deleted since it was read.
            with suppress(NotFound):
                await context.write(change, store, node_id, list(map(str, product_ids)))
                changed.add(node_id)
        return changed

    changed = await context.in_time(change_all()) if product_ids else set(known_ids)
    missing = [id for id, uuid in uuids.items() if uuid not in changed]
    return len(changed) if product_ids else 0, missing
