"""A clock that tests advance."""

from datetime import UTC, datetime, timedelta
from time import monotonic


class HourClock:
    """A clock that starts on the full hour, so that no test runs across the turn of an hour."""

    def __init__(self) -> None:
        self._start = monotonic()

    def __call__(self, _tx: object = None) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=monotonic() - self._start)


class Clock:
    """A clock that stands still until `advance`."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self, _tx: object = None) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by
