"""A store's queue: pause, resume, move to front. Each function runs in one transaction."""

from uuid import UUID

from app.domain.events import JobEventType
from app.domain.jobs import JobNotMovable, JobStatus, checked_reason
from app.services.jobs import Requester, change_in_lane, lock_job
from app.storage import events, jobs, lanes
from app.storage.engine.transaction import Transaction
from app.storage.lanes import QueuePosition
from app.storage.tables import JobRow


def move_to_front(tx: Transaction, store: str, job_id: UUID) -> JobRow:
    """Make a pending job the next to start. Its created_at does not change.

    Raises NotFound, or JobNotMovable with the job's status.
    """
    lane, job = lock_job(tx, store, job_id)
    if job.status is not JobStatus.PENDING:
        raise JobNotMovable(job.id, job.status, ("job_id",))
    first = jobs.first_pending(tx, store)
    if first and first.pk == job.pk:
        return job
    lane.front_turn -= 1
    at = tx.now()
    moved = change_in_lane(tx, job, turn=lane.front_turn, updated_at=at)
    position = QueuePosition(1, lanes.forecast(tx, lane).start_time(at, 0, 0))
    events.append(tx, lane, moved, None, at, position, JobEventType.MOVED)
    return moved


def pause(tx: Transaction, requester: Requester, reason: str | None) -> None:
    """Start no more jobs of the store; its running job continues.

    Pausing a paused queue replaces the reason and keeps the time. Raises InvalidInput for a blank
    reason.
    """
    if reason is not None:
        checked_reason(reason, "reason")
    lane = lanes.lock(tx, requester.store)
    lane.paused_at = lane.paused_at or tx.now()
    lane.pause_reason = reason
    lane.paused_by = requester.subject


def resume(tx: Transaction, store: str) -> None:
    """Start the store's jobs again."""
    lane = lanes.lock(tx, store)
    lane.paused_at = lane.pause_reason = lane.paused_by = None
    tx.announce(store)
