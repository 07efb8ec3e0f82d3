"""Relay connections: windows from arguments, opaque cursors, pages read only when asked for."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
import strawberry
from strawberry import UNSET

from app.domain.errors import InvalidInput
from app.storage.pages import Key, Page, Window

DEFAULT_ROWS = 25
MOST_ROWS = 100

NodeT = TypeVar("NodeT")
ValueT = TypeVar("ValueT")

First = Annotated[
    int | None,
    strawberry.argument(
        description=f"How many from the start, 1 to {MOST_ROWS}; {DEFAULT_ROWS} when neither "
        "first nor last is given. Not together with last."
    ),
]
After = Annotated[
    str | None, strawberry.argument(description="Only what follows this cursor of the same list.")
]
Last = Annotated[
    int | None,
    strawberry.argument(
        description=f"How many from the end, 1 to {MOST_ROWS}. Not together with first."
    ),
]
Before = Annotated[
    str | None,
    strawberry.argument(description="Only what comes before this cursor of the same list."),
]


def whole(value: Any) -> int:
    """A part of a cursor that is a 64-bit number."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def maybe_whole(value: Any) -> int | None:
    """A part of a cursor that is a number or unset."""
    return None if value is None else whole(value)


def text(value: Any) -> str:
    """A part of a cursor that is a text."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def instant(value: Any) -> datetime:
    """A part of a cursor that is an instant."""
    read = datetime.fromisoformat(text(value))
    if read.tzinfo != UTC:
        raise ValueError
    return read


def uuid(value: Any) -> UUID:
    """A part of a cursor that is a UUID."""
    return UUID(text(value))


def given(value: ValueT | None) -> ValueT | None:
    """The value of an optional argument, None where it was left out."""
    return None if value is UNSET else value


class Cursors:
    """The cursors of one kind of list: opaque to clients, and of no use to another kind."""

    def __init__(self, kind: str, *parts: Callable[[Any], Any]) -> None:
        self._kind = kind
        self._parts = parts

    def encode(self, key: Key) -> str:
        """The cursor of the row with this key."""
        return urlsafe_b64encode(orjson.dumps([self._kind, *key])).decode().rstrip("=")

    def decode(self, cursor: str, argument: str) -> Key:
        """The key a cursor stands for. Raises InvalidInput naming the argument."""
        try:
            kind, *key = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if kind != self._kind:
                raise ValueError
            return tuple(part(value) for part, value in zip(self._parts, key, strict=True))
        except (ValueError, TypeError, Base64Error):
            raise InvalidInput(f"{cursor!r} is not a cursor of this list.", (argument,)) from None

    def window(
        self, first: int | None, after: str | None, last: int | None, before: str | None
    ) -> Window:
        """What the four arguments ask for. Raises InvalidInput naming the one at fault."""
        first, after = given(first), given(after)
        last, before = given(last), given(before)
        if first is not None and last is not None:
            raise InvalidInput("Give first or last, not both.", ("last",))
        for argument, rows in (("first", first), ("last", last)):
            if rows is not None and not 1 <= rows <= MOST_ROWS:
                raise InvalidInput(
                    f"{argument} is {rows}; it must be between 1 and {MOST_ROWS}.", (argument,)
                )
        return Window(
            limit=first or last or DEFAULT_ROWS,
            after=None if after is None else self.decode(after, "after"),
            before=None if before is None else self.decode(before, "before"),
            backward=last is not None,
        )


class Slice:
    """What a connection field resolves to: a page and a count, each read when first asked for."""

    def __init__(
        self,
        cursors: Cursors,
        page: Callable[[], Awaitable[Page[Any]]],
        count: Callable[[], Awaitable[int]],
    ) -> None:
        self.cursors = cursors
        self.count = count
        self._read_page = page
        self._page: asyncio.Future[Page[Any]] | None = None

    async def page(self) -> Page[Any]:
        """The page, read once however often it is asked for."""
        if self._page is None:
            self._page = asyncio.ensure_future(self._read_page())
        return await self._page


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follows the page.")
    has_previous_page: bool = strawberry.field(
        description="Whether more comes before the page; when paging forward: whether it began "
        "behind a cursor."
    )
    start_cursor: str | None = strawberry.field(description="The first row's cursor.")
    end_cursor: str | None = strawberry.field(description="The last row's cursor.")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a page with its cursor: what an edge resolves from."""

    cursor: str
    row: Any


async def edges_of(root: Any) -> list[Row]:
    page = await root.page()
    return [Row(root.cursors.encode(key), row) for key, row in page.rows]


async def nodes_of(root: Any) -> list[Any]:
    return [row for _, row in (await root.page()).rows]


async def page_info_of(root: Any) -> PageInfo:
    page = await root.page()
    keys = [key for key, _ in page.rows]
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=root.cursors.encode(keys[0]) if keys else None,
        end_cursor=root.cursors.encode(keys[-1]) if keys else None,
    )


async def total_count_of(root: Any) -> int:
    counted: int = await root.count()
    return counted


def paged(description: str, resolver: Callable[..., Any]) -> Any:
    """A field of a connection type."""
    return strawberry.field(resolver=resolver, description=description)


@strawberry.type(description="One row of a page and its cursor.")
class Edge(Generic[NodeT]):
    cursor: str = strawberry.field(description="Opaque: pass it as after or before.")
    node: NodeT = strawberry.field(resolver=lambda root: root.row, description="The row itself.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[NodeT]):
    edges: list[Edge[NodeT]] = paged("The rows of the page with their cursors.", edges_of)
    nodes: list[NodeT] = paged("The rows of the page.", nodes_of)
    page_info: PageInfo = paged("Where the page lies in the list.", page_info_of)
    total_count: int = paged(
        "How many rows the whole list has, on all pages; counted only when asked for.",
        total_count_of,
    )
