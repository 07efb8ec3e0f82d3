"""Conditions on the rows of a list, as clients put them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

import sqlalchemy as sa

from app.storage.dialects import any_case


class Operator(StrEnum):
    """How an attribute is compared. Values are those of the REST documents."""

    EQ = "eq"
    IN = "in"
    LIKE = "like"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


@dataclass(frozen=True, slots=True)
class Condition:
    """What an attribute has to be: of IN one of the values, otherwise so compared to the only one.

    Of LIKE, `*` stands for anything, and case does not count.
    """

    attribute: str
    operator: Operator
    values: Sequence[Any]


Conditions = Sequence[Condition]
"""Conditions that all have to hold; none ask nothing."""


def matching(conditions: Conditions, columns: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    """The conditions as SQL, given the column of each attribute."""
    return [_holds(columns[condition.attribute], condition) for condition in conditions]


def _holds(column: Any, condition: Condition) -> Any:
    values = condition.values
    match condition.operator:
        case Operator.EQ:
            return column == values[0]
        case Operator.IN:
            return column.in_(values)
        case Operator.LIKE:
            return any_case(column).ilike(_pattern(values[0]), escape="\\")
        case Operator.LT:
            return column < values[0]
        case Operator.LE:
            return column <= values[0]
        case Operator.GT:
            return column > values[0]
        case Operator.GE:
            return column >= values[0]
    assert_never(condition.operator)


def _pattern(like: str) -> str:
    for special in ("\\", "%", "_"):
        like = like.replace(special, "\\" + special)
    return like.replace("*", "%")
