"""Attributes of hierarchies and nodes. Source: domain.md, "Hierarchy"."""

from typing import Annotated, cast

from pydantic import AfterValidator, Field

from app.api.rest.models import NOT_BLANK, ResponseModel, StrictRequestModel, optional_field
from app.domain.attributes import (
    CUSTOM_KEY_LIMIT,
    MAX_CUSTOM_ATTRIBUTES,
    MAX_TRANSLATIONS,
    NAME_LIMIT,
    SLUG_LIMIT,
    Attributes,
)

ADMIN_ATTRIBUTES = "Custom attributes for administrators."
SHOPPER_ATTRIBUTES = "Custom attributes for shoppers too."


class SharedAttributes(ResponseModel):
    """Attributes shared by hierarchies and nodes."""

    name: str
    description: str = optional_field()
    slug: str = optional_field()
    locales: dict[str, dict[str, str]] = Field(
        description="Translations by language tag: name, description or both."
    )
    admin_attributes: dict[str, str] = optional_field(description=ADMIN_ATTRIBUTES)
    shopper_attributes: dict[str, str] = optional_field(description=SHOPPER_ATTRIBUTES)


class LocaleAttributes(StrictRequestModel):
    """Translation into one locale: name, description or both."""

    name: str | None = optional_field(NOT_BLANK, max_length=NAME_LIMIT)
    description: str | None = optional_field()


def _present(attributes: dict[str, str | None]) -> dict[str, str | None]:
    return {key: text for key, text in attributes.items() if text is not None}


CustomAttributes = Annotated[dict[str, str | None], AfterValidator(_present)]
"""Texts by keys that the client chooses. A key with null counts as absent."""

_KEYS = (
    f" At most {MAX_CUSTOM_ATTRIBUTES} keys of 1 to {CUSTOM_KEY_LIMIT} characters, not blank. "
    "The keys of an update replace all keys."
)


class OptionalAttributes(StrictRequestModel):
    """Attributes that every request may omit."""

    description: str | None = optional_field(description="An empty text clears it.")
    slug: str | None = optional_field(NOT_BLANK, max_length=SLUG_LIMIT)
    locales: dict[str, LocaleAttributes] | None = optional_field(
        description=f"Translations by language tag, such as fr-FR; at most {MAX_TRANSLATIONS}. "
        "Those of an update replace all translations."
    )
    admin_attributes: CustomAttributes | None = optional_field(description=ADMIN_ATTRIBUTES + _KEYS)
    shopper_attributes: CustomAttributes | None = optional_field(
        description=SHOPPER_ATTRIBUTES + _KEYS
    )


class NewAttributes(OptionalAttributes):
    """Attributes of a new hierarchy or node."""

    name: str = Field(max_length=NAME_LIMIT, json_schema_extra={**NOT_BLANK})


class ChangedAttributes(OptionalAttributes):
    """Attributes to change. Omitted and null ones stay."""

    name: str | None = optional_field(NOT_BLANK, max_length=NAME_LIMIT)


def attributes_of(attributes: OptionalAttributes | None) -> Attributes:
    """Convert the present attributes of a request to those of the domain."""
    return cast(Attributes, attributes.present_fields() if attributes else {})
