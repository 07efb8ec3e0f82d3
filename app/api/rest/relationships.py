"""Endpoints that move nodes. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from app.api.rest.context import HierarchiesWrite, RestContext, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.hierarchies import HierarchyData, hierarchy_data, load_hierarchy
from app.api.rest.models import IdInPath, RequestDocument, ResponseDocument, optional_field
from app.api.rest.nodes import (
    ChildMeta,
    NodeData,
    NodeReference,
    load_node,
    node_data,
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
    meta: ChildMeta | None = optional_field()


class MovedNodes(
    RequestDocument[Annotated[list[Child], Field(min_length=1, max_length=MAX_MOVED)]]
):
    """Nodes to move."""


def _move(
    tx: Transaction, context: RestContext, parent_id: UUID, children: Sequence[Child]
) -> None:
    """Move nodes below a root or a node. Raises SomeNotFound with all unknown nodes."""
    uuids = {child.id: uuid_of(child.id) for child in children}
    known = nodes.by_ids(tx, context.store, [uuid for uuid in uuids.values() if uuid])
    if missing := [id for id, uuid in uuids.items() if uuid not in known]:
        raise SomeNotFound("node", missing)
    for child in children:
        uuid = require_uuid("node", child.id)
        order = sort_order_of(child.meta)
        service.move(tx, context.store, uuid, parent_id, order, context.max_tree_depth)


@router.post(
    "/hierarchies/{hierarchy_id}/relationships/children",
    summary="Move nodes below the root",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def add_root_children(
    context: HierarchiesWrite, hierarchy_id: IdInPath, body: MovedNodes
) -> ResponseDocument[HierarchyData]:
    """Move nodes, each with everything below it, below the root, all or none. Returns the
    hierarchy."""

    def move(tx: Transaction) -> HierarchyData:
        root_id = load_hierarchy(tx, context.store, hierarchy_id).id
        _move(tx, context, root_id, body.data)
        return hierarchy_data(load_hierarchy(tx, context.store, hierarchy_id))

    return ResponseDocument(data=await context.write(move))


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
) -> ResponseDocument[NodeData]:
    """Move nodes, each with everything below it, below a node, all or none. Returns that node."""

    def move(tx: Transaction) -> NodeData:
        parent_id = load_node(tx, context.store, hierarchy_id, node_id).id
        _move(tx, context, parent_id, body.data)
        return node_data(tx, load_node(tx, context.store, hierarchy_id, node_id))

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
        service.move(tx, context.store, uuid, parent_id, {}, context.max_tree_depth)

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
