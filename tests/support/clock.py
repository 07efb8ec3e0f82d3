"""A clock that tests advance."""

from datetime import UTC, datetime, timedelta


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self, _session: object = None) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        """Let this much time pass."""
        self.now += by
