"""Endpoints of nodes. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Sequence
from typing import Annotated, Literal, cast
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.rest.attributes import (
    ChangedAttributes,
    NewAttributes,
    SharedAttributes,
    attributes_of,
)
from app.api.rest.breadcrumbs import Breadcrumb, breadcrumbs_of
from app.api.rest.context import HierarchiesRead, HierarchiesWrite, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.hierarchies import FILTERS, SORT_ATTRIBUTES, HierarchyMeta, load_hierarchy
from app.api.rest.models import (
    IdInPath,
    Relations,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    WholeNumber,
    check_same_id,
    optional_field,
)
from app.api.rest.pagination import FilteredListRequest, ListDocument, filtered_list
from app.domain.errors import NotFound
from app.domain.hierarchies import ROOT_NO, node_ref
from app.domain.ids import require_uuid, uuid_of
from app.domain.nodes import MAX_CURATED, NodeAttributes
from app.services import nodes as service
from app.storage import associations, nodes
from app.storage.engine.transaction import Transaction
from app.storage.nodes import TreeNode

router = APIRouter(route_class=RestRoute, tags=["Nodes"])


class Reference(ResponseModel):
    type: Literal["node"]
    id: UUID


class ParentReference(ResponseModel):
    data: Reference


class NodeModel(SharedAttributes):
    curated_products: list[UUID] = Field(
        description=f"At most {MAX_CURATED} products that lead the node's list, in order."
    )


class NodeRelationships(ResponseModel):
    children: Relations
    products: Relations
    parent: ParentReference = optional_field(description="Absent for a child of the root.")


class NodeMeta(HierarchyMeta):
    sort_order: int = optional_field(
        description="Siblings with a higher value come first; without one, last."
    )
    parent_name: str = optional_field(description="Absent for a child of the root.")
    hierarchy_id: UUID
    has_children: bool


class NodeData(ResponseModel):
    id: UUID
    type: Literal["node"]
    attributes: NodeModel
    relationships: NodeRelationships
    meta: NodeMeta


class NewNodeAttributes(NewAttributes):
    curated_products: list[str] | None = optional_field(
        description=f"IDs of at most {MAX_CURATED} of the node's products, in order."
    )


class ChangedNodeAttributes(ChangedAttributes):
    curated_products: list[str] | None = optional_field(
        description=f"IDs of at most {MAX_CURATED} of the node's products, in order."
    )


class ChildMeta(RequestModel):
    sort_order: WholeNumber | None = optional_field(
        ge=-(2**31), le=2**31 - 1, description="Null unsets it."
    )


class NodeReference(RequestModel):
    type: Literal["node"]
    id: str


class ParentRequest(RequestModel):
    data: NodeReference | None = Field(description="Null for the root.")


class NewRelationships(RequestModel):
    parent: ParentRequest | None = optional_field(
        description="Parent of the node. Default: the root."
    )


class NewNode(RequestModel):
    type: Literal["node"]
    attributes: NewNodeAttributes
    meta: ChildMeta | None = optional_field()
    relationships: NewRelationships | None = optional_field()

    @property
    def parent_id(self) -> str | None:
        """The id of the parent, None for the root."""
        parent = self.relationships and self.relationships.parent
        return parent.data.id if parent and parent.data else None


class ChangedNode(RequestModel):
    id: str = optional_field(description="If present, the ID in the path.")
    type: Literal["node"]
    attributes: ChangedNodeAttributes | None = optional_field()
    meta: ChildMeta | None = optional_field()


def load_node(tx: Transaction, store: str, hierarchy_id: str, id: str) -> TreeNode:
    """Read a node of a hierarchy that the store can see. Raises NotFound."""
    uuid = uuid_in_hierarchy(hierarchy_id, id)
    node = nodes.by_ids(tx, store, [uuid]).get(uuid)
    if node is None:
        raise NotFound("node", id)
    return node


def uuid_in_hierarchy(hierarchy_id: str, id: str) -> UUID:
    """Parse the id of a node, or of the root, of a hierarchy. Raises NotFound for another's."""
    uuid = require_uuid("node", id)
    if node_ref(uuid).hierarchy_id != uuid_of(hierarchy_id):
        raise NotFound("node", id)
    return uuid


