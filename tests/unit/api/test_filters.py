"""Filters in URLs: written filters are parsed back, and anything else is refused."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.rest.filters import (
    BOOLEAN,
    COULD_NOT_PARSE,
    ID,
    INSTANT,
    MAX_CONDITIONS,
    MAX_FILTER_BYTES,
    MAX_VALUES,
    TEXT,
    AttributeKind,
    InvalidFilter,
    enum_kind,
    parse_filter,
)
from app.domain.filters import Condition, Operator
from app.domain.jobs import JobStatus

KINDS: dict[str, AttributeKind] = {
    "id": ID,
    "name": TEXT,
    "status": enum_kind(JobStatus),
    "created_at": INSTANT,
    "has_children": BOOLEAN,
}
INSTANTS = st.datetimes(
    min_value=datetime(1, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "id": st.uuids(),
    "name": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    "status": st.sampled_from(JobStatus),
    "created_at": INSTANTS,
    "has_children": st.booleans(),
}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """Any valid condition."""
    attribute = draw(st.sampled_from(sorted(KINDS)))
    operator = draw(st.sampled_from(sorted(KINDS[attribute].operators)))
    max_values = 4 if operator is Operator.IN else 1
    values = draw(st.lists(VALUES[attribute], min_size=1, max_size=max_values))
    return Condition(attribute, operator, values)


def text_of(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


def quoted(text: str) -> str:
    """Quote and escape any text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def written(parts: Sequence[Condition]) -> str:
    """A filter that quotes every value."""
    return ":".join(
        f"{part.operator}({part.attribute},{','.join(quoted(text_of(v)) for v in part.values)})"
        for part in parts
    )


@given(st.lists(conditions(), min_size=1, max_size=MAX_CONDITIONS))
def test_a_written_filter_is_parsed_back(expected: list[Condition]) -> None:
    assert list(parse_filter(written(expected), KINDS)) == expected


@given(st.text(st.characters(codec="utf-8", exclude_characters='\0(),"'), max_size=20))
def test_a_value_without_punctuation_needs_no_quotes(text: str) -> None:
    plain = [Condition("name", Operator.EQ, [text.strip()])]
    assert list(parse_filter(f"eq(name,{text})", KINDS)) == plain
    several = [Condition("name", Operator.IN, [text.strip(), "b"])]
    assert list(parse_filter(f"in(name,{text},b)", KINDS)) == several


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for filter in (text, f"eq(name,{text}", f"eq(name,{text})", f"in(id,{text})", f"gt({text})"):
        with suppress(InvalidFilter):
            assert parse_filter(filter, KINDS)


@pytest.mark.parametrize(
    ("filter", "values"),
    [
        ("eq(name,Garden)", ["Garden"]),
        ("eq( name , Garden )", ["Garden"]),
        ("eq(name, Garden )", ["Garden"]),
        ("eq(name,a (b) c)", ["a (b) c"]),
        ("eq(name,a,b)", ["a,b"]),
        ("in(name,a,b)", ["a", "b"]),
        ("in(name,(a,b),c)", ["(a,b)", "c"]),
        ('in(name,"a,b",c)', ["a,b", "c"]),
        ('eq(name,")")', [")"]),
        ('eq(name, ")" )', [")"]),
        (r'eq(name,"\"")', ['"']),
        (r'eq(name,"\\")', ["\\"]),
        (r"eq(name,\)", ["\\"]),
        ('eq(name,6" pots)', ['6" pots']),
        ("eq(name,a:b)", ["a:b"]),
        ("eq(name,)", [""]),
        ('eq(name,"")', [""]),
        ("eq(name,%)", ["%"]),
        ("like(name,*Gar*den*)", ["*Gar*den*"]),
    ],
)
def test_punctuation_in_values(filter: str, values: list[str]) -> None:
    (condition,) = parse_filter(filter, KINDS)
    assert condition.values == values


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-11T22:49:10.338Z",
        "2024-01-11T22:49:10.338000+00:00",
        "2024-01-11t22:49:10.338z",
        "2024-01-11T22:49:10.338",
        "2024-01-12T04:19:10.338+05:30",
    ],
)
def test_instants_are_accepted_in_several_formats(text: str) -> None:
    (condition,) = parse_filter(f"gt(created_at,{text})", KINDS)
    assert condition.values == [datetime(2024, 1, 11, 22, 49, 10, 338_000, tzinfo=UTC)]


