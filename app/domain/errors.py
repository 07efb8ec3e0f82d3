"""The root of the domain's errors, and those that many rules share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


class DomainError(Exception):
    """An expected refusal. `str()` of it is one sentence for clients."""

    code: ClassVar[str]
    path: tuple[str, ...] = ()
    """The faulty part of the input: a name of the domain, then keys, indexes and names inside it.

    Empty for the input as a whole.
    """


@dataclass(eq=False)
class NotFound(DomainError):
    """An id that is unknown, or hidden from the caller."""

    code: ClassVar[str] = "NOT_FOUND"
    kind: str
    id: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"No {self.kind} has the id {self.id}."


class SomeNotFound(NotFound):
    """Some of a request's ids are unknown, or hidden from the caller."""

    def __init__(self, kind: str, ids: Sequence[str], path: tuple[str, ...] = ()) -> None:
        super().__init__(kind, ids[0], path)
        self.ids = tuple(ids)

    def __str__(self) -> str:
        return f"No {self.kind} has the id {' or '.join(self.ids)}."


@dataclass(eq=False)
class Forbidden(DomainError):
    """The caller may read the resource, but not do this with it."""

    code: ClassVar[str] = "FORBIDDEN"
    reason: str
    path: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class InvalidInput(DomainError):
    """A value at `path` that breaks a rule."""

    code: ClassVar[str] = "INVALID_INPUT"
    reason: str
    path: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.reason


class Empty(InvalidInput):
    """A required value is missing or blank."""

    def __init__(self, kind: str, path: tuple[str, ...]) -> None:
        super().__init__(f"The {kind} can not be empty.", path)
