"""Errors of running operations."""

from graphql import GraphQLError

from app.api.graphql.errors import to_graphql
from app.domain.errors import InvalidInput


def test_no_traceback_of_a_reported_error_or_of_its_causes_is_kept() -> None:
    cause = InvalidInput("Bad.", ("first",))
    try:
        try:
            raise ValueError
        except ValueError:
            raise GraphQLError("Bad.", original_error=cause) from None
    except GraphQLError as error:
        reported = error
    try:
        raise cause
    except InvalidInput:
        # In a ring: the error is its cause's context.
        cause.__context__ = reported
    context = reported.__context__
    assert cause.__traceback__
    assert context
    assert context.__traceback__
    to_graphql(reported, "a request")
    assert [error.__traceback__ for error in (reported, cause, context)] == [None] * 3
