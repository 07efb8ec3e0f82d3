"""Clients' filter conditions as SQL."""

from collections.abc import Mapping, Sequence
from typing import assert_never

import sqlalchemy as sa

from app.domain.filters import Condition, Conditions, Operator
from app.storage.engine.sqlalchemy_seam import ColumnType
from app.storage.engine.statements import AnyColumn
from app.storage.sql.column_types import type_of
from app.storage.sql.dialects import default_collation

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
        _comparison(
            columns[attribute],
            operator,
            [
                sa.bindparam(
                    f"filter_{index}_{number}", type_=_type_of(columns[attribute], operator)
                )
                for number in range(count)
            ],
        )
        for index, (attribute, operator, count) in enumerate(shape)
    ]


def _type_of(column: AnyColumn, operator: Operator) -> ColumnType:
    # A pattern has no collation of its own: it takes that of `default_collation`.
    return sa.Text() if operator is Operator.LIKE else type_of(column)


def bind_values(conditions: Conditions) -> dict[str, object]:
    """Return the values of the parameters of `conditions_for`."""
    return {
        f"filter_{index}_{number}": value
        for index, condition in enumerate(conditions)
        for number, value in enumerate(_values(condition))
    }


def _values(condition: Condition) -> Sequence[object]:
    like = condition.operator is Operator.LIKE
    return [_pattern(value) for value in condition.values] if like else condition.values


def _comparison(
    column: AnyColumn, operator: Operator, values: Sequence[AnyColumn]
) -> sa.ColumnElement[bool]:
    match operator:
        case Operator.EQ:
            return column == values[0]
        case Operator.IN:
            return column.in_(values) if values else sa.false()
        case Operator.LIKE:
            return default_collation(column).ilike(values[0], escape="\\")
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
