"""Translations of names and descriptions."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import strawberry

from app.domain.attributes import Translation

Locale = Annotated[
    str | None,
    strawberry.argument(
        description="Language tag, such as fr-FR. Falls back to a wider tag (fr for fr-CA, but "
        "not fr-FR for fr), then to the default text."
    ),
]


@strawberry.type(description="Translation: name and description in one locale.")
class Localization:
    locale: str = strawberry.field(description="Language tag, such as fr-FR.")
    name: str | None = strawberry.field(description="Name in this locale; null if untranslated.")
    description: str | None = strawberry.field(
        description="Description in this locale; null if untranslated."
    )


class TranslationRow(NamedTuple):
    """The row from which a Localization is resolved."""

    locale: str
    name: str | None
    description: str | None


def translation_rows(locales: Mapping[str, Translation]) -> list[TranslationRow]:
    """Convert stored translations to rows, sorted by locale."""
    return [
        TranslationRow(locale, translation.get("name"), translation.get("description"))
        for locale, translation in sorted(locales.items())
    ]
