"""Values of fields, made what clients are told: column by column, as GraphQL completes them one by
one."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from types import NoneType
from typing import Any

from graphql import (
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    is_list_type,
    is_non_null_type,
)
from strawberry.types.base import get_object_definition

from app.api.graphql.plans.plan import (
    ColumnValues,
    Complete,
    EncodedColumn,
    Level,
    Selection,
    Unplanned,
)

MAX_CACHED_KEYS = 2**31
"""What GraphQL's Int is less than."""

PLAIN: Mapping[str, type] = {
    "ID": str,
    "String": str,
    "Boolean": bool,
    "Int": int,
    "Float": float,
}
"""The values that GraphQL's own scalars let through without a change, but for what JSON or GraphQL
has no number for."""

Selected = Callable[[GraphQLObjectType], Selection]
"""What is selected of the objects of a type."""


def leaves(type_: GraphQLLeafType) -> Complete:
    """Of a scalar or an enum."""
    plain = {PLAIN.get(type_.name, EncodedColumn), NoneType}
    is_number = plain & {int, float}

    def tell(value: Any) -> Any:
        told = None if value is None else type_.coerce_output_value(value)
        if told is None and value is not None:
            raise Unplanned
        return told

    def complete(_level: Level, values: ColumnValues) -> list[Any]:
        if type(values) is EncodedColumn:
            return values
        if plain >= {*map(type, values)} and not (is_number and _any_off(values)):
            return list(values)
        return [tell(value) for value in values]

    return complete


def _any_off(numbers: Sequence[int | float | None]) -> bool:
    """Whether one of them is a number that GraphQL does not know."""
    return not all(
        number is None
        or (
            isfinite(number)
            if type(number) is float
            else -MAX_CACHED_KEYS <= number < MAX_CACHED_KEYS
        )
        for number in numbers
    )


def objects(selection: Selection) -> Complete:
    """Of one type of object."""

    def complete(level: Level, values: ColumnValues) -> list[Any]:
        rows = [value for value in values if value is not None]
        told = level.begin(selection, rows)
        if len(rows) == len(values):
            return list(told)
        begun = iter(told)
        return [None if value is None else next(begun) for value in values]

    return complete


def objects_of(types: Sequence[GraphQLObjectType], selected: Selected) -> Complete:
    """Of several types of object: each value knows which one it is of."""
    type_of: dict[type, Complete] = {}
    completes = {type_.name: objects(selected(type_)) for type_ in types}

    def kind_of(value: Any) -> Complete:
        definition = get_object_definition(value)
        if definition is not None:
            # Not a row: an object of the type itself.
            return completes[definition.name]
        for type_ in types:
            if type_.is_type_of is None:
                raise Unplanned
            if type_.is_type_of(value, None):  # type: ignore[arg-type]  # none of ours looks at it
                return completes[type_.name]
        raise Unplanned

    def complete(level: Level, values: ColumnValues) -> list[Any]:
        groups: dict[int, tuple[Complete, list[int]]] = {}
        for place, value in enumerate(values):
            if value is not None:
                of = type_of.get(type(value))
                if of is None:
                    of = type_of[type(value)] = kind_of(value)
                groups.setdefault(id(of), (of, []))[1].append(place)
        told: list[Any] = [None] * len(values)
        for of, places in groups.values():
            for place, one in zip(
                places, of(level, [values[place] for place in places]), strict=True
            ):
                told[place] = one
        return told

    return complete


def completed(type_: GraphQLOutputType, named: Complete) -> Complete:
    """Of a type that may be wrapped in lists and non-nulls, given that of the named type within."""
    if is_non_null_type(type_):
        return _never_null(completed(type_.of_type, named))
    if is_list_type(type_):
        return _lists(completed(type_.of_type, named))
    return named


def _never_null(within: Complete) -> Complete:
    def complete(level: Level, values: ColumnValues) -> list[Any]:
        told = within(level, values)
        if None in told:
            raise Unplanned
        return told

    return complete


def _lists(within: Complete) -> Complete:
    def complete(level: Level, values: ColumnValues) -> list[Any]:
        told = iter(within(level, [one for value in values if value is not None for one in value]))
        return [
            None if value is None else [next(told) for _ in range(len(value))] for value in values
        ]

    return complete
