"""Filter conditions on the rows of a list, and its sort order."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Operator(StrEnum):
    """A comparison operator. Values are those of the REST documents."""

    EQ = "eq"
    IN = "in"
    LIKE = "like"
    ILIKE = "ilike"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of an attribute with one value, or with any number of values for IN.

    In the values of LIKE and ILIKE `*` matches any text. ILIKE ignores case, by the rules of
    `domain.letters`.
    """

    attribute: str
    operator: Operator
    values: Sequence[Any]


Conditions = Sequence[Condition]
"""Conditions that must all hold; an empty sequence matches every row."""


class Sort(NamedTuple):
    """The attribute that orders a list, and the direction."""

    attribute: str
    descending: bool = False
