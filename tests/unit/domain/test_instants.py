"""Instants as text: RFC 3339, or a date, and nothing else of ISO 8601."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.instants import INSTANT_SYNTAX, format_instant, parse_instant

AT = datetime(2024, 1, 11, 22, 49, 10, 338_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-11T22:49:10.338Z",
        "2024-01-11t22:49:10.338z",
        "2024-01-11 22:49:10.338Z",
        "2024-01-11T22:49:10.338",
        "2024-01-11T22:49:10.338000999999Z",
        "2024-01-11T22:49:10.338+00:00",
        "2024-01-11T22:49:10.338-00:00",
        "2024-01-12T04:19:10.338+05:30",
        "2024-01-10T22:50:10.338-23:59",
    ],
)
def test_rfc_3339_is_taken_in_all_its_forms(text: str) -> None:
    assert parse_instant(text) == AT
    assert parse_instant(text).tzinfo is UTC


def test_a_date_is_its_first_instant() -> None:
    assert parse_instant("2024-01-11") == datetime(2024, 1, 11, tzinfo=UTC)


def test_a_leap_second_is_the_next_second() -> None:
    assert parse_instant("2016-12-31T23:59:60Z") == datetime(2017, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("2026-W01-1", "2026-W01", "2026-001", "20240111T224910Z", "20240111", "2024-01"),
        *("2024-01-11T22Z", "2024-01-11T22:49Z", "2024-01-11T22:49:10,338Z", "T22:49:10Z"),
        *("2024-01-11T22:49:10+0530", "2024-01-11T22:49:10+05", "2024-01-11T22:49:10.Z"),
        *("2024-01-11T22:49:10 Z", " 2024-01-11", "2024-01-11\n", "2024-01-11T", "2024-01-11Z"),
        *("+2024-01-11", "02024-01-11", "24-01-11", "-001-01-01", "0000-01-01", "2024-1-1"),
        *("2024-13-01", "2024-02-30", "2024-01-11T24:00:00Z", "2024-01-11T22:60:00Z"),
        *("2024-01-11T22:49:61Z", "2024-01-11T22:49:10+24:00", "2024-01-11T22:49:10+05:60"),
        *("9999-12-31T23:59:60Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"),
        *("\N{ARABIC-INDIC DIGIT TWO}024-01-11", "now", "", "1705013350"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_instant(text)


def test_the_error_says_what_is_taken() -> None:
    with pytest.raises(ValueError, match=r"'2026-W01-1' is not an RFC 3339 timestamp such as 2024"):
        parse_instant("2026-W01-1")
    assert "or a date" in INSTANT_SYNTAX


@given(
    st.datetimes(
        min_value=datetime(1, 1, 3),
        max_value=datetime(9999, 12, 29),
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11, minutes=-30))]),
    )
)
def test_a_formatted_instant_is_parsed_back(instant: datetime) -> None:
    assert parse_instant(instant.isoformat()) == instant
    whole = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    assert parse_instant(format_instant(instant)) == whole
