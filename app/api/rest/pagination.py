"""Offset pagination of lists: parameters, filters, sort orders and links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from pydantic import Field

from app.api.http.refusals import BadRequest
from app.api.rest.filters import (
    MAX_CONDITIONS,
    MAX_FILTER_BYTES,
    MAX_VALUES,
    AttributeKind,
    InvalidFilter,
    parse_filter,
)
from app.api.rest.models import ResponseModel, optional_field
from app.domain.filters import Conditions, Sort
from app.storage.sql.offset import OffsetWindow

DataT = TypeVar("DataT")

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
MAX_OFFSET = 2**31 - 1 - MAX_LIMIT
"""Offset plus limit must fit into 32 bits."""


class Links(ResponseModel):
    """Paths of this and other pages of the same list and page size."""

    current: str
    first: str
    last: str = optional_field(
        description="Absent on the last page: clients read pages until it is absent."
    )
    next: str = optional_field(description="Absent on the last page.")
    prev: str = optional_field(description="Absent on the first page.")


class ListTotals(ResponseModel):
    total: int = Field(description="Number of rows on all pages.")


class ListMeta(ResponseModel):
    results: ListTotals


class ListDocument(ResponseModel, Generic[DataT]):
    """A page of a list."""

    data: list[DataT]
    links: Links
    meta: ListMeta


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The requested page of a list."""

    request: Request
    window: OffsetWindow

    def document(self, data: list[DataT], total: int) -> ListDocument[DataT]:
        """Build the response with the page's data and links. `total` is the list's length."""
        return ListDocument(
            data=data,
            links=self._links(total),
            meta=ListMeta(results=ListTotals(total=total)),
        )

    def response(self, data: Sequence[ResponseModel], total: int) -> Response:
        """Build the response as bytes, row by row: a thread that does so yields to others.

        FastAPI would encode it on the event loop.
        """
        document: ListDocument[object] = self.document([], total)
        rows = ",".join(row.model_dump_json(exclude_unset=True) for row in data)
        rest = document.model_dump_json(exclude_unset=True, exclude={"data"})
        return Response(f'{{"data":[{rows}],{rest[1:]}', media_type="application/json")

    def _links(self, total: int) -> Links:
        offset, limit = self.window
        # A page without rows has no next one: its link would be followed forever.
        limit = limit or max(1, total)
        last = max(0, total - 1) // limit * limit
        links = {"current": offset, "first": 0}
        if offset + limit < total:
            links |= {"last": last, "next": offset + limit}
        if offset:
            links["prev"] = max(0, min(offset - limit, last))
        return Links.model_validate({name: self._path(to) for name, to in links.items()})

    def _path(self, offset: int) -> str:
        page = {"page[offset]": offset, "page[limit]": self.window.limit}
        others = {
            name: value for name, value in self.request.query_params.items() if name not in page
        }
        query = urlencode({**others, **page}, safe="[]():,*-")
        return f"{self.request.url.path}?{query}"


@dataclass(frozen=True, slots=True)
class FilteredListRequest(ListRequest):
    """The requested page of a filtered and sorted list."""

    filter: Conditions
    sort: Sort | None
    """None for the default order of the list."""


Offset = Annotated[
    int,
    Query(
        alias="page[offset]",
        ge=0,
        le=MAX_OFFSET,
        description="Number of rows to skip. Default: 0.",
    ),
]
Limit = Annotated[
    int,
    Query(
        alias="page[limit]",
        ge=0,
        le=MAX_LIMIT,
        description=f"Number of rows to return, 0 to {MAX_LIMIT}; 0 returns only the total. "
        f"Default: {DEFAULT_LIMIT}.",
    ),
]


def _list_request(
    request: Request, offset: Offset = 0, limit: Limit = DEFAULT_LIMIT
) -> ListRequest:
    _check_parameters(request, "page[offset]", "page[limit]")
    return ListRequest(request, OffsetWindow(offset, limit))


PagedListRequest = Annotated[ListRequest, Depends(_list_request)]


def filtered_list(
    attributes: Mapping[str, AttributeKind], sort_attributes: Sequence[str]
) -> object:
    """Dependency for a list that is filtered by `attributes` and sorted by `sort_attributes`."""
    syntax = (
        f"At most {MAX_CONDITIONS} conditions, joined by colons, and {MAX_FILTER_BYTES:,} bytes. "
        f"Attributes: {', '.join(attributes)}. Operators: eq, in (at most {MAX_VALUES} values), "
        "like, ilike (texts; * stands for any characters, and ilike ignores case), lt, le, gt, ge "
        "(timestamps). An invalid filter is refused with 400."
    )
    sorts = {name: Sort(name) for name in sort_attributes} | {
        f"-{name}": Sort(name, descending=True) for name in sort_attributes
    }

    def list_request(
        request: Request,
        offset: Offset = 0,
        limit: Limit = DEFAULT_LIMIT,
        filter: Annotated[
            str | None,
            Query(description=syntax, examples=["eq(name,Garden):gt(created_at,2024-01-11)"]),
        ] = None,
        sort: Annotated[
            str | None,
            Query(
                description="Attribute to sort by; a leading - reverses the order.",
                json_schema_extra={"enum": list(sorts)},
            ),
        ] = None,
    ) -> FilteredListRequest:
        _check_parameters(request, "page[offset]", "page[limit]", "filter", "sort")
        if sort is not None and sort not in sorts:
            raise BadRequest(
                f"Could not parse the supplied sort: it is not one of {', '.join(sorts)}."
            )
        conditions = () if filter is None else parse_filter(filter, attributes)
        return FilteredListRequest(
            request, OffsetWindow(offset, limit), conditions, sorts[sort] if sort else None
        )

    return Depends(list_request)


def refuse_filter(request: Request) -> None:
    """Raise InvalidFilter if an endpoint that is no list gets a filter, which it would ignore."""
    if "filter" in request.query_params:
        raise InvalidFilter


def _check_parameters(request: Request, *known: str) -> None:
    """Raise BadRequest for a page, filter or sort parameter that is unknown or repeated.

    If it were ignored, the response would have other rows than the client expects.
    """
    names: Sequence[str] = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known and name.startswith(("page", "filter", "sort")):
            raise BadRequest(f"This list has no parameter {name}.")
        if name in known and names.count(name) > 1:
            raise BadRequest(f"The parameter {name} is repeated.")
