"""Refusals and bugs, as clients see them.

An expected refusal of a mutation is a typed error in its payload; of a query or a subscription, a
GraphQL error with a code, as is a database that is away or full. What is refused before it is run
at all is a Refused. Anything else is a bug: logged with the request id, and shown as nothing but
that id.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import strawberry
from graphql import GraphQLError

from app.domain.errors import DomainError
from app.storage.database import DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)


class Refused(Exception):
    """An operation that is not run at all."""

    status = 400
    """The HTTP status."""
    well_formed = True
    """Whether only the document is at fault: application/json then tells it with 200, as ever."""

    def __init__(
        self, message: str, code: str, *, extensions: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.errors: Sequence[Mapping[str, Any]] = [
            {"message": message, "extensions": {"code": code, **(extensions or {})}}
        ]
        self.headers: dict[str, str] = {}


class NotStarted(Refused):
    """A subscription that could not begin: its errors as they are shown."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__(errors[0].message, "")
        self.errors = [error.formatted for error in errors]


class InvalidDocument(Refused):
    """A document, or variables, that the GraphQL specification does not allow."""

    def __init__(self, code: str, errors: Sequence[GraphQLError]) -> None:
        super().__init__(errors[0].message, code)
        self.errors = [
            {**error.formatted, "extensions": {**(error.extensions or {}), "code": code}}
            for error in errors
        ]


class BadRequest(Refused):
    """A request that is none, before any GraphQL of it is looked at."""

    well_formed = False

    def __init__(
        self,
        message: str,
        code: str = "BAD_REQUEST",
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code, extensions=extensions)
        self.status = status
        self.headers = dict(headers or {})


class Unauthenticated(BadRequest):
    """A request that does not say who sends it, or not so that it can be believed."""

    def __init__(self, message: str, *, given: bool = True) -> None:
        # RFC 6750, 3: an error is named only where there was a token.
        challenge = 'Bearer error="invalid_token"' if given else "Bearer"
        super().__init__(message, "UNAUTHENTICATED", 401, {"WWW-Authenticate": challenge})


class NotPermitted(Refused):
    """An operation that needs more than its caller's token allows."""

    status = 403
    well_formed = False

    def __init__(self, message: str, needed: Sequence[str]) -> None:
        super().__init__(message, "FORBIDDEN", extensions={"scopes": list(needed)})


class TimedOut(Refused):
    """An operation that took longer than it may."""

    status = 503

    def __init__(self, limit: float, found: float) -> None:
        super().__init__(
            f"The operation took longer than {limit:g} seconds. If it was a change it may have "
            "been made: repeat it with its idempotencyKey.",
            "EXECUTION_TIME_LIMIT_EXCEEDED",
            extensions={"limit": limit, "found": round(found, 3)},
        )


def to_graphql(error: GraphQLError, request_id: str) -> None:
    """Give an error the form a client may see. Errors in the document itself have it already."""
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    if cause is None:
        error.extensions = {"code": "GRAPHQL_ERROR", **(error.extensions or {})}
    elif isinstance(cause, DomainError):
        error.message = str(cause)
        error.extensions = {"code": cause.code, "argument": list(cause.path)}
    elif isinstance(cause, DatabaseUnavailable | StorageFull):
        log.warning("request %s was not served: %s", request_id, cause)
        error.message = f"{cause} Try again later; repeat a change with its idempotencyKey."
        code = "STORAGE_FULL" if isinstance(cause, StorageFull) else "DATABASE_UNAVAILABLE"
        error.extensions = {"code": code, "requestId": request_id}
    else:
        shown = bug(cause, request_id, error.path)
        error.message, error.extensions = shown["message"], shown["extensions"]


def bug(
    cause: Exception, request_id: str, path: Sequence[str | int] | None = None
) -> dict[str, Any]:
    """What a client sees of something that nobody foresaw; the log has the rest."""
    log.error("request %s broke at %s", request_id, path, exc_info=cause)
    return {
        "message": "Internal Server Error",
        "extensions": {"code": "INTERNAL_SERVER_ERROR", "requestId": request_id},
    }


@strawberry.interface(
    description="An expected refusal: branch on __typename, show message. "
    "path names the input at fault."
)
class UserError:
    message: str = strawberry.field(description="One sentence for a person.")
    path: list[str] = strawberry.field(
        description="The way to the input at fault, from the mutation's argument down; "
        "empty when no single input is."
    )


@strawberry.type(description="Nothing by that id that the caller may see.")
class NotFound(UserError):
    pass


@strawberry.type(description="The caller may see it, but not do this with it.")
class Forbidden(UserError):
    pass


@strawberry.type(description="A value that breaks a rule.")
class InvalidInput(UserError):
    pass


def input_path(error: DomainError) -> list[str]:
    """Where the fault lies, from the mutation's argument down."""
    return ["input", *error.path] if error.path else []
