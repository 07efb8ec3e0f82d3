"""Attributes of hierarchies and nodes, as inputs give them."""

from typing import Protocol, cast

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import none_if_unset
from app.domain.attributes import CUSTOM_KEY_LIMIT, Attributes, Translation
from app.domain.errors import DomainError, InvalidInput


@strawberry.input(description="Translation: a name, a description, or both, in one locale.")
class LocalizationInput:
    locale: str = strawberry.field(description="Language tag, such as fr-FR.")
    name: str | None = strawberry.field(
        default=UNSET, description="Name in this locale: 1 to 1000 characters, not blank."
    )
    description: str | None = strawberry.field(
        default=UNSET, description="Description in this locale."
    )


@strawberry.input(description="Custom attribute: a text under a key.")
class CustomAttributeInput:
    key: str = strawberry.field(
        description=f"Key: 1 to {CUSTOM_KEY_LIMIT} characters, not blank, each once."
    )
    value: str = strawberry.field(description="Text.")


class AttributesInput(Protocol):
    """An input with the attributes shared by hierarchies and nodes; UNSET if omitted."""

    @property
    def name(self) -> str | None: ...
    @property
    def description(self) -> str | None: ...
    @property
    def slug(self) -> str | None: ...
    @property
    def localizations(self) -> list[LocalizationInput] | None: ...
    @property
    def admin_attributes(self) -> list[CustomAttributeInput] | None: ...
    @property
    def shopper_attributes(self) -> list[CustomAttributeInput] | None: ...


def attributes_of(input: AttributesInput) -> Attributes:
    """Convert the attributes that an input sets.

    Raises InvalidInput for a repeated locale or key.
    """
    attributes = {
        "name": input.name,
        "description": input.description,
        "slug": input.slug,
        "locales": input.localizations and _translations(input.localizations),
        "admin_attributes": input.admin_attributes
        and _custom_attributes("admin_attributes", input.admin_attributes),
        "shopper_attributes": input.shopper_attributes
        and _custom_attributes("shopper_attributes", input.shopper_attributes),
    }
    return cast(
        Attributes, {name: value for name, value in attributes.items() if value is not UNSET}
    )


def _translations(localizations: list[LocalizationInput]) -> dict[str, Translation]:
    translations: dict[str, Translation] = {}
    for index, localization in enumerate(localizations):
        if localization.locale in translations:
            reason = f"The locale {localization.locale} is there more than once."
            raise InvalidInput(reason, ("locales", str(index), "locale"))
        texts = {
            "name": none_if_unset(localization.name),
            "description": none_if_unset(localization.description),
        }
        translations[localization.locale] = {
            name: text for name, text in texts.items() if text is not None
        }
    return translations


def _custom_attributes(name: str, inputs: list[CustomAttributeInput]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for index, input in enumerate(inputs):
        if input.key in attributes:
            reason = f"The key {input.key} is there more than once."
            raise InvalidInput(reason, (name, str(index), "key"))
        attributes[input.key] = input.value
    return attributes


def with_input_path(error: DomainError, input: object) -> DomainError:
    """Name a translation or custom attribute by its index in the input.

    The domain's path has its locale or key instead.
    """
    match error.path:
        case "locales", locale, *rest:
            for index, localization in enumerate(getattr(input, "localizations", None) or ()):
                if localization.locale == locale:
                    error.path = ("locales", str(index), *rest)
        case ("admin_attributes" | "shopper_attributes") as name, key:
            for index, attribute in enumerate(getattr(input, name, None) or ()):
                if attribute.key == key:
                    error.path = (name, str(index))
    return error
