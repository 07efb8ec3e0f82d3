"""Scalars, and enums of the domain with their descriptions."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TypeVar

import strawberry
from graphql import GraphQLError

from app.domain.instants import instant_of, instant_text

EnumT = TypeVar("EnumT", bound=Enum)


def _parse(text: object) -> datetime:
    try:
        return instant_of(str(text))
    except (ValueError, OverflowError):
        raise GraphQLError(f"{text!r} is not an RFC 3339 instant.") from None


DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="An RFC 3339 instant in UTC, milliseconds and Z: 2024-01-11T22:49:10.338Z. "
    "Read leniently: any offset, any number of digits, UTC where no offset is given.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time.html",
    serialize=instant_text,
    parse_value=_parse,
)


def describe(enum: type[EnumT], description: str, values: Mapping[EnumT, str]) -> None:
    """Make a domain enum a GraphQL enum that explains itself and each of its values."""
    described = strawberry.enum(enum, description=description)
    for value in described.__strawberry_definition__.values:  # type: ignore[attr-defined]
        value.description = values[enum[value.name]]
