"""Refusals and bugs as JSON:API errors.

Source: the responses 400 to 500 of the two reference documents, and domain.md, "REST shapes".
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TypedDict, Unpack

from fastapi.exceptions import RequestValidationError
from pydantic import Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api.http.refusals import Refused, report_bug
from app.api.rest.models import ResponseModel, optional_field
from app.domain.answers import AnswerTooLarge
from app.domain.errors import DomainError, Empty, Forbidden, NotFound, SomeNotFound
from app.domain.stores import OwnedByOrganization
from app.storage.engine.database import DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)

REST_NAMES = {
    "curated_product_ids": "curated_products",
    "parent_id": "parent",
    "product_ids": "data",
    "idempotency_key": "Idempotency-Key",
}
"""REST names of inputs that have another name in the domain."""

_BODY_FIELDS = {
    "name",
    "description",
    "slug",
    "locales",
    "admin_attributes",
    "shopper_attributes",
    "sort_order",
    *REST_NAMES,
}

TITLES = {404: "Not Found", 422: "Failed Validation", 500: "Internal Server Error"}
COMMON_STATUSES = (401, 408, 413, 429, 500, 503)
MAX_ERRORS = 10


class ErrorMeta(ResponseModel):
    missing_ids: list[str] = Field(
        description="The unknown IDs of a request that names several objects."
    )


class Error(ResponseModel):
    """One reason for a refusal."""

    status: str = Field(description="HTTP status code.", examples=["422"])
    title: str = Field(description="Short summary of the status.")
    detail: str = optional_field(description="The fault and the field at fault.")
    request_id: str = optional_field(description="ID of the request, for a bug report.")
    meta: ErrorMeta = optional_field()


class Errors(ResponseModel):
    """Reasons for a refusal. Nothing was changed."""

    errors: list[Error]


class _OtherFields(TypedDict, total=False):
    request_id: str
    meta: ErrorMeta


def error_responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """OpenAPI error responses: these statuses plus the common ones."""
    return {
        status: {"model": Errors, "description": _title(status)}
        for status in sorted({*statuses, *COMMON_STATUSES})
    }


def error_response(
    status: int,
    details: Sequence[str | None] = (None,),
    headers: Mapping[str, str] | None = None,
    **fields: Unpack[_OtherFields],
) -> Response:
    """Build a response with one error per detail, each with the same other `fields`."""
    title = _title(status)
    errors = [
        Error(
            status=str(status),
            title=title,
            **({} if detail is None else {"detail": detail}),
            **fields,
        )
        for detail in details
    ]
    content = Errors(errors=errors).model_dump_json(exclude_unset=True)
    return Response(content, status, headers, "application/json")


def to_response(request: Request, error: Exception) -> Response:
    """Build the response of a request that raised `error`; log it if it is a bug."""
    match error:
        case Refused():
            details = [str(refusal["message"]) for refusal in error.errors]
            return error_response(error.status, details, error.headers)
        case AnswerTooLarge():
            return error_response(400, [str(error)])
        case SomeNotFound():
            return error_response(404, meta=ErrorMeta(missing_ids=list(error.ids)))
        case NotFound(path=("parent_id",)):
            return error_response(404, meta=ErrorMeta(missing_ids=[error.id]))
        case NotFound():
            return error_response(404)
        case OwnedByOrganization():
            return error_response(403, ["entity owned by organization"])
        case Forbidden():
            return error_response(403, [str(error)])
        case Empty():
            return error_response(422, [f"{_field(error.path)} can not be empty"])
        case DomainError():
            in_body = error.path and error.path[0] in _BODY_FIELDS
            prefix = f"{_field(error.path)}: " if in_body else ""
            return error_response(422, [f"{prefix}{error}"])
        case RequestValidationError():
            return _validation_response(error)
        case HTTPException():
            return error_response(error.status_code, headers=error.headers)
        case DatabaseUnavailable() | StorageFull():
            log.warning("request %s was not served: %s", request.state.request_id, error)
            return error_response(503, [f"{error} Try again later."])
    report_bug(error, request.state.request_id)
    return error_response(
        500,
        ["There was an internal server error, you can report with your request id."],
        request_id=request.state.request_id,
    )


def _title(status: int) -> str:
    return TITLES.get(status) or HTTPStatus(status).phrase


def _field(path: Sequence[str]) -> str:
    """Name an input. Only the first part of its path can have another name here."""
    name, *inner = path
    return ".".join([REST_NAMES.get(name, name), *inner])


def _validation_response(error: RequestValidationError) -> Response:
    """Return 400 for invalid parameters or JSON, 422 for invalid fields of a body."""
    faults = error.errors()[:MAX_ERRORS]
    if any(fault["type"] == "json_invalid" for fault in faults):
        return error_response(400, [f"The body is not JSON: {faults[0]['ctx']['error']}."])
    if any(fault["loc"][0] != "body" for fault in faults):
        return error_response(400, [f"{fault['loc'][-1]}: {fault['msg']}." for fault in faults])
    return error_response(422, [_validation_detail(fault) for fault in faults])


def _validation_detail(fault: ErrorDetails) -> str:
    path = [part for part in fault["loc"] if part not in ("body", "data", "attributes")]
    field = ".".join(map(str, path or fault["loc"][-1:]))
    empty = fault["type"] == "missing" or fault["input"] in (None, "")
    return f"{field} can not be empty" if empty else f"{field}: {fault['msg']}"
