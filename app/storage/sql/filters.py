"""Conditions on the rows of a list, as clients put them together."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import sqlalchemy as sa

from app.domain.filters import Condition, Conditions, Operator
from app.storage.sql.dialects import any_case

FilterShape = tuple[tuple[str, Operator, int], ...]
"""Conditions without their values: the attribute, the operator and how many values of each."""


def filter_shape(conditions: Conditions) -> FilterShape:
    """What a statement depends on, however the values change."""
    return tuple((one.attribute, one.operator, len(one.values)) for one in conditions)


def conditions_for(shape: FilterShape, columns: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    """Conditions of that shape as SQL with parameters, given the column of each attribute."""
    return [
        _holds(
            columns[attribute],
            operator,
            [
                sa.bindparam(
                    f"asked_{place}_{number}", type_=_type_of(columns[attribute], operator)
                )
                for number in range(count)
            ],
        )
        for place, (attribute, operator, count) in enumerate(shape)
    ]


def _type_of(column: Any, operator: Operator) -> Any:
    # A pattern has no collation of its own: it is compared in any case's.
    return sa.Text() if operator is Operator.LIKE else column.type


def bind_values(conditions: Conditions) -> dict[str, Any]:
    """The values of the parameters."""
    return {
        f"asked_{place}_{number}": value
        for place, condition in enumerate(conditions)
        for number, value in enumerate(_values(condition))
    }


def matching(conditions: Conditions, columns: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    """The conditions as SQL with their values."""
    return [_holds(columns[one.attribute], one.operator, _values(one)) for one in conditions]


def _values(condition: Condition) -> Sequence[Any]:
    like = condition.operator is Operator.LIKE
    return [_pattern(value) for value in condition.values] if like else condition.values


def _holds(column: Any, operator: Operator, values: Sequence[Any]) -> Any:
    match operator:
        case Operator.EQ:
            return column == values[0]
        case Operator.IN:
            return column.in_(values) if values else sa.false()
        case Operator.LIKE:
            return any_case(column).ilike(values[0], escape="\\")
        case Operator.LT:
            return column < values[0]
        case Operator.LE:
            return column <= values[0]
        case Operator.GT:
            return column > values[0]
        case Operator.GE:
            return column >= values[0]
    assert_never(operator)


def _pattern(like: str) -> str:
    for special in ("\\", "%", "_"):
        like = like.replace(special, "\\" + special)
    return like.replace("*", "%")
