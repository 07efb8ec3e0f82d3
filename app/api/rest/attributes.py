"""Attributes of hierarchies and nodes. Source: domain.md, "Hierarchy"."""

from typing import cast

from pydantic import Field

from app.api.rest.models import NOT_BLANK, ResponseModel, StrictRequestModel, optional_field
from app.domain.attributes import MAX_TRANSLATIONS, NAME_LIMIT, SLUG_LIMIT, Attributes


class SharedAttributes(ResponseModel):
    """Attributes shared by hierarchies and nodes."""

    name: str
    description: str | None
    slug: str | None
    locales: dict[str, dict[str, str]] = Field(
        description="Translations by language tag: name, description or both."
    )


class LocaleAttributes(StrictRequestModel):
    """Translation into one locale: name, description or both."""

    name: str = optional_field(NOT_BLANK, max_length=NAME_LIMIT)
    description: str = optional_field()


class NewAttributes(StrictRequestModel):
    """Attributes of a new hierarchy or node."""

    name: str = Field(max_length=NAME_LIMIT, json_schema_extra={**NOT_BLANK})
    description: str | None = optional_field(description="An empty text counts as null.")
    slug: str | None = optional_field(NOT_BLANK, max_length=SLUG_LIMIT)
    locales: dict[str, LocaleAttributes] | None = optional_field(
        description=f"Translations by language tag, such as fr-FR; at most {MAX_TRANSLATIONS}."
    )


class ChangedAttributes(NewAttributes):
    """Attributes to change. Omitted ones stay; null clears nullable ones."""

    name: str = optional_field(NOT_BLANK, max_length=NAME_LIMIT)


def attributes_of(attributes: NewAttributes) -> Attributes:
    """Convert the attributes that a request sets to those of the domain."""
    return cast(Attributes, attributes.model_dump(exclude_unset=True))
