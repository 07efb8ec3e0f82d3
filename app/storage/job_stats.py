"""Job statistics per hour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import col

from app.domain.jobs import JobStatus
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import HOUR_FORMAT, epoch_seconds, hour_of, opaque_limit
from app.storage.tables import Job

HOUR = timedelta(hours=1)

_Group = tuple[str, JobStatus, int, int, float | None, float | None]
"""An hour, a status, its jobs, how many of them ran to an end, their total and longest seconds."""


@dataclass(frozen=True, slots=True)
class JobHour:
    """Statistics of the jobs created in one clock hour."""

    begins: datetime
    counts: Mapping[JobStatus, int]
    """Jobs by their present status."""
    average_seconds: float | None
    """Run time of the jobs that ran to an end, as below."""
    longest_seconds: float | None


def by_hour(tx: Transaction, store: str, hours: int) -> list[JobHour]:
    """Statistics of the store's last `hours` clock hours, oldest first.

    Hours are in UTC, the present one is the last, and hours without jobs are included.
    """
    this_hour = tx.now().replace(minute=0, second=0, microsecond=0)
    since = this_hour - (hours - 1) * HOUR
    hour = hour_of(col(Job.created_at))
    seconds = epoch_seconds(col(Job.completed_at)) - epoch_seconds(col(Job.started_at))
    # job_seq follows creation order: the scan of its index starts at the first job of these hours.
    last_older_seq = (
        sa.select(col(Job.job_seq))
        .where(col(Job.store) == store, col(Job.created_at) < since)
        .order_by(col(Job.job_seq).desc())
        .limit(opaque_limit(1))
        .scalar_subquery()
    )
    rows = tx.rows(
        sa.select(
            hour,
            col(Job.status),
            sa.func.count(),
            sa.func.count(seconds),
            sa.func.sum(seconds),
            sa.func.max(seconds),
        )
        .where(
            col(Job.store) == store,
            col(Job.job_seq) > sa.func.coalesce(last_older_seq, 0),
            col(Job.created_at) < since + hours * HOUR,
        )
        .group_by(hour, col(Job.status))
    )
    beginnings = [since + index * HOUR for index in range(hours)]
    groups: dict[str, list[_Group]] = {begins.strftime(HOUR_FORMAT): [] for begins in beginnings}
    for group in rows:
        groups[group[0]].append(group)
    return list(map(_job_hour, beginnings, groups.values()))


def _job_hour(begins: datetime, groups: Sequence[_Group]) -> JobHour:
    """Combine the groups of one hour."""
    counts = {status: jobs for _, status, jobs, *_ in groups}
    ended = sum(jobs for _, _, _, jobs, _, _ in groups)
    total = sum(float(seconds or 0) for _, _, _, _, seconds, _ in groups)
    longest = [float(seconds) for _, _, _, _, _, seconds in groups if seconds is not None]
    return JobHour(begins, counts, total / ended if ended else None, max(longest, default=None))
