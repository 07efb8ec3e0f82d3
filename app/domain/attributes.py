"""What hierarchies and nodes say of themselves: names, slugs, descriptions, translations.

Source: domain.md, "Hierarchy", and reference/duplicate-a-hierarchy.txt.
"""

import re
from collections.abc import Mapping
from typing import TypedDict

from app.domain.errors import Empty, InvalidInput

NAME_LIMIT = 1000
"""Characters a name may have (reference/duplicate-a-hierarchy.txt)."""

SLUG_LIMIT = 1000
"""Characters a slug may have."""

MAX_LOCALES = 100
"""Translations a hierarchy or a node may have."""

_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

Translation = dict[str, str]
"""What one locale says in place of the default: `name`, `description`, or both."""

Locales = Mapping[str, Translation]
"""Translations by locale."""


class Attributes(TypedDict, total=False):
    """What somebody wants a hierarchy or a node to say. What is left out stays as it is; None
    clears what can be cleared."""

    name: str | None
    description: str | None
    slug: str | None
    locales: Locales | None


class ValidatedAttributes(TypedDict, total=False):
    """Attributes that keep every rule of their own, as they are stored."""

    name: str
    description: str | None
    slug: str | None
    locales: dict[str, Translation]


def checked_attributes(wanted: Attributes) -> ValidatedAttributes:
    """What is wanted, as it is stored, or InvalidInput naming the attribute. An empty description
    is none."""
    said = ValidatedAttributes()
    if "name" in wanted:
        said["name"] = checked_name(wanted["name"] or "", "name")
    if "description" in wanted:
        said["description"] = checked_text(wanted["description"] or "", "description") or None
    if "slug" in wanted:
        slug = wanted["slug"]
        said["slug"] = None if slug is None else checked_slug(slug, "slug")
    if "locales" in wanted:
        said["locales"] = checked_locales(wanted["locales"] or {}, "localizations")
    return said


def checked_text(text: str, *path: str) -> str:
    """`text` itself, or InvalidInput naming `path`: without NUL, which no database keeps alike."""
    if "\0" in text:
        raise InvalidInput("A text can not have a NUL character.", path)
    return text


def checked_name(name: str, *path: str) -> str:
    """`name` itself, or InvalidInput naming `path`: something to be seen, at most 1000 characters,
    no NUL."""
    return checked_label("name", name, NAME_LIMIT, *path)


def checked_slug(slug: str, *path: str) -> str:
    """`slug` itself, or InvalidInput naming `path`: like a name."""
    return checked_label("slug", slug, SLUG_LIMIT, *path)


def checked_label(what: str, label: str, limit: int, *path: str) -> str:
    """`label` itself, or InvalidInput naming `path` and calling it `what`: something to be seen, no
    longer than the limit, no NUL."""
    checked_text(label, *path)
    if not any(character.isprintable() and character != " " for character in label):
        raise Empty(what, path)
    if len(label) > limit:
        reason = f"The {what} has {len(label)} characters; at most {limit} are allowed."
        raise InvalidInput(reason, path)
    return label


def checked_locales(locales: Locales, *path: str) -> dict[str, Translation]:
    """`locales` themselves, or InvalidInput naming `path`: at most 100, each locale once, whatever
    its case, and each with something to say."""
    if len(locales) > MAX_LOCALES:
        reason = f"There are {len(locales)} translations; at most {MAX_LOCALES} are allowed."
        raise InvalidInput(reason, path)
    seen: set[str] = set()
    for locale, said in locales.items():
        checked_locale(locale, *path, locale)
        if locale.lower() in seen:
            raise InvalidInput(f"The locale {locale} is there more than once.", (*path, locale))
        seen.add(locale.lower())
        if not said:
            raise InvalidInput(f"Nothing is said in {locale}.", (*path, locale))
        if "name" in said:
            checked_name(said["name"], *path, locale, "name")
        checked_text(said.get("description", ""), *path, locale, "description")
    return dict(locales)


def checked_locale(locale: str, *path: str) -> str:
    """`locale` itself, or InvalidInput naming `path`: a language tag such as fr-FR."""
    if not _LOCALE.fullmatch(locale):
        raise InvalidInput(f"{locale!r} is not a locale such as fr-FR.", path)
    return locale


def translation(locales: Locales, locale: str | None) -> Translation | None:
    """What `locales` says for `locale`, case aside, or for the nearest wider tag it has.

    fr-CA finds fr-CA, else fr (the lookup of RFC 4647, section 3.4); None when neither is there.
    """
    if not locale or not locales:
        return None
    if locale in locales:
        return locales[locale]
    by_tag = {tag.lower(): said for tag, said in locales.items()}
    tag = locale.lower()
    while tag:
        if tag in by_tag:
            return by_tag[tag]
        tag = tag.rpartition("-")[0]
    return None
