"""A store's queue: pause, resume, move to front. Each function runs in one transaction."""

from uuid import UUID

from sqlmodel import Session

from app.domain.events import JobEventType
from app.domain.jobs import JobNotMovable, JobStatus, checked_reason
from app.services.jobs import Requester, change_in_lane, lock_job
from app.storage import events, jobs, lanes
from app.storage.engine.database import announce, now
from app.storage.lanes import QueuePosition
from app.storage.tables import Job


def move_to_front(session: Session, store: str, job_id: UUID) -> Job:
    """Make a pending job the next to start. Its created_at does not change.

    Raises NotFound, or JobNotMovable with the job's status.
    """
    lane, job = lock_job(session, store, job_id)
    if job.status is not JobStatus.PENDING:
        raise JobNotMovable(job.id, job.status, ("job_id",))
    first = jobs.first_pending(session, store)
    if first and first.pk == job.pk:
        return job
    lane.front_turn -= 1
    at = now(session)
    moved = change_in_lane(session, job, turn=lane.front_turn, updated_at=at)
    position = QueuePosition(1, lanes.forecast(session, lane).start_time(at, 0, 0))
    events.append(session, lane, moved, None, at, position, JobEventType.MOVED)
    return moved


def pause(session: Session, requester: Requester, reason: str | None) -> None:
    """Start no more jobs of the store; its running job continues.

    Pausing a paused queue replaces the reason and keeps the time. Raises InvalidInput for a blank
    reason.
    """
    if reason is not None:
        checked_reason(reason, "reason")
    lane = lanes.lock(session, requester.store)
    lane.paused_at = lane.paused_at or now(session)
    lane.pause_reason = reason
    lane.paused_by = requester.subject


def resume(session: Session, store: str) -> None:
    """Start the store's jobs again."""
    lane = lanes.lock(session, store)
    lane.paused_at = lane.pause_reason = lane.paused_by = None
    announce(session, store)