def test_the_refusal_of_another_format_says_what_is_taken() -> None:
    with pytest.raises(InvalidFilter, match="is not a value of created_at: an RFC 3339 timestamp"):
        parse_filter("gt(created_at,2026-W01-1)", KINDS)


def test_a_date_is_its_first_instant() -> None:
    (condition,) = parse_filter("gt(created_at,2024-01-11)", KINDS)
    assert condition.values == [datetime(2024, 1, 11, tzinfo=UTC)]


def test_ids_are_accepted_in_every_notation() -> None:
    id = UUID("1e5da4bf-b2c0-4619-bb3d-f749875b15bb")
    (condition,) = parse_filter(f"in(id,{id},{str(id).upper()},{id.hex})", KINDS)
    assert condition.values == [id] * 3


@pytest.mark.parametrize(
    "filter",
    [
        *("", " ", ":", "()", "eq", "eq()", "eq(name)", "eq(name,", "eq(name,a", "name", "name=a"),
        *("eq(name,a):", ":eq(name,a)", "eq(name,a)eq(name,b)", "eq(name,a);eq(name,b)"),
        *("eq(name,a) ", "eq(name,a))", "eq(name,a)::eq(name,b)", "eq(name,a),eq(name,b)"),
        *('eq(name,"a)', 'eq(name,")', 'eq(name,"a" b)', "EQ(name,a)", "eq[name,a]"),
        *("eq(name,a\0)", 'eq(name,"\0")', "like(name,\0)"),
        *("ne(name,a)", "is(name,a)", "gt(name,a)", "le(name,a)"),
        *("eq(nam,a)", "eq(store,a)", "eq(,a)", "eq(job_seq,1)", "eq(Name,a)", "eq(data.id,a)"),
        *("like(id,a)", "gt(id,a)", "eq(id,a)", "eq(id,)", "in(id,a)"),
        *("eq(status,PENDING)", "eq(status,done)", "like(status,p*)", "lt(status,pending)"),
        *("gt(created_at,now)", "gt(created_at,)", "like(created_at,2024*)", "eq(created_at,1)"),
        *("gt(created_at,2024-13-01)", "gt(created_at,9999-12-31T23:59:59-12:00)"),
        *("gt(created_at,0001-01-01T00:00:00+12:00)", "eq(has_children,True)"),
        *("eq(has_children,1)", "in(has_children,true)", 'in(name,"a,b)'),
    ],
)
def test_any_other_filter_is_refused(filter: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        parse_filter(filter, KINDS)
    assert refused.value.status == 400
    assert str(refused.value).startswith(COULD_NOT_PARSE)


def test_the_number_of_conditions_is_limited() -> None:
    full = ["eq(name,a)"] * MAX_CONDITIONS
    assert len(parse_filter(":".join(full), KINDS)) == MAX_CONDITIONS == 10
    with pytest.raises(InvalidFilter, match="10 conditions"):
        parse_filter(":".join([*full, "eq(name,a)"]), KINDS)


def test_the_number_of_values_is_limited() -> None:
    full = ["a"] * MAX_VALUES
    (condition,) = parse_filter(f"in(name,{','.join(full)})", KINDS)
    assert condition.values == full
    with pytest.raises(InvalidFilter, match="100 values"):
        parse_filter(f"in(name,{','.join([*full, 'a'])})", KINDS)


@pytest.mark.parametrize("letter", ["a", "é", "🌱"])
def test_the_size_of_a_filter_is_limited(letter: str) -> None:
    room = MAX_FILTER_BYTES - len("eq(name,)")
    text = letter * (room // len(letter.encode()))
    (condition,) = parse_filter(f"eq(name,{text})".ljust(1), KINDS)
    assert condition.values == [text]
    with pytest.raises(InvalidFilter, match="8,192 bytes"):
        parse_filter(f"eq(name,{text + letter})", KINDS)
