"""Errors of running operations, in the form that clients see.

A mutation reports an expected refusal as a typed error in its payload; a query or a subscription as
a GraphQL error with a code. So is a database that is unavailable or full. Anything else is a bug:
logged with the request id, and reported to the client by that id only. For operations that are not
run at all see `app.api.http.refusals`.
"""

import logging
from collections.abc import Sequence

import strawberry
from graphql import GraphQLError

from app.api.graphql.strawberry_seam import schema_name
from app.api.http.refusals import Refused, report_bug
from app.domain import errors
from app.domain.errors import DomainError
from app.storage.engine.database import DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)

_ARGUMENTS = {"locales": "localizations"}
"""Names of the schema that differ from the domain's."""


def to_graphql(error: GraphQLError, request_id: str) -> None:
    """Change an error, in place, to the form that clients see.

    Errors that graphql-core itself raises have no cause and keep their message.
    """
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    if cause is None:
        error.extensions = {"code": "GRAPHQL_ERROR", **(error.extensions or {})}
    elif isinstance(cause, DomainError):
        error.message = str(cause)
        error.extensions = {"code": cause.code, "argument": schema_path(cause)}
    elif isinstance(cause, DatabaseUnavailable | StorageFull):
        log.warning("request %s was not served: %s", request_id, cause)
        error.message = f"{cause} Try again later; repeat a change with its idempotencyKey."
        error.extensions = {"code": cause.code, "requestId": request_id}
    else:
        shown = report_bug(cause, request_id, error.path)
        error.message, error.extensions = shown["message"], shown["extensions"]
    _drop_tracebacks(error)


class InvalidDocument(Refused):
    """A document or variables that violate the GraphQL specification."""

    def __init__(
        self, code: str, errors: Sequence[GraphQLError], *, status: int | None = None
    ) -> None:
        super().__init__(errors[0].message, code, status=status)
        self.errors = [
            {**error.formatted, "extensions": {**(error.extensions or {}), "code": code}}
            for error in errors
        ]
        for error in errors:
            _drop_tracebacks(error)


def _drop_tracebacks(error: GraphQLError) -> None:
    """Drop the tracebacks of a reported error and of its causes.

    Their frames refer to the operation's inputs and to the error itself: a cycle, which would stay
    in memory until the garbage collector runs.
    """
    pending: list[BaseException | None] = [error]
    dropped: set[int] = set()
    while pending:
        cause = pending.pop()
        # An error that was raised again can be the context of its own context.
        if cause is None or id(cause) in dropped:
            continue
        dropped.add(id(cause))
        cause.__traceback__ = None
        original = cause.original_error if isinstance(cause, GraphQLError) else None
        pending += [cause.__cause__, cause.__context__, original]


@strawberry.interface(
    description="An expected refusal: branch on __typename, show message. "
    "path names the input at fault."
)
class UserError:
    message: str = strawberry.field(description="One sentence for a person.")
    path: list[str] = strawberry.field(
        description="Path to the input at fault, starting with the mutation's argument; empty if "
        "no single input is at fault."
    )


@strawberry.type(description="There is nothing with this id that the caller may see.")
class NotFound(UserError):
    pass


@strawberry.type(description="The caller may see the object, but not change it in this way.")
class Forbidden(UserError):
    pass


@strawberry.type(description="A value that breaks a rule.")
class InvalidInput(UserError):
    pass


def schema_path(error: DomainError) -> list[str]:
    """Return the path to the input at fault in the schema's names.

    Only the first part is converted: the others are keys, indexes, or names of one word.
    """
    if not error.path:
        return []
    name, *inner = error.path
    return [_ARGUMENTS.get(name, schema_name(name)), *inner]


def input_path(error: DomainError) -> list[str]:
    """Return the path to the input at fault, starting with the mutation's argument."""
    return ["input", *schema_path(error)] if error.path else []


def refusal_of(error: DomainError) -> NotFound | Forbidden | InvalidInput:
    """Return the payload error of a refusal that all mutations share. Raises any other error."""
    match error:
        case errors.NotFound():
            return NotFound(message=str(error), path=input_path(error))
        case errors.Forbidden():
            return Forbidden(message=str(error), path=input_path(error))
        case errors.InvalidInput():
            return InvalidInput(message=str(error), path=input_path(error))
    raise error
