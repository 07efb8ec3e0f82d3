"""Forecasts: when a running job ends and when a pending one starts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of a store's latest jobs: seconds and items, older jobs weighted less."""

    seconds: float = 0.0
    items: float = 0.0

    DECAY: ClassVar[float] = 0.8
    """The weight of earlier jobs, per job."""

    def with_job(self, seconds: float, items: int) -> "Pace":
        """Return the pace after one more job."""
        return Pace(self.seconds * self.DECAY + seconds, self.items * self.DECAY + items)

    def seconds_for(self, items: int) -> float | None:
        """Return the expected duration of `items`, None before any job has run."""
        return self.seconds / self.items * items if self.items else None


def estimated_end(
    started_at: datetime, now: datetime, completed: int, total: int | None, pace: Pace
) -> datetime | None:
    """Estimate a running job's end by its own speed, else by the store's pace.

    Return None while neither is known.
    """
    # The job started in the future if the clock was set back meanwhile.
    elapsed = max(timedelta(0), now - started_at)
    if total and completed:
        return now + elapsed * (max(total, completed) / completed - 1)
    expected = pace.seconds_for(total or 0)
    return None if expected is None else max(now, now - elapsed + timedelta(seconds=expected))


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
