"""Parser of filters such as `eq(status,pending):gt(created_at,2024-01-11T22:49:10.338Z)`.

Values with an unbalanced parenthesis, or with a comma where several are allowed, are written in
double quotes, with `\\` before a quote or backslash. Source: domain.md, "REST shapes" and "REST
endpoints".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from app.api.http.refusals import BadRequest
from app.domain.attributes import NAME_LIMIT, checked_locale, checked_text
from app.domain.errors import InvalidInput
from app.domain.filters import Condition, Conditions, Operator
from app.domain.ids import uuid_of
from app.domain.instants import INSTANT_SYNTAX, parse_instant

MAX_CONDITIONS = 10
MAX_VALUES = 100
MAX_FILTER_BYTES = 8 * 1024

LOCALE = "[locale]"
"""A locale in the name of an attribute."""

COULD_NOT_PARSE = "Could not parse the supplied filter"

_HEAD = re.compile(r"([a-z]+)\(\s*([A-Za-z0-9_.\[\]-]+)\s*,")
_QUOTE = re.compile(r'\s*"')
_QUOTED = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class InvalidFilter(BadRequest):
    """A filter with a syntax error, or with a condition that its list does not support."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(f"{COULD_NOT_PARSE}: {reason}." if reason else COULD_NOT_PARSE)


@dataclass(frozen=True, slots=True)
class AttributeKind:
    """The parser of an attribute's values, and the operators it supports."""

    parse: Callable[[str], object]
    """Raises ValueError or KeyError for an invalid value."""
    operators: frozenset[Operator]
    syntax: str | None = None
    """The syntax that `parse` accepts, for messages."""


def _text(text: str) -> str:
    try:
        return checked_text(text)
    except InvalidInput as error:
        raise ValueError from error


def _id(text: str) -> UUID:
    uuid = uuid_of(text)
    if uuid is None:
        raise ValueError
    return uuid


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text]


_EQUALITY = frozenset({Operator.EQ, Operator.IN})
_ORDER = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE})
TEXT = AttributeKind(_text, _EQUALITY | {Operator.LIKE, Operator.ILIKE})
ID = AttributeKind(_id, _EQUALITY | _ORDER)
ID_ALONE = AttributeKind(_id, _EQUALITY)
"""An id of which an object has several, so that it has no order."""
BOOLEAN = AttributeKind(_boolean, frozenset({Operator.EQ}))
INSTANT = AttributeKind(
    parse_instant,
    _EQUALITY | _ORDER,
    INSTANT_SYNTAX,
)


def enum_kind(values: type[Enum]) -> AttributeKind:
    """Attribute kind whose values are those of an enum."""
    return AttributeKind(values, _EQUALITY)


def parse_filter(filter: str, attributes: Mapping[str, AttributeKind]) -> Conditions:
    """Parse a filter on these attributes. Raises InvalidFilter."""
    if len(filter.encode()) > MAX_FILTER_BYTES:
        raise InvalidFilter(f"it has more than {MAX_FILTER_BYTES:,} bytes")
    conditions: list[Condition] = []
    index = 0
    while True:
        condition, index = _condition(filter, index, attributes)
        conditions.append(condition)
        if len(conditions) > MAX_CONDITIONS:
            raise InvalidFilter(f"it has more than {MAX_CONDITIONS} conditions")
        if index == len(filter):
            return conditions
        if filter[index] != ":":
            raise InvalidFilter
        index += 1


def _condition(
    filter: str, start: int, attributes: Mapping[str, AttributeKind]
) -> tuple[Condition, int]:
    """Parse a condition. Return it and the index after its closing parenthesis."""
    head = _HEAD.match(filter, start)
    if head is None:
        raise InvalidFilter
    operator_name, written = head.groups()
    if operator_name not in tuple(Operator):
        raise InvalidFilter(f"there is no operator {operator_name}")
    attribute, kind_name = _attribute(written)
    kind = attributes.get(kind_name)
    # Brackets that remain were nested or unbalanced.
    if kind is None or "[" in attribute or "]" in attribute:
        raise InvalidFilter(f"{attribute} is not one of {', '.join(attributes)}")
    operator = Operator(operator_name)
    if operator not in kind.operators:
        raise InvalidFilter(f"{attribute} does not support {operator}")
    texts, end = _values(filter, head.end(), several=operator is Operator.IN)
    if operator in (Operator.LIKE, Operator.ILIKE) and len(texts[0]) > NAME_LIMIT:
        raise InvalidFilter(f"the pattern has more than {NAME_LIMIT:,} characters")
    try:
        return Condition(attribute, operator, [kind.parse(text) for text in texts]), end
    except (ValueError, KeyError):
        reason = f"{', '.join(texts)} is not a value of {attribute}"
        raise InvalidFilter(f"{reason}: {kind.syntax}" if kind.syntax else reason) from None


def _attribute(written: str) -> tuple[str, str]:
    """Return an attribute without brackets, and its name in the list of attributes.

    `locales.[fr-FR].name` and `locales.fr-FR.name` are one attribute: `locales.[locale].name` in
    the list.
    """
    parts = [
        part[1:-1] if part.startswith("[") and part.endswith("]") else part
        for part in written.split(".")
    ]
    named = [
        LOCALE if index and parts[index - 1] == "locales" and _is_locale(part) else part
        for index, part in enumerate(parts)
    ]
    return ".".join(parts), ".".join(named)


def _is_locale(part: str) -> bool:
    try:
        checked_locale(part)
    except InvalidInput:
        return False
    return True


def _values(filter: str, start: int, several: bool) -> tuple[list[str], int]:
    """Parse values. Return them and the index after the closing parenthesis."""
    values: list[str] = []
    index = start
    while len(values) < MAX_VALUES:
        value, index = (_quoted if _QUOTE.match(filter, index) else _plain)(filter, index, several)
        values.append(value)
        if filter[index] == ")":
            return values, index + 1
        index += 1
    raise InvalidFilter(f"it has more than {MAX_VALUES} values")


def _quoted(filter: str, start: int, several: bool) -> tuple[str, int]:
    """Parse a quoted value. Return it and the index of the comma or parenthesis after it."""
    value = _QUOTED.match(filter, start)
    if value is None or filter[value.end() : value.end() + 1] not in (
        (",", ")") if several else (")",)
    ):
        raise InvalidFilter
    return _ESCAPED.sub(r"\1", value[1]), value.end()


def _plain(filter: str, start: int, several: bool) -> tuple[str, int]:
    """Parse an unquoted value, which may have balanced parentheses.

    Return it and the index of the comma, if `several` are allowed, or parenthesis after it.
    """
    depth = 0
    for end in range(start, len(filter)):
        match filter[end]:
            case "(":
                depth += 1
            case ")" if depth:
                depth -= 1
            case ")":
                return filter[start:end].strip(), end
            case "," if several and not depth:
                return filter[start:end].strip(), end
    raise InvalidFilter
