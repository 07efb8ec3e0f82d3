"""Attributes whose keys clients choose."""

from collections.abc import Mapping
from typing import NamedTuple

import strawberry


@strawberry.type(description="Custom attribute: a text under a key that the client chose.")
class CustomAttribute:
    key: str = strawberry.field(description="Key, unique in its list.")
    value: str = strawberry.field(description="Text.")


class CustomAttributeRow(NamedTuple):
    """The row from which a CustomAttribute is resolved."""

    key: str
    value: str


def custom_attribute_rows(attributes: Mapping[str, str] | None) -> list[CustomAttributeRow]:
    """Convert stored attributes to rows, sorted by key."""
    return [CustomAttributeRow(key, value) for key, value in sorted((attributes or {}).items())]
