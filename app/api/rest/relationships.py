"""Endpoints that move nodes. Source: domain.md, "REST endpoints and statuses"."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from app.api.rest.context import HierarchiesWrite, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.models import IdInPath, RequestDocument, ResponseDocument
from app.api.rest.nodes import (
    ChildMeta,
    NodeData,
    NodeReference,
    load_node,
    nodes_data,
    sort_order_of,
    uuid_in_hierarchy,
)
from app.domain.errors import SomeNotFound
from app.domain.hierarchies import node_ref
from app.domain.ids import require_uuid, uuid_of
from app.services import nodes as service
from app.storage import nodes
from app.storage.engine.transaction import Transaction

router = APIRouter(route_class=RestRoute, tags=["Nodes"])

MAX_MOVED = 100
"""Maximum number of nodes per move."""


class Child(NodeReference):
    meta: ChildMeta = Field(default_factory=ChildMeta)


class MovedNodes(
    RequestDocument[Annotated[list[Child], Field(min_length=1, max_length=MAX_MOVED)]]
):
    """Nodes to move."""


@router.post(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/children",
    summary="Move nodes below a node",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def add_children(
    context: HierarchiesWrite,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    body: MovedNodes,
) -> ResponseDocument[list[NodeData]]:
    """Move nodes, each with everything below it, to a parent, all or none."""

    def move(tx: Transaction) -> list[NodeData]:
        parent_id = load_node(tx, context.store, hierarchy_id, node_id).id
        uuids = {child.id: uuid_of(child.id) for child in body.data}
        known = nodes.by_ids(tx, context.store, [uuid for uuid in uuids.values() if uuid])
        if missing := [id for id, uuid in uuids.items() if uuid not in known]:
            raise SomeNotFound("node", missing)
        moved = [
            service.move(
                tx,
                context.store,
                require_uuid("node", child.id),
                parent_id,
                sort_order_of(child.meta),
            )
            for child in body.data
        ]
        return nodes_data(tx, moved)

    return ResponseDocument(data=await context.write(move))


@router.put(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/parent",
    status_code=204,
    summary="Move a node below another",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def set_parent(
    context: HierarchiesWrite,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    body: RequestDocument[NodeReference],
) -> None:
    """Move a node, with everything below it, to another parent."""

    def move(tx: Transaction) -> None:
        uuid = uuid_in_hierarchy(hierarchy_id, node_id)
        parent_id = require_uuid("node", body.data.id, "parent_id")
        service.move(tx, context.store, uuid, parent_id, {})

    await context.write(move)


@router.delete(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/parent",
    status_code=204,
    summary="Move a node below the root",
    responses=error_responses(400, 403, 404, 422),
)
async def unset_parent(
    context: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath
) -> None:
    """Move a node, with everything below it, to the root of its hierarchy."""

    def move(tx: Transaction) -> None:
        uuid = uuid_in_hierarchy(hierarchy_id, node_id)
        service.move(tx, context.store, uuid, node_ref(uuid).hierarchy_id, {})

    await context.write(move)
