"""Forecasts: when a running job ends and when a pending one starts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a store's latest jobs went: seconds and items, older jobs counting less."""

    seconds: float = 0.0
    items: float = 0.0

    FADING: ClassVar[float] = 0.8

    def with_job(self, seconds: float, items: int) -> "Pace":
        """The pace after one more job that took `seconds` for `items`."""
        return Pace(self.seconds * self.FADING + seconds, self.items * self.FADING + items)

    def seconds_for(self, items: int) -> float | None:
        """Seconds that `items` are expected to take; None before any job has shown it."""
        return self.seconds / self.items * items if self.items else None


def estimated_end(
    started_at: datetime, now: datetime, completed: int, total: int | None, pace: Pace
) -> datetime | None:
    """When a running job should end: by its own speed once it has one, else by the store's."""
    if total and completed:
        return started_at + (now - started_at) * (max(total, completed) / completed)
    expected = pace.seconds_for(total or 0)
    return None if expected is None else max(now, started_at + timedelta(seconds=expected))


@dataclass(frozen=True, slots=True)
class RunningJob:
    """Progress of the started job of a lane."""

    started_at: datetime | None
    completed: int
    total: int
    """Items, estimated until the job has counted them."""


@dataclass(frozen=True, slots=True)
class QueueForecast:
    """Inputs for start-time estimates of a store's queue."""

    running: RunningJob | None
    pace: Pace
    paused: bool = False

    def start_time(self, now: datetime, jobs_ahead: int, items_ahead: int) -> datetime | None:
        """Estimate the start of a pending job after `jobs_ahead` jobs with `items_ahead` items.

        Return None while the queue is paused, and until the pace is known.
        """
        if self.paused:
            return None
        free_at: datetime | None = now
        if self.running:
            free_at = estimated_end(
                self.running.started_at or now,
                now,
                self.running.completed,
                self.running.total,
                self.pace,
            )
        wait = self.pace.seconds_for(items_ahead) if jobs_ahead else 0.0
        if free_at is None or wait is None:
            return None
        return max(now, free_at) + timedelta(seconds=wait)
