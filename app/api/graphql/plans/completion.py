"""Completion of whole columns of values, as GraphQL's CompleteValue does for single values."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from types import NoneType

from graphql import (
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    is_list_type,
    is_non_null_type,
)
from strawberry.types import get_object_definition

from app.api.graphql.fields.source import ColumnValues, EncodedColumn, JsonValues, Unplanned
from app.api.graphql.plans.plan import Complete, Level, Selection

INT_LIMIT = 2**31
"""GraphQL's Int is less than this, and not less than its negative."""

PLAIN_TYPES: Mapping[str, type] = {
    "ID": str,
    "String": str,
    "Boolean": bool,
    "Int": int,
    "Float": float,
}
"""Python types that GraphQL's own scalars serialize unchanged, except numbers out of range."""

SelectionOf = Callable[[GraphQLObjectType], Selection]
"""Returns the selected fields of an object type."""


def complete_leaf(type_: GraphQLLeafType) -> Complete:
    """Return the completion of a scalar or an enum."""
    plain_types = {PLAIN_TYPES.get(type_.name, EncodedColumn), NoneType}
    is_number = plain_types & {int, float}

    def serialize(value: object) -> object:
        serialized = None if value is None else type_.coerce_output_value(value)
        if serialized is None and value is not None:
            raise Unplanned
        return serialized

    def complete(_level: Level, values: ColumnValues) -> JsonValues:
        if type(values) is EncodedColumn:
            return values
        if plain_types >= {*map(type, values)} and not (is_number and _has_invalid_number(values)):
            return list(values)
        return [serialize(value) for value in values]

    return complete


def _has_invalid_number(numbers: Sequence[int | float | None]) -> bool:
    """Return True if a number is out of GraphQL's range: infinite, NaN, or an Int of 32 bits."""
    return not all(
        number is None
        or (isfinite(number) if type(number) is float else -INT_LIMIT <= number < INT_LIMIT)
        for number in numbers
    )


def complete_object(selection: Selection) -> Complete:
    """Return the completion of an object type."""

    def complete(level: Level, values: ColumnValues) -> JsonValues:
        rows = [value for value in values if value is not None]
        objects = level.add(selection, rows)
        if len(rows) == len(values):
            return list(objects)
        next_object = iter(objects)
        return [None if value is None else next(next_object) for value in values]

    return complete


def complete_abstract(types: Sequence[GraphQLObjectType], selection_of: SelectionOf) -> Complete:
    """Return the completion of an interface or a union of these object types."""
    completions = {type_.name: complete_object(selection_of(type_)) for type_ in types}
    by_class: dict[type, Complete] = {}

    def completion_of(value: object) -> Complete:
        definition = get_object_definition(value)
        if definition is not None:
            # An instance of the GraphQL type itself, such as a payload error, and not a row.
            return completions[definition.name]
        for type_ in types:
            if type_.is_type_of is None:
                raise Unplanned
            if type_.is_type_of(value, None):  # type: ignore[arg-type]  # our types ignore the info
                return completions[type_.name]
        raise Unplanned

    def complete(level: Level, values: ColumnValues) -> JsonValues:
        groups: dict[int, tuple[Complete, list[int]]] = {}
        for index, value in enumerate(values):
            if value is not None:
                completion = by_class.get(type(value))
                if completion is None:
                    completion = by_class[type(value)] = completion_of(value)
                groups.setdefault(id(completion), (completion, []))[1].append(index)
        completed: JsonValues = [None] * len(values)
        for completion, indexes in groups.values():
            group = completion(level, [values[index] for index in indexes])
            for index, value in zip(indexes, group, strict=True):
                completed[index] = value
        return completed

    return complete


def complete_wrapped(type_: GraphQLOutputType, named: Complete) -> Complete:
    """Return the completion of `type_`, given the one of the named type inside its wrappers."""
    if is_non_null_type(type_):
        return _non_null(complete_wrapped(type_.of_type, named))
    if is_list_type(type_):
        return _list(complete_wrapped(type_.of_type, named))
    return named


def _non_null(inner: Complete) -> Complete:
    def complete(level: Level, values: ColumnValues) -> JsonValues:
        completed = inner(level, values)
        if None in completed:
            raise Unplanned
        return completed

    return complete


def _list(inner: Complete) -> Complete:
    def complete(level: Level, values: ColumnValues) -> JsonValues:
        items = [item for value in values if value is not None for item in value]
        next_item = iter(inner(level, items))
        return [
            None if value is None else [next(next_item) for _ in range(len(value))]
            for value in values
        ]

    return complete
