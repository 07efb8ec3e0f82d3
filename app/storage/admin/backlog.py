"""Backlogs of a whole deployment: pending jobs, rows to purge, due deliveries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlmodel import col

from app.domain.hierarchies import HierarchyState
from app.domain.jobs import JobStatus
from app.domain.webhooks import DeliveryStatus
from app.storage import events, webhooks
from app.storage.engine.statements import AnySelect
from app.storage.engine.transaction import Transaction
from app.storage.tables import DeletedNode, Hierarchy, Job, Lane, WebhookDelivery

MAX_COUNTED = 10_000
"""Limit of each count: larger numbers call for no other action."""


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """Pending jobs of all stores and their waiting times."""

    pending: int
    lanes: int
    """Lanes with pending jobs."""
    ages: Mapping[int, float]
    """Waiting seconds of the oldest pending job, by percentile over those lanes.

    At 90, nine of ten lanes have waited no longer. Empty if no job is pending.
    """


@dataclass(frozen=True, slots=True)
class SweepBacklog:
    """Rows that the sweeper or the webhook dispatcher has yet to process.

    Each count is at most MAX_COUNTED.
    """

    hierarchies: int
    deleted_nodes: int
    stores_with_old_events: int
    deliveries: int


def queue_backlog(tx: Transaction, percentiles: Sequence[int]) -> QueueBacklog:
    """The queue backlog of all stores.

    One statement, which reads each lane once.
    """
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
        # In ascending order of age.
        sa.func.row_number().over(order_by=waiting.c.since.desc()).label("place"),
        sa.func.count().over().label("lanes"),
    ).subquery()
    [row] = tx.rows(
        sa.select(
            sa.func.coalesce(sa.func.sum(ranked.c.pending), 0),
            sa.func.count(),
            *(
                sa.func.max(
                    sa.case(
                        # The nearest rank: ceil(lanes * percent / 100).
                        (ranked.c.place == (ranked.c.lanes * percent + 99) // 100, ranked.c.since)
                    )
                )
                for percent in percentiles
            ),
        )
    )
    pending, lanes, *instants = row
    at = tx.now()
    return QueueBacklog(
        int(pending),
        lanes,
        {
            percent: max(0.0, (at - instant).total_seconds())
            for percent, instant in zip(percentiles, instants, strict=True)
            if instant is not None
        },
    )


def sweep_backlog(tx: Transaction, keep: timedelta | None) -> SweepBacklog:
    """Count rows to purge, stores with old events, and due deliveries.

    Events older than `keep` are old; with None no event is.
    """

    def counted(statement: AnySelect) -> int:
        limited = statement.limit(MAX_COUNTED).subquery()
        [(count,)] = tx.rows(sa.select(sa.func.count()).select_from(limited))
        return count

    discarded = (HierarchyState.DISCARDED, HierarchyState.ABANDONED)
    due = (
        col(WebhookDelivery.status) == DeliveryStatus.PENDING,
        webhooks.is_due(tx.now()),
    )
    return SweepBacklog(
        counted(sa.select(col(Hierarchy.pk)).where(col(Hierarchy.state).in_(discarded))),
        counted(sa.select(col(DeletedNode.node_no))),
        0 if keep is None else len(events.stores_with_older(tx, tx.now() - keep)),
        counted(sa.select(col(WebhookDelivery.pk)).where(*due)),
    )
