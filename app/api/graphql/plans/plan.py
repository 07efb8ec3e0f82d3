"""What a plan consists of."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graphql.execution.values import VariableValues
from sqlmodel import Session

from app.api.graphql.fields.loaders import BatchRead
from app.domain.callers import Caller
from app.storage.sql.rows import Projection

Rows = Sequence[Any]
ColumnValues = Sequence[Any]


class Unplanned(Exception):
    """What is asked for is the ordinary executor's: no plan has it, or this one gave up."""


class EncodedColumn(list[Any]):
    """Values that clients are told as they are."""


Load = tuple[BatchRead[Any, Any], tuple[Hashable, ...]]
"""A kind of read and its arguments: what may go in one statement."""


class ReadContext(Protocol):
    """What a run knows, and what it reads for the fields of a level."""

    session: Session
    caller: Caller
    variables: VariableValues
    wanted: Mapping[Callable[..., Any], Projection]

    def within(self, rows: Rows, of: Callable[[Any], Any]) -> Rows:
        """What `of` finds in each of the rows of a selection."""

    def ask(self, load: Load, keys: Sequence[Hashable]) -> None:
        """Have this read for these keys, those that are None aside."""

    def found(self, load: Load, keys: Sequence[Hashable]) -> ColumnValues:
        """What was read for each key, once the level was; None for None."""


Column = Callable[[ReadContext, Rows], ColumnValues | Callable[[], ColumnValues]]
"""Gives a field's values for rows; where they have to be read, what gives them once they are."""

Complete = Callable[["Level", ColumnValues], list[Any]]
"""Makes what clients are told of the values of a column. Objects are begun by it on the level
below, where they are filled. Raises Unplanned where null must not be."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a selection."""

    key: str
    """Its name in the answer."""
    column: Column
    complete: Complete


class Selection:
    """What is asked of the objects of one type."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = fields
        self._empty: dict[str, Any] = dict.fromkeys(field.key for field in fields)

    def begin(self) -> dict[str, Any]:
        """An object that has its fields in the order of the question, and nothing in them yet."""
        return self._empty.copy()


@dataclass(frozen=True, slots=True)
class Plan:
    """An operation, ready to be run with any variables that leave out the same fields."""

    root: Selection
    wanted: Mapping[Callable[..., Any], Projection]
    """What is read of the rows of each kind of read, by all fields together."""


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One field of a mutation: what it does, and a plan for its payload."""

    name: str
    """In the answer."""
    makes: Callable[..., Awaitable[Any]]
    arguments: Callable[[VariableValues], Mapping[str, Any]]
    payload: Plan


@dataclass(frozen=True, slots=True)
class Level:
    """Objects of one depth of an answer: begun on the level above, and filled here."""

    objects: list[tuple[Selection, Rows, list[dict[str, Any]]]] = field(default_factory=list)
    """Selections, each with rows and the objects that tell of them."""

    def begin(self, selection: Selection, rows: Rows) -> list[dict[str, Any]]:
        """An empty object for each row."""
        told = [selection.begin() for _ in rows]
        if rows:
            self.objects.append((selection, rows, told))
        return told
