"""The root of every refusal the domain foresees, and those that many rules share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


class DomainError(Exception):
    """A refusal that is part of the rules. `str()` of it is one sentence a client may read."""

    code: ClassVar[str]
    path: tuple[str, ...] = ()
    """Where in the input the fault lies; empty when it lies in no single place."""


@dataclass(eq=False)
class NotFound(DomainError):
    """Nothing by that id that the caller may see."""

    code: ClassVar[str] = "NOT_FOUND"
    kind: str
    id: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"No {self.kind} has the id {self.id}."


class SomeNotFound(NotFound):
    """Nothing by some of the ids of a request that names several."""

    def __init__(self, kind: str, ids: Sequence[str], path: tuple[str, ...] = ()) -> None:
        super().__init__(kind, ids[0], path)
        self.ids = tuple(ids)

    def __str__(self) -> str:
        return f"No {self.kind} has the id {' or '.join(self.ids)}."


@dataclass(eq=False)
class Forbidden(DomainError):
    """The caller may see it, but not do this with it."""

    code: ClassVar[str] = "FORBIDDEN"
    reason: str
    path: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class InvalidInput(DomainError):
    """A value that breaks a rule of the place named by `path`."""

    code: ClassVar[str] = "INVALID_INPUT"
    reason: str
    path: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.reason


class Empty(InvalidInput):
    """Something that has to be said, and is not."""

    def __init__(self, what: str, path: tuple[str, ...]) -> None:
        super().__init__(f"The {what} can not be empty.", path)
