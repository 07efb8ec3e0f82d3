"""Endpoints of hierarchies. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.rest.attributes import (
    ChangedAttributes,
    NewAttributes,
    SharedAttributes,
    attributes_of,
)
from app.api.rest.breadcrumbs import Breadcrumb, breadcrumb
from app.api.rest.context import HierarchiesRead, HierarchiesWrite, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.filters import (
    BOOLEAN,
    ID,
    ID_ALONE,
    INSTANT,
    LOCALE,
    TEXT,
    AttributeKind,
    enum_kind,
)
from app.api.rest.models import (
    IdInPath,
    Relations,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    Timestamp,
    check_same_id,
    optional_field,
)
from app.api.rest.pagination import FilteredListRequest, ListDocument, filtered_list
from app.domain.errors import NotFound
from app.domain.hierarchies import Owner
from app.domain.ids import require_uuid
from app.services import hierarchies as service
from app.storage import hierarchies, tables
from app.storage.ancestors import root_ancestor
from app.storage.engine.transaction import Transaction

router = APIRouter(route_class=RestRoute, tags=["Hierarchies"])

FILTERS: Mapping[str, AttributeKind] = {
    "id": ID,
    "hierarchy_id": ID,
    "parent_id": ID,
    "name": TEXT,
    "slug": TEXT,
    "description": TEXT,
    "owner": enum_kind(Owner),
    "has_children": BOOLEAN,
    "created_at": INSTANT,
    "updated_at": INSTANT,
    f"locales.{LOCALE}.name": TEXT,
    f"locales.{LOCALE}.description": TEXT,
    "breadcrumbs.id": ID_ALONE,
    "breadcrumbs.name": TEXT,
    "breadcrumbs.slug": TEXT,
    f"breadcrumbs.locales.{LOCALE}.name": TEXT,
}
"""Filters of lists of hierarchies and of nodes."""

SORT_ATTRIBUTES: Sequence[str] = ("created_at", "updated_at", "name")
"""Attributes that lists of hierarchies, and of nodes, are sorted by."""


class HierarchyMeta(ResponseModel):
    created_at: Timestamp
    updated_at: Timestamp
    owner: Owner = Field(description="Owner: a single store, or the organization above all stores.")
    breadcrumbs: list[Breadcrumb] = Field(
        description="Path from the root to this object, both included."
    )


class HierarchyRelationships(ResponseModel):
    children: Relations


class HierarchyData(ResponseModel):
    id: UUID
    type: Literal["hierarchy"]
    attributes: SharedAttributes
    relationships: HierarchyRelationships
    meta: HierarchyMeta


class NewHierarchy(RequestModel):
    type: Literal["hierarchy"]
    attributes: NewAttributes


class ChangedHierarchy(RequestModel):
    id: str = optional_field(description="If present, the ID in the path.")
    type: Literal["hierarchy"]
    attributes: ChangedAttributes | None = optional_field()


def hierarchy_data(hierarchy: tables.HierarchyRow) -> HierarchyData:
    """Convert a hierarchy to its resource object."""
    return HierarchyData(
        id=hierarchy.id,
        type="hierarchy",
        attributes=SharedAttributes.of(hierarchy),
        relationships=HierarchyRelationships(
            children=Relations.at("hierarchies", hierarchy.id, "children")
        ),
        meta=HierarchyMeta.of(hierarchy, breadcrumbs=[breadcrumb(root_ancestor(hierarchy))]),
    )


def load_hierarchy(tx: Transaction, store: str, id: str) -> tables.HierarchyRow:
    """Read a hierarchy that the store can see. Raises NotFound."""
    hierarchy = hierarchies.by_id(tx, store, require_uuid("hierarchy", id))
    if hierarchy is None:
        raise NotFound("hierarchy", id)
    return hierarchy


HierarchyListRequest = Annotated[FilteredListRequest, filtered_list(FILTERS, SORT_ATTRIBUTES)]


def _list_hierarchies(tx: Transaction, store: str, list_request: FilteredListRequest) -> Response:
    page = hierarchies.offset_page(
        tx, store, list_request.filter, list_request.sort, list_request.window
    )
    return list_request.response([*map(hierarchy_data, page.rows)], page.total)


@router.get(
    "/hierarchies",
    response_model=ListDocument[HierarchyData],
    summary="Get all hierarchies",
    responses=error_responses(400, 403),
)
async def list_hierarchies(
    context: HierarchiesRead, list_request: HierarchyListRequest
) -> Response:
    """List the hierarchies of the store and of the organization, by default newest first."""
    return await context.scan(_list_hierarchies, context.store, list_request)


@router.post(
    "/hierarchies",
    status_code=201,
    summary="Create a hierarchy",
    responses=error_responses(400, 403, 415, 422),
)
async def create_hierarchy(
    context: HierarchiesWrite, body: RequestDocument[NewHierarchy]
) -> ResponseDocument[HierarchyData]:
    """Create a hierarchy without nodes below its root."""
    hierarchy = await context.write(
        service.create, context.store, attributes_of(body.data.attributes)
    )
    return ResponseDocument(data=hierarchy_data(hierarchy))


@router.get(
    "/hierarchies/{hierarchy_id}",
    summary="Get a hierarchy",
    responses=error_responses(400, 403, 404),
)
async def get_hierarchy(
    context: HierarchiesRead, hierarchy_id: IdInPath
) -> ResponseDocument[HierarchyData]:
    """Get one hierarchy."""
    hierarchy = await context.read(load_hierarchy, context.store, hierarchy_id)
    return ResponseDocument(data=hierarchy_data(hierarchy))


@router.put(
    "/hierarchies/{hierarchy_id}",
    summary="Update a hierarchy",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def update_hierarchy(
    context: HierarchiesWrite, hierarchy_id: IdInPath, body: RequestDocument[ChangedHierarchy]
) -> ResponseDocument[HierarchyData]:
    """Change the attributes in the body; omitted ones stay."""
    check_same_id(body.data.id, hierarchy_id)
    hierarchy = await context.write(
        service.update,
        context.store,
        require_uuid("hierarchy", hierarchy_id),
        attributes_of(body.data.attributes),
    )
    return ResponseDocument(data=hierarchy_data(hierarchy))


@router.delete(
    "/hierarchies/{hierarchy_id}",
    status_code=204,
    summary="Delete a hierarchy",
    responses=error_responses(400, 403, 404),
)
async def delete_hierarchy(context: HierarchiesWrite, hierarchy_id: IdInPath) -> None:
    """Delete a hierarchy with all its nodes."""
    await context.write(service.delete, context.store, require_uuid("hierarchy", hierarchy_id))
