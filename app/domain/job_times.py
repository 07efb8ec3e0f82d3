"""Times of jobs on a clock that may be set ahead or back.

Clocks of databases are corrected: by seconds, or by hours after an operator's mistake. The order of
jobs does not depend on them, for jobs are numbered.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

MAX_HELD_BACK = timedelta(seconds=10)
"""The order of creation times is kept if the clock was set back by less. After more, new jobs get
the time of the clock, which is before that of earlier jobs."""

MAX_LEASE = timedelta(hours=1)
"""A lease that ends later was granted before the clock was set back, and counts as expired."""


def creation_time(now: datetime, latest: datetime | None) -> datetime:
    """Return the creation time of a store's next job; `latest` is that of the one before."""
    if latest is not None and now < latest <= now + MAX_HELD_BACK:
        return latest
    return now


def is_leased(lease_until: datetime | None, now: datetime) -> bool:
    """Return True if the holder of a lease may be alive."""
    return lease_until is not None and now < lease_until <= now + MAX_LEASE


def in_order(
    created_at: datetime, started_at: datetime | None, values: Mapping[str, object]
) -> dict[str, object]:
    """Return a job's new column values, with no time before that of an earlier state.

    A job is created, then started, then completed; it is updated by each of them.
    """
    ordered = dict(values)
    earliest = max(created_at, started_at or created_at)
    for name in ("started_at", "completed_at", "updated_at"):
        if ordered.get(name) is not None:
            earliest = ordered[name] = max(earliest, cast(datetime, ordered[name]))
    return ordered
