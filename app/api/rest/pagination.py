"""Lists: the part that is asked for, and the links that lead on from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from pydantic import Field

from app.api.http.refusals import BadRequest
from app.api.rest.filters import FILTER_BYTES, MAX_CONDITIONS, Kind, Unreadable, parse
from app.api.rest.models import ResponseModel
from app.domain.filters import Conditions
from app.storage.sql.keyset import Order
from app.storage.sql.offset import OffsetPage, OffsetWindow

DataT = TypeVar("DataT")
RowT = TypeVar("RowT")

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
MAX_OFFSET = 2**31 - 1 - MAX_LIMIT
"""Where a page may begin: with its rows it is counted in 32 bits."""


class Links(ResponseModel):
    """Paths of pages of the same size of the same list."""

    first: str
    last: str
    next: str | None = Field(description="Null on the last page.")
    prev: str | None = Field(description="Null on the first page.")


class ListTotals(ResponseModel):
    total: int = Field(description="How many there are on all pages.")


class ListMeta(ResponseModel):
    results: ListTotals


class ListDocument(ResponseModel, Generic[DataT]):
    """A page of a list."""

    data: list[DataT]
    links: Links
    meta: ListMeta


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The part of a list that is asked for."""

    request: Request
    span: OffsetWindow

    def document(
        self, found: OffsetPage[RowT], shown: Callable[[RowT], DataT]
    ) -> ListDocument[DataT]:
        """The page with these rows."""
        return ListDocument(
            data=[shown(row) for row in found.rows],
            links=self._links(found.total),
            meta=ListMeta(results=ListTotals(total=found.total)),
        )

    def _links(self, total: int) -> Links:
        offset, limit = self.span
        last = max(0, total - 1) // limit * limit
        return Links(
            first=self._at(0),
            last=self._at(last),
            next=self._at(offset + limit) if offset + limit < total else None,
            prev=self._at(max(0, min(offset - limit, last))) if offset else None,
        )

    def _at(self, offset: int) -> str:
        place = {"page[offset]": offset, "page[limit]": self.span.limit}
        others = {
            name: value for name, value in self.request.query_params.items() if name not in place
        }
        query = urlencode({**others, **place}, safe="[]():,*-")
        return f"{self.request.url.path}?{query}"


@dataclass(frozen=True, slots=True)
class FilteredListRequest(ListRequest):
    """The part of a list of what meets conditions, in an order."""

    filter: Conditions
    order: Order


Offset = Annotated[
    int,
    Query(
        alias="page[offset]",
        ge=0,
        le=MAX_OFFSET,
        description="How many to pass over; 0 by default.",
    ),
]
Limit = Annotated[
    int,
    Query(
        alias="page[limit]",
        ge=1,
        le=MAX_LIMIT,
        description=f"How many to show, 1 to {MAX_LIMIT}; {DEFAULT_LIMIT} by default.",
    ),
]


def _part(request: Request, offset: Offset = 0, limit: Limit = DEFAULT_LIMIT) -> ListRequest:
    _check_names(request, "page[offset]", "page[limit]")
    return ListRequest(request, OffsetWindow(offset, limit))


Paged = Annotated[ListRequest, Depends(_part)]


def filtered(attributes: Mapping[str, Kind], orders: Mapping[str, Order], default: Order) -> Any:
    """The part of a list that can be filtered by these attributes and sorted in these orders."""
    described = (
        f"At most {MAX_CONDITIONS} conditions and {FILTER_BYTES:,} bytes, joined by a colon, on "
        f"{', '.join(attributes)}: eq, in, like (texts; * stands for anything), lt, le, gt, ge "
        "(instants). What cannot be read is refused with 400."
    )
    sorts = [*orders, *(f"-{name}" for name in orders)]

    def part(
        request: Request,
        offset: Offset = 0,
        limit: Limit = DEFAULT_LIMIT,
        filter: Annotated[
            str | None,
            Query(description=described, examples=["eq(name,Garden):gt(created_at,2024-01-11)"]),
        ] = None,
        sort: Annotated[
            str | None,
            Query(
                description="By what, with - in front the other way round.",
                json_schema_extra={"enum": sorts},
            ),
        ] = None,
    ) -> FilteredListRequest:
        _check_names(request, "page[offset]", "page[limit]", "filter", "sort")
        if sort is not None and sort not in sorts:
            raise BadRequest(
                f"Could not parse the supplied sort: it is none of {', '.join(sorts)}."
            )
        order = default if sort is None else orders[sort.removeprefix("-")]
        if sort and sort.startswith("-"):
            order = tuple(column._replace(descending=not column.descending) for column in order)
        conditions = () if filter is None else parse(filter, attributes)
        return FilteredListRequest(request, OffsetWindow(offset, limit), conditions, order)

    return Depends(part)


def without_filter(request: Request) -> None:
    """A filter is never passed over: here is nothing that it could be asked of. Raises
    Unreadable."""
    if "filter" in request.query_params:
        raise Unreadable


def _check_names(request: Request, *known: str) -> None:
    """Raises BadRequest for a parameter that asks for another part than would be shown."""
    names: Sequence[str] = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known and name.startswith(("page", "filter", "sort")):
            raise BadRequest(f"This list has no parameter {name}.")
        if name in known and names.count(name) > 1:
            raise BadRequest(f"{name} is there more than once.")
