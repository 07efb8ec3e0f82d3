"""Hierarchies. Source: domain.md, "REST endpoints and statuses"."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field
from sqlmodel import Session, col

from app.api.rest.context import Endpoint, HierarchiesRead, HierarchiesWrite
from app.api.rest.errors import refusals
from app.api.rest.filters import ID, INSTANT, TEXT, Kind, one_of
from app.api.rest.models import (
    STATED_FIELDS,
    IdInPath,
    LocaleAttributes,
    Relations,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    StrictRequestModel,
    Timestamp,
    left_out,
)
from app.api.rest.pagination import FilteredListRequest, ListDocument, filtered
from app.domain.attributes import NAME_LIMIT, SLUG_LIMIT, Attributes
from app.domain.errors import InvalidInput, NotFound
from app.domain.hierarchies import Owner
from app.domain.ids import known_uuid, uuid_of
from app.services import hierarchies as service
from app.storage import hierarchies, tables
from app.storage.sql.keyset import OrderBy

router = APIRouter(route_class=Endpoint, tags=["HierarchyListRequest"])

FILTERS: Mapping[str, Kind] = {
    "id": ID,
    "name": TEXT,
    "slug": TEXT,
    "description": TEXT,
    "owner": one_of(Owner),
    "created_at": INSTANT,
    "updated_at": INSTANT,
}


class SharedAttributes(ResponseModel):
    """What hierarchies and nodes alike say of themselves."""

    name: str
    description: str | None
    slug: str | None
    locales: dict[str, dict[str, str]] = Field(
        description="By language tag, what it says in place of the default: name, description."
    )


class HierarchyMeta(ResponseModel):
    created_at: Timestamp
    updated_at: Timestamp
    owner: Owner = Field(description="Whose it is: one store's, or the organization's.")


class HierarchyRelationships(ResponseModel):
    children: Relations


class HierarchyData(ResponseModel):
    id: UUID
    type: Literal["hierarchy"]
    attributes: SharedAttributes
    relationships: HierarchyRelationships
    meta: HierarchyMeta


class NewAttributes(StrictRequestModel):
    """What hierarchies and nodes alike are made with."""

    name: str = Field(max_length=NAME_LIMIT, json_schema_extra={**STATED_FIELDS})
    description: str | None = left_out(description="An empty one is none.")
    slug: str | None = left_out(STATED_FIELDS, max_length=SLUG_LIMIT)
    locales: dict[str, LocaleAttributes] | None = left_out(
        description="By language tag, such as fr-FR; at most 100."
    )


class ChangedAttributes(NewAttributes):
    """What is left out stays; null clears what can be null."""

    name: str = left_out(STATED_FIELDS, max_length=NAME_LIMIT)


class NewHierarchy(RequestModel):
    type: Literal["hierarchy"]
    attributes: NewAttributes


class ChangedHierarchy(RequestModel):
    id: str = left_out(description="The one in the path, where it is given.")
    type: Literal["hierarchy"]
    attributes: ChangedAttributes = Field(default_factory=ChangedAttributes)


def given(attributes: NewAttributes) -> Any:
    """The attributes of a request as the domain has them."""
    return attributes.model_dump(exclude_unset=True)


def check_id(given: str | None, path: str) -> None:
    """Raises InvalidInput when a document has another id than its path."""
    if given is not None and (uuid_of(given) is None or uuid_of(given) != uuid_of(path)):
        raise InvalidInput(f"id: {given} is not the id in the path, {path}.")


def hierarchy_data(hierarchy: tables.Hierarchy) -> HierarchyData:
    """The hierarchy as the wire has it."""
    return HierarchyData(
        id=hierarchy.id,
        type="hierarchy",
        attributes=SharedAttributes.model_validate(hierarchy, from_attributes=True),
        relationships=HierarchyRelationships(
            children=Relations.at("hierarchies", hierarchy.id, "children")
        ),
        meta=HierarchyMeta.model_validate(hierarchy, from_attributes=True),
    )


def found_hierarchy(session: Session, store: str, id: str) -> tables.Hierarchy:
    """The visible hierarchy of that id. Raises NotFound."""
    hierarchy = hierarchies.by_id(session, store, known_uuid("hierarchy", id))
    if hierarchy is None:
        raise NotFound("hierarchy", id)
    return hierarchy


_CREATED = OrderBy(col(tables.Hierarchy.created_at)), OrderBy(col(tables.Hierarchy.id))
HierarchyListRequest = Annotated[
    FilteredListRequest,
    filtered(
        FILTERS,
        {
            "created_at": _CREATED,
            "updated_at": (OrderBy(col(tables.Hierarchy.updated_at)), *_CREATED),
            "name": (OrderBy(col(tables.Hierarchy.name)), *_CREATED),
        },
        hierarchies.NEWEST_FIRST,
    ),
]


@router.get(
    "/hierarchies",
    summary="Get all hierarchies",
    responses=refusals(400, 403),
)
async def list_hierarchies(
    asking: HierarchiesRead, part: HierarchyListRequest
) -> ListDocument[HierarchyData]:
    """The store's hierarchies and the organization's, newest first."""
    found = await asking.scan(hierarchies.span, asking.store, part.filter, part.order, part.span)
    return part.document(found, hierarchy_data)


@router.post(
    "/hierarchies",
    status_code=201,
    summary="Create a hierarchy",
    responses=refusals(400, 403, 415, 422),
)
async def create_hierarchy(
    asking: HierarchiesWrite, body: RequestDocument[NewHierarchy]
) -> ResponseDocument[HierarchyData]:
    """Makes a hierarchy with nothing below its root."""
    wanted = cast(Attributes, given(body.data.attributes))
    return ResponseDocument(
        data=hierarchy_data(await asking.write(service.create, asking.store, wanted))
    )


@router.get(
    "/hierarchies/{hierarchy_id}",
    summary="Get a hierarchy",
    responses=refusals(400, 403, 404),
)
async def get_hierarchy(
    asking: HierarchiesRead, hierarchy_id: IdInPath
) -> ResponseDocument[HierarchyData]:
    """One hierarchy."""
    found = await asking.read(found_hierarchy, asking.store, hierarchy_id)
    return ResponseDocument(data=hierarchy_data(found))


@router.put(
    "/hierarchies/{hierarchy_id}",
    summary="Update a hierarchy",
    responses=refusals(400, 403, 404, 415, 422),
)
async def update_hierarchy(
    asking: HierarchiesWrite, hierarchy_id: IdInPath, body: RequestDocument[ChangedHierarchy]
) -> ResponseDocument[HierarchyData]:
    """Changes what is given of it."""
    check_id(body.data.id, hierarchy_id)
    updated = await asking.write(
        service.update,
        asking.store,
        known_uuid("hierarchy", hierarchy_id),
        cast(Attributes, given(body.data.attributes)),
    )
    return ResponseDocument(data=hierarchy_data(updated))


@router.delete(
    "/hierarchies/{hierarchy_id}",
    status_code=204,
    summary="Delete a hierarchy",
    responses=refusals(400, 403, 404),
)
async def delete_hierarchy(asking: HierarchiesWrite, hierarchy_id: IdInPath) -> None:
    """Deletes it with all its nodes."""
    await asking.write(service.delete, asking.store, known_uuid("hierarchy", hierarchy_id))
