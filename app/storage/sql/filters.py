"""Clients' filter conditions as SQL."""

from collections.abc import Mapping
from typing import assert_never

import sqlalchemy as sa

from app.domain.filters import Conditions, Operator
from app.storage.engine.statements import AnyColumn
from app.storage.sql.column_types import type_of
from app.storage.sql.patterns import ilike, like, pattern_values

FilterShape = tuple[tuple[str, Operator, int], ...]
"""Conditions without values: attribute, operator and number of values of each."""


def filter_shape(conditions: Conditions) -> FilterShape:
    """Return the part of the conditions that a statement depends on."""
    return tuple(
        (condition.attribute, condition.operator, len(condition.values)) for condition in conditions
    )


def conditions_for(
    shape: FilterShape, columns: Mapping[str, AnyColumn]
) -> list[sa.ColumnElement[bool]]:
    """Return conditions as SQL with parameters; `columns` has the column of each attribute."""
    return [
        condition_for(shape, index, columns[attribute])
        for index, (attribute, _, _) in enumerate(shape)
    ]


def condition_for(shape: FilterShape, index: int, column: AnyColumn) -> sa.ColumnElement[bool]:
    """Return one condition of `conditions_for`, on this column."""
    _, operator, count = shape[index]
    return _comparison(column, operator, f"filter_{index}", count)


def bind_values(conditions: Conditions) -> dict[str, object]:
    """Return the values of the parameters of `conditions_for`."""
    values: dict[str, object] = {}
    for index, condition in enumerate(conditions):
        prefix = f"filter_{index}"
        match condition.operator:
            case Operator.LIKE | Operator.ILIKE:
                [pattern] = condition.values
                any_case = condition.operator is Operator.ILIKE
                values |= pattern_values(prefix, pattern, any_case=any_case)
            case _:
                values |= {
                    f"{prefix}_{number}": value for number, value in enumerate(condition.values)
                }
    return values


def _comparison(
    column: AnyColumn, operator: Operator, prefix: str, count: int
) -> sa.ColumnElement[bool]:
    values = [sa.bindparam(f"{prefix}_{number}", type_=type_of(column)) for number in range(count)]
    match operator:
        case Operator.EQ:
            return column == values[0]
        case Operator.IN:
            return column.in_(values) if values else sa.false()
        case Operator.LIKE:
            return like(column, prefix)
        case Operator.ILIKE:
            return ilike(column, prefix)
        case Operator.LT:
            return column < values[0]
        case Operator.LE:
            return column <= values[0]
        case Operator.GT:
            return column > values[0]
        case Operator.GE:
            return column >= values[0]
    assert_never(operator)
