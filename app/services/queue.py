"""A store's queue, steered: paused, resumed, and put into another order. Each function is one
transaction's work."""

from uuid import UUID

from sqlmodel import Session

from app.domain.errors import NotFound
from app.domain.events import JobEventType
from app.domain.jobs import JobNotMovable, JobStatus, checked_reason
from app.services.jobs import Requester
from app.storage import events, jobs, lanes
from app.storage.engine.database import announce, now
from app.storage.lanes import QueuePosition
from app.storage.tables import Job


def move_to_front(session: Session, store: str, job_id: UUID) -> Job:
    """Let a pending job be the next to start. When it was asked for stays as it is.

    Raises NotFound, or JobNotMovable with the job's status.
    """
    lane = lanes.lock(session, store)
    job = jobs.by_id(session, store, job_id)
    if job is None:
        raise NotFound("job", str(job_id), ("jobId",))
    if job.status is not JobStatus.PENDING:
        raise JobNotMovable(job.id, job.status, ("jobId",))
    first = jobs.first_pending(session, store)
    if first and first.pk == job.pk:
        return job
    lane.front_turn -= 1
    at = now(session)
    moved = jobs.update(session, job, turn=lane.front_turn, updated_at=at)
    assert moved, "the lane's lock keeps others from changing its jobs"
    standing = QueuePosition(1, lanes.queue_forecast(session, lane).start_time(at, 0, 0))
    events.append(session, lane, moved, None, at, standing, JobEventType.MOVED)
    return moved


def pause(session: Session, requester: Requester, reason: str | None) -> None:
    """Start no more of the store's jobs; the one that runs goes on.

    A queue that is paused stays so, for the new reason. Raises InvalidInput for a blank reason.
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
