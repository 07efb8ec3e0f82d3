"""How fields are read, declared beside the types that have them.

A field is an expression over its row, a relation (one value for a key of the row, read for all rows
at once), or a connection (a page for a key of the row, likewise). The declaration stays with the
field, in its metadata under READ, for whoever wants to execute it in another way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import strawberry
from strawberry import UNSET

from app.api.connections import After, Before, Cursors, First, Last, Slice
from app.api.loaders import Batch, current
from app.storage.pages import Page

READ = "read"


@dataclass(frozen=True)
class Expression:
    """A value computed from the row alone."""

    value: Callable[[Any], Any]


@dataclass(frozen=True)
class Relation:
    """A value found by a key of the row; null without a key, or where nothing is found."""

    batch: Batch[Any, Any]
    key: Callable[[Any], Any]
    value: Callable[[Any], Any]


@dataclass(frozen=True)
class Pages:
    """A page of the list that a key of the row has, and that list's length. No key, no list."""

    cursors: Cursors
    pages: Batch[Any, Page[Any]]
    counts: Batch[Any, int]
    key: Callable[[Any], Any]


def expression(value: Callable[[Any], Any], description: str) -> Any:
    """A field computed from its row alone."""

    def resolve(root: Any) -> Any:
        return value(root)

    return strawberry.field(
        resolver=resolve, description=description, metadata={READ: Expression(value)}
    )


def relation(
    batch: Batch[Any, Any],
    key: Callable[[Any], Any],
    description: str,
    value: Callable[[Any], Any] = lambda found: found,
) -> Any:
    """A field read by a key of its row: `value` of what is found."""

    async def resolve(root: Any) -> Any:
        by = key(root)
        found = None if by is None else await current.get().load(batch, by)
        return None if found is None else value(found)

    return strawberry.field(
        resolver=resolve,
        description=description,
        metadata={READ: Relation(batch, key, value)},
    )


def connection(
    cursors: Cursors,
    pages: Batch[Any, Page[Any]],
    counts: Batch[Any, int],
    key: Callable[[Any], Any],
    description: str,
) -> Any:
    """A field that is a page of the list its row has; without a key, of an empty one."""

    def resolve(
        root: Any,
        first: First = UNSET,
        after: After = UNSET,
        last: Last = UNSET,
        before: Before = UNSET,
    ) -> Any:
        by = key(root)
        window = cursors.window(first, after, last, before)
        loaders = current.get()

        async def read_page() -> Page[Any]:
            return (by and await loaders.load(pages, by, window)) or Page()

        async def read_count() -> int:
            return (by and await loaders.load(counts, by)) or 0

        return Slice(cursors, read_page, read_count)

    return strawberry.field(
        resolver=resolve,
        description=description,
        metadata={READ: Pages(cursors, pages, counts, key)},
    )
