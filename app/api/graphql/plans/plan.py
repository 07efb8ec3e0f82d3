"""Parts of a compiled plan."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import DocumentNode

from app.api.graphql.fields.source import AnyRead, Arguments, Column, ColumnValues, JsonValues, Rows
from app.storage.sql.rows import Projection

ResponseObject = dict[str, Any]
"""An object of a response: JSON values by response key."""

GraphQLResponse = dict[str, Any]
"""GraphQL response: data, errors, extensions."""

Complete = Callable[["Level", ColumnValues], JsonValues]
"""Completes a column's values to JSON values, as in GraphQL's CompleteValue.

Objects are added, still empty, to the level below. Raises Unplanned for a null in a non-null type.
"""


@dataclass(frozen=True, slots=True)
class PlanField:
    """A field of a selection."""

    response_key: str
    column: Column
    complete: Complete
    is_text: bool = False
    """True for texts, and lists of texts, whose length the cost does not cover."""


class Selection:
    """The selected fields of one object type."""

    def __init__(self, fields: Sequence[PlanField]) -> None:
        self.fields = fields
        self._empty: ResponseObject = dict.fromkeys(field.response_key for field in fields)

    def new_object(self) -> ResponseObject:
        """Return an object with its keys in the order of the document, all of them None."""
        return self._empty.copy()


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled operation, for all variables that skip the same fields."""

    root: Selection
    projections: Mapping[AnyRead, Projection]
    """The columns that all fields together require of each read's rows."""
    response_keys: tuple[str, ...] = ()
    """The keys of the operation's data, in the order of the document."""
    split: "Split | None" = None
    """The two parts of a query, if the reference executor has to run some of its root fields."""


@dataclass(frozen=True, slots=True)
class Split:
    """The operation with the root fields of the plan, and with the others."""

    planned: DocumentNode
    others: DocumentNode


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One field of a mutation: its change, and the plan of its payload."""

    response_key: str
    change: Callable[..., Awaitable[object]]
    arguments: Arguments
    payload: Plan


@dataclass(frozen=True, slots=True)
class Level:
    """All objects at one depth of a response."""

    objects: list[tuple[Selection, Rows, list[ResponseObject]]] = field(default_factory=list)
    """Selections with their rows and the object of each row."""

    def add(self, selection: Selection, rows: Rows) -> list[ResponseObject]:
        """Add and return an empty object for each row."""
        objects = [selection.new_object() for _ in rows]
        if rows:
            self.objects.append((selection, rows, objects))
        return objects
