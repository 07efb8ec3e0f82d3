"""Statistics of a store's jobs by hour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.jobs import JobStatus
from app.storage.engine.database import now
from app.storage.sql.dialects import HOUR_FORMAT, hour_of, opaque_limit, timestamp_of
from app.storage.tables import Job

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class JobHour:
    """The jobs of a store that were asked for in one hour: how many have each status now, and the
    seconds that those took which ran to an end."""

    begins: datetime
    counts: Mapping[JobStatus, int]
    average_seconds: float | None
    longest_seconds: float | None


def by_hour(session: Session, store: str, number: int) -> list[JobHour]:
    """That many hours up to the one that has just begun, the first one first, those without jobs
    too."""
    this_hour = now(session).replace(minute=0, second=0, microsecond=0)
    since = this_hour - (number - 1) * HOUR
    hour = hour_of(col(Job.created_at))
    took = timestamp_of(col(Job.completed_at)) - timestamp_of(col(Job.started_at))
    # The numbers of jobs are in the order of their creation: only younger ones are looked at.
    older = (
        select(Job.job_seq)
        .where(Job.store == store, col(Job.created_at) < since)
        .order_by(col(Job.job_seq).desc())
        .limit(opaque_limit(1))
        .scalar_subquery()
    )
    found = session.execute(
        sa.select(
            hour,
            col(Job.status),
            sa.func.count(),
            sa.func.count(took),
            sa.func.sum(took),
            sa.func.max(took),
        )
        .where(
            col(Job.store) == store,
            col(Job.job_seq) > sa.func.coalesce(older, 0),
            col(Job.created_at) < since + number * HOUR,
        )
        .group_by(hour, col(Job.status))
    ).all()
    hours = [since + place * HOUR for place in range(number)]
    of_hour: dict[str, list[Any]] = {begins.strftime(HOUR_FORMAT): [] for begins in hours}
    for name, *counted in found:
        of_hour[name].append(counted)
    return [_hour(*of) for of in zip(hours, of_hour.values(), strict=True)]


def _hour(begins: datetime, counted: Sequence[Any]) -> JobHour:
    counts = {status: number for status, number, *_ in counted}
    ran = sum(number for _, _, number, *_ in counted)
    took = sum(float(seconds or 0) for *_, seconds, _ in counted)
    longest = [float(seconds) for *_, seconds in counted if seconds is not None]
    return JobHour(begins, counts, took / ran if ran else None, max(longest, default=None))
