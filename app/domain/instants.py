"""Instants as text: RFC 3339 in UTC, with milliseconds and Z."""

import re
from datetime import UTC, datetime, timedelta

INSTANT_SYNTAX = (
    "an RFC 3339 timestamp such as 2024-01-11T22:49:10.338Z (in UTC without an offset), or a date"
)
"""The syntax that `parse_instant` accepts, for messages."""

_HOUR_MINUTE = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    rf"(?:[Tt ]({_HOUR_MINUTE}):([0-9]{{2}})(?:\.([0-9]+))?([Zz]|[+-]{_HOUR_MINUTE})?)?"
)

_LEAP_SECOND = 60


def format_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """Parse INSTANT_SYNTAX; a date is its first instant in UTC. Raises ValueError.

    Other forms of ISO 8601, such as 2026-W01-1, are not part of RFC 3339.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not {INSTANT_SYNTAX}")
    date, time, seconds, fraction, offset = match.groups()
    if time is None:
        return datetime.fromisoformat(date).replace(tzinfo=UTC)
    instant = datetime.fromisoformat(f"{date}T{time}{(offset or 'Z').upper()}")
    if int(seconds) > _LEAP_SECOND:
        raise ValueError(f"a minute has no second {seconds}")
    # Python's times have six digits, and no leap seconds: that one is the next second.
    microseconds = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        instant += timedelta(seconds=int(seconds), microseconds=microseconds)
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is not in the years 1 to 9999 in UTC") from None
