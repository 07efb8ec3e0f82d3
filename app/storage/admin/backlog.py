"""What waits in all lanes together, for who watches the deployment as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import Session, col

from app.domain.jobs import JobStatus
from app.storage.engine.database import now
from app.storage.tables import Job, Lane


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """How much waits, and for how long."""

    pending: int
    lanes: int
    """Lanes with pending jobs."""
    ages: Mapping[int, float]
    """Seconds that the oldest pending job of a lane has waited, by percentile over those lanes:
    at 90, nine of ten lanes have waited no longer. Empty where nothing waits."""


def backlog(session: Session, percentiles: Sequence[int]) -> QueueBacklog:
    """The backlog of all stores: one statement, which looks at each lane once."""
    since = (
        sa.select(col(Job.created_at))
        .where(col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
        .scalar_subquery()
    )
    waiting = (
        sa.select(col(Lane.pending), since.label("since")).where(col(Lane.pending) > 0).subquery()
    )
    ranked = sa.select(
        waiting,
        # The latest first, whose age is the least.
        sa.func.row_number().over(order_by=waiting.c.since.desc()).label("place"),
        sa.func.count().over().label("lanes"),
    ).subquery()
    found = session.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(ranked.c.pending), 0),
            sa.func.count(),
            *(
                sa.func.max(
                    sa.case(
                        # The nearest rank: the first place behind which no more than the rest lie.
                        (ranked.c.place == (ranked.c.lanes * percent + 99) // 100, ranked.c.since)
                    )
                )
                for percent in percentiles
            ),
        )
    ).one()
    pending, lanes, *instants = found
    at = now(session)
    return QueueBacklog(
        int(pending),
        lanes,
        {
            percent: max(0.0, (at - instant).total_seconds())
            for percent, instant in zip(percentiles, instants, strict=True)
            if instant is not None
        },
    )
