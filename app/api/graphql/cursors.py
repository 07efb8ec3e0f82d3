"""Opaque cursors of lists, and the arguments first, after, last and before."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

import orjson
import strawberry
from strawberry import UNSET

from app.domain.errors import InvalidInput
from app.domain.instants import parse_instant
from app.storage.sql.keyset import Key, KeysetWindow

DEFAULT_ROWS = 25
MAX_ROWS = 100

ValueT = TypeVar("ValueT")

First = Annotated[
    int | None,
    strawberry.argument(
        description=f"Number of rows from the start, 0 to {MAX_ROWS}; {DEFAULT_ROWS} without "
        "first and last. Not together with last."
    ),
]
After = Annotated[
    str | None,
    strawberry.argument(description="Only rows after this cursor of the same list."),
]
Last = Annotated[
    int | None,
    strawberry.argument(
        description=f"Number of rows from the end, 0 to {MAX_ROWS}. Not together with first."
    ),
]
Before = Annotated[
    str | None,
    strawberry.argument(description="Only rows before this cursor of the same list."),
]


def int_part(value: object) -> int:
    """Validate a part of a cursor: a 64-bit integer. Raises ValueError."""
    return _integer(value, 64)


def short_int_part(value: object) -> int:
    """Validate a part of a cursor: a 32-bit integer. Raises ValueError."""
    return _integer(value, 32)


def optional_short_int_part(value: object) -> int | None:
    """Validate a part of a cursor: a 32-bit integer or null. Raises ValueError."""
    return None if value is None else short_int_part(value)


def _integer(value: object, bits: int) -> int:
    if type(value) is not int or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError
    return value


def text_part(value: object) -> str:
    """Validate a part of a cursor: a string without NUL. Raises ValueError."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def instant_part(value: object) -> datetime:
    """Parse a part of a cursor: an instant in UTC. Raises ValueError."""
    return parse_instant(text_part(value))


def uuid_part(value: object) -> UUID:
    """Parse a part of a cursor: a UUID. Raises ValueError."""
    return UUID(text_part(value))


def none_if_unset(value: ValueT | None) -> ValueT | None:
    """Return the value of an optional argument, None if it was omitted."""
    return None if value is UNSET else value


class Cursors:
    """Cursors of one kind of list. Other kinds refuse them.

    `parts` validate or parse the parts of a row's key.
    """

    def __init__(self, kind: str, *parts: Callable[[object], object]) -> None:
        self._kind = kind
        self._parts = parts

    def encode(self, key: Key) -> str:
        """Return the cursor of the row with this key."""
        return urlsafe_b64encode(orjson.dumps([self._kind, *key])).decode().rstrip("=")

    def decode(self, cursor: str, argument: str) -> Key:
        """Return the key of a cursor. Raises InvalidInput naming `argument`."""
        try:
            kind, *key = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if kind != self._kind:
                raise ValueError
            return tuple(part(value) for part, value in zip(self._parts, key, strict=True))
        except (ValueError, TypeError, Base64Error):
            raise InvalidInput(f"{cursor!r} is not a cursor of this list.", (argument,)) from None

    def window(
        self,
        first: First = UNSET,
        after: After = UNSET,
        last: Last = UNSET,
        before: Before = UNSET,
    ) -> KeysetWindow:
        """Build the window of a page. Raises InvalidInput naming the invalid argument."""
        first, after = none_if_unset(first), none_if_unset(after)
        last, before = none_if_unset(last), none_if_unset(before)
        if first is not None and last is not None:
            raise InvalidInput("Give first or last, not both.", ("last",))
        for argument, rows in (("first", first), ("last", last)):
            if rows is not None and not 0 <= rows <= MAX_ROWS:
                raise InvalidInput(
                    f"{argument} is {rows}; it must be between 0 and {MAX_ROWS}.", (argument,)
                )
        rows = last if first is None else first
        return KeysetWindow(
            limit=DEFAULT_ROWS if rows is None else rows,
            after=None if after is None else self.decode(after, "after"),
            before=None if before is None else self.decode(before, "before"),
            backward=last is not None,
        )
