"""Instants as clients write and read them: RFC 3339 in UTC, milliseconds and Z."""

from datetime import UTC, datetime


def instant_text(instant: datetime) -> str:
    """The instant as clients see it."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant_of(text: str) -> datetime:
    """The instant that a client wrote, in UTC also where no offset is given. Raises ValueError,
    OverflowError."""
    instant = datetime.fromisoformat(text)
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
