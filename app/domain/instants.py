"""Instants as text: RFC 3339 in UTC, with milliseconds and Z."""

from datetime import UTC, datetime


def format_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """Parse ISO 8601; without an offset it is UTC. Raises ValueError, OverflowError."""
    instant = datetime.fromisoformat(text)
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