def nodes_data(tx: Transaction, rows: Sequence[TreeNode]) -> list[NodeData]:
    """Convert nodes to their resource objects.

    Raises BreadcrumbsTooLong, PathsTooLong and TextsTooLong for several nodes.
    """
    keys = [row.key for row in rows]
    curated = associations.curated_ids(tx, keys)
    parents = nodes.parents_among(tx, keys)
    paths = breadcrumbs_of(tx, rows)
    return [
        _resource(row, curated[row.key], row.key in parents, path)
        for row, path in zip(rows, paths, strict=True)
    ]


def node_data(tx: Transaction, row: TreeNode) -> NodeData:
    """Convert a node to its resource object."""
    return nodes_data(tx, [row])[0]


def _resource(
    row: TreeNode, curated: Sequence[UUID], has_children: bool, path: list[Breadcrumb]
) -> NodeData:
    node, hierarchy_id = row.node, row.hierarchy.id
    here = "hierarchies", hierarchy_id, "nodes", row.id
    parent: dict[str, ParentReference] = {}
    parent_name: dict[str, str] = {}
    if node.parent_no != ROOT_NO:
        *_, above, _ = path
        parent["parent"] = ParentReference(data=Reference(type="node", id=above.id))
        parent_name["parent_name"] = above.name
    return NodeData(
        id=row.id,
        type="node",
        attributes=NodeModel.of(node, curated_products=list(curated)),
        relationships=NodeRelationships(
            children=Relations.at(*here, "children"),
            products=Relations.at(*here, "products"),
            **parent,
        ),
        meta=NodeMeta.of(
            node,
            owner=row.hierarchy.owner,
            hierarchy_id=hierarchy_id,
            has_children=has_children,
            breadcrumbs=path,
            **parent_name,
        ),
    )


def _node_attributes(
    attributes: NewNodeAttributes | ChangedNodeAttributes | None, meta: ChildMeta | None
) -> NodeAttributes:
    values: dict[str, object] = {**attributes_of(attributes), **sort_order_of(meta)}
    if "curated_products" in values:
        values["curated_product_ids"] = values.pop("curated_products")
    return cast(NodeAttributes, values)


def sort_order_of(meta: ChildMeta | None) -> NodeAttributes:
    """Convert the sort order, if the request sets it, to an attribute of the domain.

    Null unsets it, since no other value can.
    """
    return cast(NodeAttributes, meta.model_dump(exclude_unset=True) if meta else {})


NodeListRequest = Annotated[FilteredListRequest, filtered_list(FILTERS, SORT_ATTRIBUTES)]


def _list_nodes(
    tx: Transaction,
    store: str,
    hierarchy_id: str,
    list_request: FilteredListRequest,
    parent_id: str | None = None,
) -> Response:
    """Build a page of all nodes of a hierarchy, or of the children of its root or of a node."""
    hierarchy = load_hierarchy(tx, store, hierarchy_id)
    parent_no = None
    if parent_id is not None:
        parent_no = node_ref(uuid_in_hierarchy(hierarchy_id, parent_id)).node_no
        if parent_no != ROOT_NO:
            load_node(tx, store, hierarchy_id, parent_id)
    page = nodes.offset_page(
        tx,
        hierarchy,
        list_request.filter,
        list_request.sort,
        list_request.window,
        parent_no,
    )
    return list_request.response(nodes_data(tx, page.rows), page.total)


