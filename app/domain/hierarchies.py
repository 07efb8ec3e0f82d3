"""Hierarchies and the nodes below them: ids, names, translations, order.

Source: domain.md, "Hierarchy", and reference/duplicate-a-hierarchy.txt.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid4

from app.domain.errors import InvalidInput

NAME_LIMIT = 1000
"""Characters a name may have (reference/duplicate-a-hierarchy.txt)."""

ROOT_NO = 0
"""The node number of every hierarchy's root."""

LAST_NODE_NO = 2**32 - 1
_LOW_BITS = LAST_NODE_NO
_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


class Owner(StrEnum):
    """Whose a hierarchy is: one store's, or the organization's above all stores."""

    STORE = "store"
    ORGANIZATION = "organization"


class HierarchyState(StrEnum):
    """Where a hierarchy is in its life. Only READY is ever visible."""

    READY = "ready"
    COPYING = "copying"
    IMPORTING = "importing"
    DISCARDED = "discarded"
    ABANDONED = "abandoned"
    """A discarded import: what it made for itself goes with it."""


Translation = dict[str, str]
"""What one locale says in place of the default: `name`, `description`, or both."""

Locales = Mapping[str, Translation]
"""Translations by locale."""


@dataclass(frozen=True, slots=True)
class Place:
    """A public id taken apart: a hierarchy, and a node's number in it (0 is the root)."""

    hierarchy_id: UUID
    node_no: int


def new_hierarchy_id() -> UUID:
    """A random UUID whose low 32 bits are free for the numbers of the hierarchy's nodes."""
    return UUID(int=uuid4().int & ~_LOW_BITS)


def node_id(hierarchy_id: UUID, node_no: int) -> UUID:
    """The public id of a node: its hierarchy's, with the node's number in the low 32 bits."""
    return UUID(int=hierarchy_id.int | node_no)


def place_of(id: UUID) -> Place:
    """The place a public id names, were it the id of a hierarchy or a node."""
    return Place(UUID(int=id.int & ~_LOW_BITS), id.int & _LOW_BITS)


def checked_text(text: str, *path: str) -> str:
    """`text` itself, or InvalidInput naming `path`: without NUL, which no database keeps alike."""
    if "\0" in text:
        raise InvalidInput("A text can not have a NUL character.", path)
    return text


def checked_name(name: str, *path: str) -> str:
    """`name` itself, or InvalidInput naming `path`: something to be seen, at most 1000 characters,
    no NUL."""
    checked_text(name, *path)
    if not any(character.isprintable() and character != " " for character in name):
        raise InvalidInput("The name can not be empty.", path)
    if len(name) > NAME_LIMIT:
        reason = f"The name has {len(name)} characters; at most {NAME_LIMIT} are allowed."
        raise InvalidInput(reason, path)
    return name


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
    by_tag = {tag.lower(): said for tag, said in locales.items()}
    tag = locale.lower()
    while tag:
        if tag in by_tag:
            return by_tag[tag]
        tag = tag.rpartition("-")[0]
    return None
