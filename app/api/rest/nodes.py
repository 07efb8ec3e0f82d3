"""Nodes of a hierarchy, and where they hang. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field
from sqlmodel import Session, col

from app.api.rest.context import Endpoint, HierarchiesRead, HierarchiesWrite
from app.api.rest.errors import refusals
from app.api.rest.filters import ID, TRUTH, Kind
from app.api.rest.hierarchies import (
    FILTERS,
    ChangedAttributes,
    HierarchyMeta,
    NewAttributes,
    SharedAttributes,
    check_id,
    found_hierarchy,
    given,
)
from app.api.rest.models import (
    IdInPath,
    Relations,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    left_out,
)
from app.api.rest.pagination import FilteredListRequest, ListDocument, filtered
from app.domain.errors import NotFound, SomeNotFound
from app.domain.hierarchies import ROOT_NO, node_id, node_ref
from app.domain.ids import known_uuid, uuid_of
from app.domain.nodes import MAX_CURATED, NodeAttributes
from app.services import nodes as service
from app.storage import nodes, products, tables
from app.storage.nodes import TreeNode
from app.storage.sql.keyset import Order, OrderBy
from app.storage.sql.offset import OffsetPage

router = APIRouter(route_class=Endpoint, tags=["NodeListRequest"])

MAX_MOVED = 100
"""Nodes that can be moved at a time."""


class Reference(ResponseModel):
    type: Literal["node"]
    id: UUID


class ParentReference(ResponseModel):
    data: Reference


class NodeModel(SharedAttributes):
    curated_products: list[UUID] = Field(
        description=f"The products that lead the node's list, in order, at most {MAX_CURATED}."
    )


class NodeRelationships(ResponseModel):
    children: Relations
    products: Relations
    parent: ParentReference = left_out(description="Not there where the node hangs below the root.")


class NodeMeta(HierarchyMeta):
    sort_order: int = left_out(description="Siblings with a higher one come first, without: last.")
    parent_name: str = left_out(description="Not there where the node hangs below the root.")


class NodeData(ResponseModel):
    id: UUID
    type: Literal["node"]
    attributes: NodeModel
    relationships: NodeRelationships
    meta: NodeMeta


class NewNodeAttributes(NewAttributes):
    curated_products: list[str] | None = left_out(
        description=f"At most {MAX_CURATED} of the node's products, in their order."
    )


class ChangedNodeAttributes(ChangedAttributes):
    curated_products: list[str] | None = left_out(
        description=f"At most {MAX_CURATED} of the node's products, in their order."
    )


class ChildMeta(RequestModel):
    sort_order: int | None = left_out(ge=-(2**31), le=2**31 - 1, description="Null unsets it.")


class NodeReference(RequestModel):
    type: Literal["node"]
    id: str


class ParentRequest(RequestModel):
    data: NodeReference


class NewRelationships(RequestModel):
    parent: ParentRequest = left_out(description="Where to hang it; below the root by default.")


class NewNode(RequestModel):
    type: Literal["node"]
    attributes: NewNodeAttributes
    meta: ChildMeta = Field(default_factory=ChildMeta)
    relationships: NewRelationships = Field(default_factory=NewRelationships)


class ChangedNode(RequestModel):
    id: str = left_out(description="The one in the path, where it is given.")
    type: Literal["node"]
    attributes: ChangedNodeAttributes = Field(default_factory=ChangedNodeAttributes)
    meta: ChildMeta = Field(default_factory=ChildMeta)


class Child(NodeReference):
    meta: ChildMeta = Field(default_factory=ChildMeta)


class MovedNodes(
    RequestDocument[Annotated[list[Child], Field(min_length=1, max_length=MAX_MOVED)]]
):
    """Nodes that are to hang elsewhere."""


def found_node(session: Session, store: str, hierarchy_id: str, id: str) -> TreeNode:
    """The visible node of that id in that hierarchy. Raises NotFound."""
    uuid = place_in(hierarchy_id, id)
    node = nodes.by_ids(session, store, [uuid]).get(uuid)
    if node is None:
        raise NotFound("node", id)
    return node


def place_in(hierarchy_id: str, id: str) -> UUID:
    """The UUID of a node, or of the root. Raises NotFound for one of another hierarchy."""
    uuid = known_uuid("node", id)
    if node_ref(uuid).hierarchy_id != uuid_of(hierarchy_id):
        raise NotFound("node", id)
    return uuid


def node_data(session: Session, found: Sequence[TreeNode]) -> list[NodeData]:
    """The nodes, of one hierarchy, as the wire has them."""
    keys = [node.key for node in found]
    curated = products.curated_of(session, keys)
    parent_keys = [(node.hierarchy_pk, node.parent_no) for node in (one.node for one in found)]
    names = nodes.names(session, [key for key in parent_keys if key[1] != ROOT_NO])
    return [
        _data(one, curated[one.key], names.get(parent_key))
        for one, parent_key in zip(found, parent_keys, strict=True)
    ]


def one_node(session: Session, found: TreeNode) -> NodeData:
    """The node as the wire has it."""
    return node_data(session, [found])[0]


def _data(found: TreeNode, curated: Sequence[UUID], parent_name: str | None) -> NodeData:
    node, hierarchy_id = found.node, found.hierarchy.id
    here = "hierarchies", hierarchy_id, "nodes", found.id
    parent: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    if parent_name is not None:
        parent_id = node_id(hierarchy_id, node.parent_no)
        parent["parent"] = ParentReference(data=Reference(type="node", id=parent_id))
        meta["parent_name"] = parent_name
    if node.sort_order is not None:
        meta["sort_order"] = node.sort_order
    return NodeData(
        id=found.id,
        type="node",
        attributes=NodeModel(
            name=node.name,
            description=node.description,
            slug=node.slug,
            locales=node.locales,
            curated_products=list(curated),
        ),
        relationships=NodeRelationships(
            children=Relations.at(*here, "children"),
            products=Relations.at(*here, "products"),
            **parent,
        ),
        meta=NodeMeta(
            created_at=node.created_at,
            updated_at=node.updated_at,
            owner=found.hierarchy.owner,
            **meta,
        ),
    )


def _wanted(
    attributes: NewNodeAttributes | ChangedNodeAttributes, meta: ChildMeta
) -> NodeAttributes:
    wanted = given(attributes) | meta.model_dump(exclude_unset=True)
    if "curated_products" in wanted:
        wanted["curated_product_ids"] = wanted.pop("curated_products")
    return cast(NodeAttributes, wanted)


def _order(meta: ChildMeta) -> NodeAttributes:
    return cast(NodeAttributes, meta.model_dump(exclude_unset=True))


_FILTERS: Mapping[str, Kind] = {**FILTERS, "parent_id": ID, "has_children": TRUTH}
_NO = OrderBy(col(tables.Node.node_no))
_ORDERS: Mapping[str, Order] = {
    "created_at": (OrderBy(col(tables.Node.created_at)), _NO),
    "updated_at": (OrderBy(col(tables.Node.updated_at)), _NO),
    "name": (OrderBy(col(tables.Node.name)), _NO),
}
NodeListRequest = Annotated[FilteredListRequest, filtered(_FILTERS, _ORDERS, nodes.PARENTS_FIRST)]
ChildListRequest = Annotated[FilteredListRequest, filtered(_FILTERS, _ORDERS, nodes.SIBLINGS)]


def _listed(
    session: Session,
    store: str,
    hierarchy_id: str,
    part: FilteredListRequest,
    below: str | None = None,
) -> OffsetPage[NodeData]:
    """The nodes of a hierarchy, or those right below its root or a node."""
    hierarchy = found_hierarchy(session, store, hierarchy_id)
    parent_no = None
    if below is not None:
        parent_no = node_ref(place_in(hierarchy_id, below)).node_no
        if parent_no != ROOT_NO:
            found_node(session, store, hierarchy_id, below)
    found = nodes.offset_page(session, hierarchy, part.filter, part.order, part.span, parent_no)
    return OffsetPage(node_data(session, found.rows), found.total)


def _as_it_is(data: NodeData) -> NodeData:
    return data


@router.get(
    "/hierarchies/{hierarchy_id}/nodes",
    summary="Get all nodes of a hierarchy",
    responses=refusals(400, 403, 404),
)
async def list_nodes(
    asking: HierarchiesRead, hierarchy_id: IdInPath, part: NodeListRequest
) -> ListDocument[NodeData]:
    """Its nodes of any depth, parents before children."""
    found = await asking.scan(_listed, asking.store, hierarchy_id, part)
    return part.document(found, _as_it_is)


@router.get(
    "/hierarchies/{hierarchy_id}/children",
    summary="Get the children of a hierarchy",
    responses=refusals(400, 403, 404),
)
async def list_root_children(
    asking: HierarchiesRead, hierarchy_id: IdInPath, part: ChildListRequest
) -> ListDocument[NodeData]:
    """The nodes right below its root: sort_order descending, without one last, then the latest
    updated first."""
    found = await asking.scan(_listed, asking.store, hierarchy_id, part, hierarchy_id)
    return part.document(found, _as_it_is)


@router.get(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/children",
    summary="Get the children of a node",
    responses=refusals(400, 403, 404),
)
async def list_children(
    asking: HierarchiesRead, hierarchy_id: IdInPath, node_id: IdInPath, part: ChildListRequest
) -> ListDocument[NodeData]:
    """The nodes right below it: sort_order descending, without one last, then the latest updated
    first."""
    found = await asking.scan(_listed, asking.store, hierarchy_id, part, node_id)
    return part.document(found, _as_it_is)


@router.post(
    "/hierarchies/{hierarchy_id}/nodes",
    status_code=201,
    summary="Create a node",
    responses=refusals(400, 403, 404, 415, 422),
)
async def create_node(
    asking: HierarchiesWrite, hierarchy_id: IdInPath, body: RequestDocument[NewNode]
) -> ResponseDocument[NodeData]:
    """Makes a node below the root, or below the parent that is given."""
    wanted = body.data
    parent = wanted.relationships.parent

    def create(session: Session) -> NodeData:
        root_id = found_hierarchy(session, asking.store, hierarchy_id).id
        parent_id = _parent_in(hierarchy_id, parent.data.id) if parent else root_id
        made = service.create(
            session, asking.store, parent_id, _wanted(wanted.attributes, wanted.meta)
        )
        return one_node(session, made)

    return ResponseDocument(data=await asking.write(create))


@router.get(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}",
    summary="Get a node",
    responses=refusals(400, 403, 404),
)
async def get_node(
    asking: HierarchiesRead, hierarchy_id: IdInPath, node_id: IdInPath
) -> ResponseDocument[NodeData]:
    """One node."""

    def read(session: Session) -> NodeData:
        return one_node(session, found_node(session, asking.store, hierarchy_id, node_id))

    return ResponseDocument(data=await asking.read(read))


@router.put(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}",
    summary="Update a node",
    responses=refusals(400, 403, 404, 415, 422),
)
async def update_node(
    asking: HierarchiesWrite,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    body: RequestDocument[ChangedNode],
) -> ResponseDocument[NodeData]:
    """Changes what is given of it."""
    check_id(body.data.id, node_id)

    def update(session: Session) -> NodeData:
        changes = _wanted(body.data.attributes, body.data.meta)
        id = place_in(hierarchy_id, node_id)
        return one_node(session, service.update(session, asking.store, id, changes))

    return ResponseDocument(data=await asking.write(update))


@router.delete(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}",
    status_code=204,
    summary="Delete a node",
    responses=refusals(400, 403, 404),
)
async def delete_node(asking: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath) -> None:
    """Deletes it with all that is below it."""
    await asking.write(service.delete, asking.store, place_in(hierarchy_id, node_id))


@router.post(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/children",
    summary="Move nodes below a node",
    responses=refusals(400, 403, 404, 415, 422),
)
async def add_children(
    asking: HierarchiesWrite,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    body: MovedNodes,
) -> ResponseDocument[list[NodeData]]:
    """Moves all of these nodes, each with what is below it, or none."""

    def move(session: Session) -> list[NodeData]:
        parent_id = found_node(session, asking.store, hierarchy_id, node_id).id
        ids = {child.id: uuid_of(child.id) for child in body.data}
        known = nodes.by_ids(session, asking.store, [id for id in ids.values() if id])
        if missing := [said for said, id in ids.items() if id not in known]:
            raise SomeNotFound("node", missing)
        moved = [
            service.move(
                session, asking.store, known_uuid("node", child.id), parent_id, _order(child.meta)
            )
            for child in body.data
        ]
        return node_data(session, moved)

    return ResponseDocument(data=await asking.write(move))


@router.put(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/parent",
    status_code=204,
    summary="Move a node below another",
    responses=refusals(400, 403, 404, 415, 422),
)
async def set_parent(
    asking: HierarchiesWrite,
    hierarchy_id: IdInPath,
    node_id: IdInPath,
    body: RequestDocument[NodeReference],
) -> None:
    """Moves it, with all that is below it."""

    def move(session: Session) -> None:
        id = place_in(hierarchy_id, node_id)
        service.move(session, asking.store, id, known_uuid("node", body.data.id, "parentId"), {})

    await asking.write(move)


@router.delete(
    "/hierarchies/{hierarchy_id}/nodes/{node_id}/relationships/parent",
    status_code=204,
    summary="Move a node below the root",
    responses=refusals(400, 403, 404, 422),
)
async def unset_parent(asking: HierarchiesWrite, hierarchy_id: IdInPath, node_id: IdInPath) -> None:
    """Moves it, with all that is below it, right below the root of its hierarchy."""

    def move(session: Session) -> None:
        id = place_in(hierarchy_id, node_id)
        service.move(session, asking.store, id, node_ref(id).hierarchy_id, {})

    await asking.write(move)


def _parent_in(hierarchy_id: str, id: str) -> UUID:
    """The parent that a new node is to have in its hierarchy. Raises NotFound naming it."""
    uuid = known_uuid("hierarchy or node", id, "parentId")
    if node_ref(uuid).hierarchy_id != uuid_of(hierarchy_id):
        raise NotFound("hierarchy or node", id, ("parentId",))
    return uuid
