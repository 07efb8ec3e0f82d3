"""Attributes shared by hierarchies and nodes: names, slugs, descriptions, translations.

Source: domain.md, "Hierarchy", and reference/duplicate-a-hierarchy.txt.
"""

import re
from collections.abc import Mapping
from typing import TypedDict

from app.domain.errors import Empty, InvalidInput

NAME_LIMIT = 1000
"""Characters of a name (reference/duplicate-a-hierarchy.txt)."""

SLUG_LIMIT = 1000
"""Characters of a slug."""

MAX_TRANSLATIONS = 100
"""Translations of a hierarchy or a node."""

MAX_CUSTOM_ATTRIBUTES = 100
"""Keys of admin_attributes, and of shopper_attributes, of a hierarchy or a node."""

CUSTOM_KEY_LIMIT = 255
"""Characters of such a key."""

_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

Translation = dict[str, str]
"""`name`, `description` or both in one locale, in place of the defaults."""

Translations = Mapping[str, Translation]
"""Translations by locale."""


CustomAttributes = Mapping[str, str]
"""Texts by keys that the client chooses."""


class Attributes(TypedDict, total=False):
    """New attributes of a hierarchy or a node, as the caller sends them.

    Missing ones stay as they are; None clears an optional one.
    """

    name: str | None
    description: str | None
    slug: str | None
    locales: Translations | None
    admin_attributes: CustomAttributes | None
    shopper_attributes: CustomAttributes | None


class ValidatedAttributes(TypedDict, total=False):
    """Valid attributes as columns."""

    name: str
    description: str | None
    slug: str | None
    locales: dict[str, Translation]
    admin_attributes: dict[str, str] | None
    shopper_attributes: dict[str, str] | None


def checked_attributes(attributes: Attributes) -> ValidatedAttributes:
    """Validate attributes. An empty description becomes None. Raises InvalidInput(attribute)."""
    valid = ValidatedAttributes()
    if "name" in attributes:
        valid["name"] = checked_name(attributes["name"] or "", "name")
    if "description" in attributes:
        valid["description"] = checked_text(attributes["description"] or "", "description") or None
    if "slug" in attributes:
        slug = attributes["slug"]
        valid["slug"] = None if slug is None else checked_slug(slug, "slug")
    if "locales" in attributes:
        valid["locales"] = checked_translations(attributes["locales"] or {}, "locales")
    if "admin_attributes" in attributes:
        valid["admin_attributes"] = checked_custom_attributes(
            attributes["admin_attributes"], "admin_attributes"
        )
    if "shopper_attributes" in attributes:
        valid["shopper_attributes"] = checked_custom_attributes(
            attributes["shopper_attributes"], "shopper_attributes"
        )
    return valid


def checked_text(text: str, *path: str) -> str:
    """Validate a text: no NUL, which the two databases store differently, and no half of a pair.

    Arguments of a command that are not UTF-8 have such halves. Raises InvalidInput(path).
    """
    if "\0" in text:
        raise InvalidInput("A text cannot have a NUL character.", path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("A text can only have Unicode characters.", path) from None
    return text


def checked_name(name: str, *path: str) -> str:
    """Validate a name: not blank, at most 1000 characters, no NUL. Raises InvalidInput(path)."""
    return checked_label("name", name, NAME_LIMIT, *path)


def checked_slug(slug: str, *path: str) -> str:
    """Validate a slug by the rules of a name. Raises InvalidInput(path)."""
    return checked_label("slug", slug, SLUG_LIMIT, *path)


def checked_label(kind: str, label: str, limit: int, *path: str) -> str:
    """Validate a label: not blank, at most `limit` characters, no NUL.

    Raises InvalidInput(path) with a message that calls it `kind`.
    """
    checked_text(label, *path)
    if not any(character.isprintable() and character != " " for character in label):
        raise Empty(kind, path)
    if len(label) > limit:
        reason = f"The {kind} has {len(label)} characters; at most {limit} are allowed."
        raise InvalidInput(reason, path)
    return label


def checked_translations(translations: Translations, *path: str) -> dict[str, Translation]:
    """Validate at most 100 translations, one per locale (ignoring case), none of them empty.

    Raises InvalidInput(path).
    """
    count = len(translations)
    if count > MAX_TRANSLATIONS:
        reason = f"There are {count} translations; at most {MAX_TRANSLATIONS} are allowed."
        raise InvalidInput(reason, path)
    locales: set[str] = set()
    for locale, texts in translations.items():
        checked_locale(locale, *path, locale)
        if locale.lower() in locales:
            raise InvalidInput(f"The locale {locale} is there more than once.", (*path, locale))
        locales.add(locale.lower())
        if not texts:
            raise InvalidInput(f"The translation {locale} is empty.", (*path, locale))
        if "name" in texts:
            checked_name(texts["name"], *path, locale, "name")
        checked_text(texts.get("description", ""), *path, locale, "description")
    return dict(translations)


def checked_custom_attributes(
    attributes: CustomAttributes | None, *path: str
) -> dict[str, str] | None:
    """Validate at most 100 keys, each like a name, and their texts. Return None without any.

    Raises InvalidInput(path).
    """
    if not attributes:
        return None
    if len(attributes) > MAX_CUSTOM_ATTRIBUTES:
        reason = f"There are {len(attributes)} keys; at most {MAX_CUSTOM_ATTRIBUTES} are allowed."
        raise InvalidInput(reason, path)
    for key, text in attributes.items():
        checked_label("key", key, CUSTOM_KEY_LIMIT, *path, key)
        checked_text(text, *path, key)
    return dict(attributes)


def checked_locale(locale: str, *path: str) -> str:
    """Validate a locale, a language tag such as fr-FR. Raises InvalidInput(path)."""
    if not _LOCALE.fullmatch(locale):
        raise InvalidInput(f"{locale!r} is not a locale such as fr-FR.", path)
    return locale


def translation(translations: Translations, locale: str | None) -> Translation | None:
    """Look up the translation of a locale, ignoring case, else of the nearest wider tag.

    fr-CA yields fr-CA, else fr, else None (the lookup of RFC 4647, section 3.4).
    """
    if not locale or not translations:
        return None
    if locale in translations:
        return translations[locale]
    by_tag = {tag.lower(): texts for tag, texts in translations.items()}
    tag = locale.lower()
    while tag:
        if tag in by_tag:
            return by_tag[tag]
        tag = tag.rpartition("-")[0]
    return None
