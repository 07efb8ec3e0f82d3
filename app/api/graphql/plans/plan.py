"""Parts of a compiled plan."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graphql import VariableValues

from app.api.graphql.fields.loaders import BatchRead
from app.domain.callers import Caller
from app.storage.engine.transaction import Transaction
from app.storage.sql.rows import Projection

Rows = Sequence[Any]
ColumnValues = Sequence[Any]


class Unplanned(Exception):
    """The reference executor has to run the operation: no plan can, or this one gave up."""


class EncodedColumn(list[Any]):
    """Values that are already JSON values."""


BatchLoad = tuple[BatchRead[Any, Any], tuple[Hashable, ...]]
"""A batch read and its arguments: one statement serves all keys of a level."""


class ReadContext(Protocol):
    """The run of a plan, as columns see it."""

    tx: Transaction
    caller: Caller
    variables: VariableValues
    projections: Mapping[Callable[..., Any], Projection]

    def owners(self, rows: Rows, owner: Callable[[Any], Any]) -> Rows:
        """Return the owner of each row, computed once per selection."""

    def request(self, load: BatchLoad, keys: Sequence[Hashable]) -> None:
        """Request values for the keys that are not None, to be loaded with the level."""

    def loaded(self, load: BatchLoad, keys: Sequence[Hashable]) -> ColumnValues:
        """Return the loaded value of each key, None for None."""


Column = Callable[[ReadContext, Rows], ColumnValues | Callable[[], ColumnValues]]
"""Computes a field's values for rows. If they must be loaded first, returns what computes them."""

Complete = Callable[["Level", ColumnValues], list[Any]]
"""Completes a column's values to JSON values, as in GraphQL's CompleteValue.

Objects are added, still empty, to the level below. Raises Unplanned for a null in a non-null type.
"""


@dataclass(frozen=True, slots=True)
class PlanField:
    """A field of a selection."""

    response_key: str
    column: Column
    complete: Complete


class Selection:
    """The selected fields of one object type."""

    def __init__(self, fields: Sequence[PlanField]) -> None:
        self.fields = fields
        self._empty: dict[str, Any] = dict.fromkeys(field.response_key for field in fields)

    def new_object(self) -> dict[str, Any]:
        """Return an object with its keys in the order of the document, all of them None."""
        return self._empty.copy()


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled operation, for all variables that skip the same fields."""

    root: Selection
    projections: Mapping[Callable[..., Any], Projection]
    """The columns that all fields together require of each read's rows."""


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One field of a mutation: the mutation, and the plan of its payload."""

    response_key: str
    run: Callable[..., Awaitable[Any]]
    arguments: Callable[[VariableValues], Mapping[str, Any]]
    payload: Plan


@dataclass(frozen=True, slots=True)
class Level:
    """All objects at one depth of a response."""

    objects: list[tuple[Selection, Rows, list[dict[str, Any]]]] = field(default_factory=list)
    """Selections with their rows and the object of each row."""

    def add(self, selection: Selection, rows: Rows) -> list[dict[str, Any]]:
        """Add and return an empty object for each row."""
        objects = [selection.new_object() for _ in rows]
        if rows:
            self.objects.append((selection, rows, objects))
        return objects
