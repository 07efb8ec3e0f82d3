"""Conditions on the rows of a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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
