"""Refusals and bugs as JSON:API errors.

Source: the answers 400 to 500 of the two reference documents, and domain.md, "REST shapes".
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api.http.refusals import Refused, bug
from app.api.rest.models import ResponseModel, left_out
from app.domain.errors import DomainError, Empty, Forbidden, NotFound, SomeNotFound
from app.domain.stores import OwnedByOrganization
from app.storage.engine.database import DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)

FIELDS = {
    "localizations": "locales",
    "sortOrder": "sort_order",
    "curatedProductIds": "curated_products",
    "parentId": "parent",
    "productIds": "data",
    "idempotencyKey": "Idempotency-Key",
}
"""What documents call the inputs that GraphQL has under another name."""

TITLES = {404: "Not Found", 422: "Failed Validation", 500: "Internal Server Error"}
ALL = (401, 408, 413, 429, 500, 503)
MAX_ERRORS = 10


class ErrorMeta(ResponseModel):
    missing_ids: list[str] = Field(description="The unknown ids of a request that names several.")


class Error(ResponseModel):
    """Why a request was refused."""

    status: str = Field(description="The HTTP response code.", examples=["422"])
    title: str = Field(description="A brief summary.")
    detail: str = left_out(description="What is wrong, and where.")
    request_id: str = left_out(description="What to report a broken request by.")
    meta: ErrorMeta = left_out()


class Errors(ResponseModel):
    """Why a request was refused. Nothing was changed."""

    errors: list[Error]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an endpoint is described to answer besides what it does: these, and what all may."""
    return {
        status: {"model": Errors, "description": _title(status)}
        for status in sorted({*statuses, *ALL})
    }


def refused(
    status: int,
    details: Sequence[str | None] = (None,),
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """The answer to a request that is refused, an error for each detail."""
    title = _title(status)
    said = [{} if detail is None else {"detail": detail} for detail in details]
    errors = Errors(errors=[Error(status=str(status), title=title, **one, **more) for one in said])
    return Response(errors.model_dump_json(exclude_unset=True), status, headers, "application/json")


def to_response(request: Request, error: Exception) -> Response:
    """The answer to a request that ended with an error, foreseen or not."""
    match error:
        case Refused():
            details = [str(one["message"]) for one in error.errors]
            return refused(error.status, details, error.headers)
        case SomeNotFound():
            return refused(404, meta=ErrorMeta(missing_ids=list(error.ids)))
        case NotFound(path=("parentId",)):
            return refused(404, meta=ErrorMeta(missing_ids=[error.id]))
        case NotFound():
            return refused(404)
        case OwnedByOrganization():
            return refused(403, ["entity owned by organization"])
        case Forbidden():
            return refused(403, [str(error)])
        case Empty():
            return refused(422, [f"{_field(error.path)} can not be empty"])
        case DomainError():
            where = f"{_field(error.path)}: " if error.path and error.path[0] in _BODY else ""
            return refused(422, [f"{where}{error}"])
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return refused(error.status_code, headers=error.headers)
        case DatabaseUnavailable() | StorageFull():
            log.warning("request %s was not served: %s", request.state.request_id, error)
            return refused(503, [f"{error} Try again later."])
    bug(error, request.state.request_id)
    return refused(
        500,
        ["There was an internal server error, you can report with your request id."],
        request_id=request.state.request_id,
    )


def _title(status: int) -> str:
    return TITLES.get(status) or HTTPStatus(status).phrase


_BODY = {"name", "description", "slug", *FIELDS}


def _field(path: Sequence[object]) -> str:
    return ".".join(FIELDS.get(str(part), str(part)) for part in path)


def _invalid(error: RequestValidationError) -> Response:
    """400 for parameters and for a body that is no JSON, 422 for what a body says."""
    found = error.errors()[:MAX_ERRORS]
    if any(one["type"] == "json_invalid" for one in found):
        return refused(400, [f"The body is not JSON: {found[0]['ctx']['error']}."])
    if any(one["loc"][0] != "body" for one in found):
        return refused(400, [f"{one['loc'][-1]}: {one['msg']}." for one in found])
    return refused(422, [_said(one) for one in found])


def _said(error: Mapping[str, Any]) -> str:
    place = [part for part in error["loc"] if part not in ("body", "data", "attributes")]
    field = _field(place or error["loc"][-1:])
    empty = error["type"] == "missing" or error["input"] in (None, "")
    return f"{field} can not be empty" if empty else f"{field}: {error['msg']}"