@router.get(
    "/hierarchies/{hierarchy_id}/nodes",
    response_model=ListDocument[NodeData],
    summary="Get all nodes of a hierarchy",
    responses=error_responses(400, 403, 404),
)
async def list_nodes(
    context: HierarchiesRead, hierarchy_id: IdInPath, list_request: NodeListRequest
) -> Response:
    """List the nodes of a hierarchy at any depth, by default parents before children."""
    return await context.scan(_list_nodes, context.store, hierarchy_id, list_request)


@router.get(
    "/hierarchies/{hierarchy_id}/children",
    response_model=ListDocument[NodeData],
    summary="Get the children of a hierarchy",
    responses=error_responses(400, 403, 404),
)
async def list_root_children(
    context: HierarchiesRead, hierarchy_id: IdInPath, list_request: NodeListRequest
) -> Response:
    """List the children of the root, by default by sort_order descending, unset last, then by
    updated_at descending."""
    return await context.scan(_list_nodes, context.store, hierarchy_id, list_request, hierarchy_id)


@router.get(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/children",
    response_model=ListDocument[NodeData],
    summary="Get the children of a node",
    responses=error_responses(400, 403, 404),
)
async def list_children(
    context: HierarchiesRead,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    list_request: NodeListRequest,
) -> Response:
    """List the children of a node, by default by sort_order descending, unset last, then by
    updated_at descending."""
    return await context.scan(_list_nodes, context.store, hierarchy_id, list_request, node_id)


@router.post(
    "/hierarchies/{hierarchy_id}/nodes",
    status_code=201,
    summary="Create a node",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def create_node(
    context: HierarchiesWrite, hierarchy_id: IdInPath, body: RequestDocument[NewNode]
) -> ResponseDocument[NodeData]:
    """Create a node below the root, or below the parent in the body."""
    attributes = _node_attributes(body.data.attributes, body.data.meta)
    parent = body.data.parent_id

    def create(tx: Transaction) -> NodeData:
        root_id = load_hierarchy(tx, context.store, hierarchy_id).id
        parent_id = root_id if parent is None else _parent_uuid(hierarchy_id, parent)
        node = service.create(tx, context.store, parent_id, attributes, context.max_tree_depth)
        return node_data(tx, node)

    return ResponseDocument(data=await context.write(create))


@router.get(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}",
    summary="Get a node",
    responses=error_responses(400, 403, 404),
)
async def get_node(
    context: HierarchiesRead, hierarchy_id: IdInPath, node_id: IdInPath
) -> ResponseDocument[NodeData]:
    """Get one node."""

    def read(tx: Transaction) -> NodeData:
        return node_data(tx, load_node(tx, context.store, hierarchy_id, node_id))

    return ResponseDocument(data=await context.read(read))


@router.put(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}",
    summary="Update a node",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def update_node(
    context: HierarchiesWrite,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    body: RequestDocument[ChangedNode],
) -> ResponseDocument[NodeData]:
    """Change the attributes in the body; omitted ones stay."""
    check_same_id(body.data.id, node_id)

    def update(tx: Transaction) -> NodeData:
        attributes = _node_attributes(body.data.attributes, body.data.meta)
        uuid = uuid_in_hierarchy(hierarchy_id, node_id)
        return node_data(tx, service.update(tx, context.store, uuid, attributes))

    return ResponseDocument(data=await context.write(update))


@router.delete(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}",
    status_code=204,
    summary="Delete a node",
    responses=error_responses(400, 403, 404),
)
async def delete_node(context: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath) -> None:
    """Delete a node with everything below it."""
    await context.write(service.delete, context.store, uuid_in_hierarchy(hierarchy_id, node_id))


def _parent_uuid(hierarchy_id: str, id: str) -> UUID:
    """Parse the id of a new node's parent in its hierarchy. Raises NotFound(parent_id)."""
    uuid = require_uuid("hierarchy or node", id, "parent_id")
    if node_ref(uuid).hierarchy_id != uuid_of(hierarchy_id):
        raise NotFound("hierarchy or node", id, ("parent_id",))
    return uuid
