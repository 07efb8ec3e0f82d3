"""Lanes: the state of a store's queue."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(slots=True)
class LockedLane:
    """A store's lane, locked until the transaction ends.

    Changes of its fields are written right before the commit.
    """

    store: str
    epoch: int
    holder: UUID | None
    lease_until: datetime | None
    job_seq: int
    event_seq: int
    pruned_seq: int
    front_turn: int
    last_created_at: datetime | None
    paused_at: datetime | None
    pause_reason: str | None
    paused_by: str | None
    pending: int
    pending_items: int
    pace_seconds: float
    pace_items: float
