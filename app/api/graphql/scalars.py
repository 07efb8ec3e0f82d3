"""The DateTime scalar, and domain enums as GraphQL enums."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TypeVar

import strawberry
from graphql import GraphQLError

from app.api.graphql.strawberry_seam import describe_values
from app.domain.instants import INSTANT_SYNTAX, format_instant, parse_instant

EnumT = TypeVar("EnumT", bound=Enum)


def _parse(text: object) -> datetime:
    try:
        return parse_instant(str(text))
    except ValueError:
        raise GraphQLError(f"{text!r} is not {INSTANT_SYNTAX}.") from None


DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="An RFC 3339 instant in UTC with milliseconds: 2024-01-11T22:49:10.338Z. "
    "Input may have any offset and any number of digits; without an offset it is UTC, and a date "
    "is its first instant. Other forms of ISO 8601 are refused.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time.html",
    serialize=format_instant,
    parse_value=_parse,
)


def describe_enum(enum: type[EnumT], description: str, values: Mapping[EnumT, str]) -> None:
    """Declare a domain enum as a GraphQL enum with a description of it and of each value."""
    describe_values(strawberry.enum(enum, description=description), values)
