"""The base of field kinds: the interface of field sources for both executors.

A kind is a subclass of FieldSource in a file of its own. It has the resolver, for the reference
executor, next to the column, for compiled plans (app.api.graphql.plans), and the columns that both
read of a row. No other module interprets kinds.
"""

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple, Protocol

import strawberry
from graphql import VariableValues

from app.api.graphql.fields.loaders import BatchRead
from app.domain.answers import AnswerBudget
from app.domain.callers import Caller
from app.storage.engine.transaction import Transaction
from app.storage.sql.rows import Projection

FIELD_SOURCE = "field_source"
"""Key of a field's source in its metadata."""

RequiredColumns = frozenset[str] | None
"""Attributes of a row that a value is computed from; None if it may be any."""

NO_COLUMNS: frozenset[str] = frozenset()

FILTER_COST = 100
"""Price of a filtered list or of its count: either may examine all rows of the list."""

ROW_KEY = "row key"
"""Pseudo-attribute in RequiredColumns: the row's key in its list."""

Declared = Any
"""A field of a GraphQL type. Its class annotates it with the type of its values."""

Rows = Sequence[Any]
"""The objects that the fields of a selection are computed from, of one or several classes."""

ColumnValues = Sequence[Any]
"""The values of one field of a selection, one per row."""

JsonValues = list[Any]
"""The same as JSON values."""

Arguments = Callable[[VariableValues], Mapping[str, Any]]
"""Converts variables to a field's keyword arguments."""

AnyRead = BatchRead[Any, Any]


class Unplanned(Exception):
    """The reference executor has to run the field: no plan can, or this one gave up."""


class EncodedColumn(JsonValues):
    """Values that need no completion."""


class BatchLoad(NamedTuple):
    """A batch read and its arguments: one statement serves all keys of a level."""

    read: AnyRead
    arguments: tuple[Hashable, ...] = ()


class ReadContext(Protocol):
    """The run of a plan, as columns see it."""

    caller: Caller
    variables: VariableValues

    budget: AnswerBudget
    """The sizes that the operation has read and returned."""

    @property
    def tx(self) -> Transaction: ...

    @property
    def counts_texts(self) -> bool:
        """True if the texts of the answer have to be counted."""

    def owners(self, rows: Rows, owner: Callable[..., object]) -> Rows:
        """Return the owner of each row, computed once per selection."""

    def prime(self, load: BatchLoad, key: Hashable, value: object) -> None:
        """Use `value` for `key`, so that it is not loaded."""

    def request(self, load: BatchLoad, keys: Sequence[Hashable]) -> None:
        """Request values for the keys that are not None, to be loaded with the level."""

    def loaded(self, load: BatchLoad, keys: Sequence[Hashable]) -> ColumnValues:
        """Return the loaded value of each key, None for None."""


Column = Callable[[ReadContext, Rows], ColumnValues | Callable[[], ColumnValues]]
"""Computes a field's values for rows, or returns a function that does once they are loaded."""


@dataclass(frozen=True, slots=True)
class SelectedField:
    """A field of a selection, as its source compiles it."""

    arguments: Arguments
    has_arguments: bool
    below: "Sequence[FieldSource]"
    """The sources of the fields selected of its objects."""
    required_below: RequiredColumns
    """The columns that they require."""

    @property
    def projection(self) -> Projection:
        """The columns of rows that the field reads."""
        columns = self.required_below
        return Projection(
            None if columns is None else columns - {ROW_KEY}, columns is None or ROW_KEY in columns
        )


class FieldSource:
    """The source of a field's value."""

    change: Callable[..., Awaitable[object]] | None = None
    """The change that a field of the mutation root makes."""

    length: int | None = None
    """The greatest length of a list that is no page; None if it is usually short."""

    full_length: int | None = None
    """The greatest length of a list that is usually short."""

    price_factor = 1
    """Cost of the fields below, as a multiple of that in a plan."""

    @property
    def projected_read(self) -> AnyRead | None:
        """The read, with a projection, of the rows that the fields below are computed from."""
        return None

    def scan_cost(self, arguments: Collection[str]) -> int:
        """Return the price of rows that the field with these arguments examines but not returns.

        A field with such a price runs on a scan thread.
        """
        return 0

    def resolver(self) -> Callable[..., object]:
        """Return the resolver of the reference executor."""
        raise NotImplementedError

    def column(self, selected: SelectedField) -> Column:
        """Return the field's code in a plan. Raises Unplanned if the kind has none."""
        raise Unplanned

    def requires(self, selected: SelectedField) -> RequiredColumns:
        """Return the columns that the field and the fields below it require of its row."""
        return NO_COLUMNS

    def declare(self, description: str, type: object = None) -> Declared:
        """Declare a field with this source."""
        return strawberry.field(
            resolver=self.resolver(),
            description=description,
            metadata={FIELD_SOURCE: self},
            graphql_type=type,
        )


def union(columns: RequiredColumns, others: RequiredColumns) -> RequiredColumns:
    """Return the columns of both."""
    return None if columns is None or others is None else columns | others


def parameters_of(function: Callable[..., object]) -> list[Parameter]:
    """Return a function's parameters, in their order."""
    return list(signature(function).parameters.values())


def with_arguments(
    resolve: Callable[..., object], parameters: Sequence[Parameter]
) -> Callable[..., object]:
    """Declare a resolver's keyword arguments, which strawberry reads from its signature."""
    row = Parameter("root", Parameter.POSITIONAL_OR_KEYWORD)
    resolve.__signature__ = Signature([row, *parameters])  # type: ignore[attr-defined]
    return resolve
