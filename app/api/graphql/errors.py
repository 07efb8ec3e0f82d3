"""Refusals and bugs, as clients see them.

An expected refusal of a mutation is a typed error in its payload; of a query or a subscription, a
GraphQL error with a code, as is a database that is away or full. Anything else is a bug: logged
with the request id, and shown as nothing but that id. What is not run at all is in refusals.
"""

import logging
from collections.abc import Sequence

import strawberry
from graphql import GraphQLError

from app.api.http.refusals import Refused, bug
from app.domain import errors
from app.domain.errors import DomainError
from app.storage.engine.database import DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)


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


class InvalidDocument(Refused):
    """A document, or variables, that the GraphQL specification does not allow."""

    def __init__(self, code: str, errors: Sequence[GraphQLError]) -> None:
        super().__init__(errors[0].message, code)
        self.errors = [
            {**error.formatted, "extensions": {**(error.extensions or {}), "code": code}}
            for error in errors
        ]


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


def refusal_of(error: DomainError) -> NotFound | Forbidden | InvalidInput:
    """The payload error of a refusal that all mutations share; any other is raised again."""
    match error:
        case errors.NotFound():
            return NotFound(message=str(error), path=input_path(error))
        case errors.Forbidden():
            return Forbidden(message=str(error), path=input_path(error))
        case errors.InvalidInput():
            return InvalidInput(message=str(error), path=input_path(error))
    raise error
