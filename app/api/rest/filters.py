"""`filter=eq(status,pending):gt(created_at,2024-01-11T22:49:10.338Z)`: how it is read.

A value with only one of a pair of parentheses, or one of several with a comma, is put in double
quotes, with `\\` before what would end them. Source: domain.md, "REST shapes" and "REST endpoints".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from app.api.http.refusals import BadRequest
from app.domain.attributes import checked_text
from app.domain.errors import InvalidInput
from app.domain.filters import Condition, Conditions, Operator
from app.domain.ids import uuid_of
from app.domain.instants import instant_of

MAX_CONDITIONS = 10
MAX_VALUES = 100
FILTER_BYTES = 8 * 1024

UNREADABLE = "Could not parse the supplied filter"

_HEAD = re.compile(r"([a-z]+)\(\s*([A-Za-z_.]+)\s*,")
_QUOTE = re.compile(r'\s*"')
_QUOTED = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Unreadable(BadRequest):
    """A filter that cannot be read, or asks for what it cannot be asked."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(f"{UNREADABLE}: {reason}." if reason else UNREADABLE)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of attribute: how its values are read, with ValueError for what is none, and how they
    may be compared."""

    read: Callable[[str], Any]
    operators: frozenset[Operator]


def _text(text: str) -> str:
    try:
        return checked_text(text)
    except InvalidInput as error:
        raise ValueError from error


def _id(text: str) -> Any:
    uuid = uuid_of(text)
    if uuid is None:
        raise ValueError
    return uuid


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text]


_SAME = frozenset({Operator.EQ, Operator.IN})
TEXT = Kind(_text, _SAME | {Operator.LIKE})
ID = Kind(_id, _SAME)
TRUTH = Kind(_truth, frozenset({Operator.EQ}))
INSTANT = Kind(instant_of, _SAME | {Operator.LT, Operator.LE, Operator.GT, Operator.GE})


def one_of(values: type[Enum]) -> Kind:
    """The kind whose values are those of an enum."""
    return Kind(values, _SAME)


def parse(filter: str, attributes: Mapping[str, Kind]) -> Conditions:
    """The conditions of a filter on these attributes. Raises Unreadable."""
    if len(filter.encode()) > FILTER_BYTES:
        raise Unreadable(f"it has more than {FILTER_BYTES:,} bytes")
    conditions: list[Condition] = []
    place = 0
    while True:
        condition, place = _condition(filter, place, attributes)
        conditions.append(condition)
        if len(conditions) > MAX_CONDITIONS:
            raise Unreadable(f"it has more than {MAX_CONDITIONS} conditions")
        if place == len(filter):
            return conditions
        if filter[place] != ":":
            raise Unreadable
        place += 1


def _condition(filter: str, place: int, attributes: Mapping[str, Kind]) -> tuple[Condition, int]:
    head = _HEAD.match(filter, place)
    if head is None:
        raise Unreadable
    said, attribute = head.groups()
    if said not in tuple(Operator):
        raise Unreadable(f"there is no operator {said}")
    kind = attributes.get(attribute)
    if kind is None:
        raise Unreadable(f"{attribute} is none of {', '.join(attributes)}")
    operator = Operator(said)
    if operator not in kind.operators:
        raise Unreadable(f"{attribute} can not be compared with {operator}")
    texts, place = _values(filter, head.end(), several=operator is Operator.IN)
    try:
        return Condition(attribute, operator, [kind.read(text) for text in texts]), place
    except (ValueError, KeyError, OverflowError):
        raise Unreadable(f"{', '.join(texts)} is no value of {attribute}") from None


def _values(filter: str, place: int, several: bool) -> tuple[list[str], int]:
    """The values up to the parenthesis that ends them, and the place behind it."""
    values: list[str] = []
    while len(values) < MAX_VALUES:
        value, place = (_quoted if _QUOTE.match(filter, place) else _plain)(filter, place, several)
        values.append(value)
        if filter[place] == ")":
            return values, place + 1
        place += 1
    raise Unreadable(f"it has more than {MAX_VALUES} values")


def _quoted(filter: str, place: int, several: bool) -> tuple[str, int]:
    """The value between the quotes, and the place of the comma or parenthesis behind them."""
    value = _QUOTED.match(filter, place)
    if value is None or filter[value.end() : value.end() + 1] not in (
        (",", ")") if several else (")",)
    ):
        raise Unreadable
    return _ESCAPED.sub(r"\1", value[1]), value.end()


def _plain(filter: str, place: int, several: bool) -> tuple[str, int]:
    """The value up to the comma, if there may be several, or the parenthesis that ends it, whose
    place is told: it may have pairs of parentheses in it."""
    open_ones = 0
    for end in range(place, len(filter)):
        match filter[end]:
            case "(":
                open_ones += 1
            case ")" if open_ones:
                open_ones -= 1
            case ")":
                return filter[place:end].strip(), end
            case "," if several and not open_ones:
                return filter[place:end].strip(), end
    raise Unreadable
