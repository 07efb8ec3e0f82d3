"""Attempts at jobs, as a worker writes them. Each function runs in one transaction.

A worker's writes are fenced by the epoch of its claim: after a takeover the job has a later epoch,
and the earlier worker's writes match no row and are rolled back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlmodel import Session

from app.domain.forecast import Pace
from app.domain.jobs import FenceLost, JobStatus
from app.observability import metrics
from app.services.jobs import change_in_lane, count_ended
from app.storage import events, job_errors, jobs, lanes
from app.storage.engine.database import after_commit, announce, now
from app.storage.tables import Job


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of a step: a checkpoint to resume from, and progress in items."""

    checkpoint: dict[str, object]
    completed: int
    total: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a successful job: items processed and the hierarchy it created, if any."""

    items: int
    hierarchy_id: UUID | None = None


def claim(session: Session, store: str, holder: UUID, lease: timedelta) -> Job | None:
    """Take over the store's started job if its lease expired, or start its next pending job.

    Return None if there is neither, if another worker runs the started job, or if the queue is
    paused and no job was started. The returned job is the worker's claim: its writes apply only
    while the job has this epoch.
    """
    lane = lanes.lock(session, store)
    at = now(session)
    started = jobs.started(session, store)
    if started and lane.lease_until and lane.lease_until > at:
        return None
    job = started or jobs.first_pending(session, store)
    if job is None or (started is None and lane.paused_at is not None):
        return None
    if lane.holder is not None:
        # The holder has neither ended nor released its job.
        after_commit(session, metrics.TAKEOVERS.inc)
    lane.epoch += 1
    lane.holder = holder
    lane.lease_until = at + lease
    claimed = change_in_lane(
        session,
        job,
        status=JobStatus.STARTED,
        started_at=job.started_at or at,
        updated_at=at,
        attempts=job.attempts + 1,
        epoch=lane.epoch,
    )
    if started is None:
        lane.pending -= 1
        lane.pending_items -= claimed.items
        events.append(session, lane, claimed, JobStatus.PENDING, at)
    return claimed


def heartbeat(session: Session, claimed: Job, lease: timedelta) -> None:
    """Extend the claim to `lease` from now. Raises FenceLost."""
    if not lanes.extend_lease(session, claimed.store, claimed.epoch, now(session) + lease):
        raise FenceLost(claimed.id)


def advance(session: Session, claimed: Job, step: Callable[[], Step]) -> Job:
    """Run a step of the job and record its progress, in one transaction.

    Raises FenceLost if the claim is lost; the step's writes are rolled back.
    """
    outcome = step()
    return _change_claimed(
        session,
        claimed,
        checkpoint=outcome.checkpoint,
        completed_items=outcome.completed,
        total_items=outcome.total,
        attempts=0,
        updated_at=now(session),
    )


def succeed(session: Session, claimed: Job, finish: Callable[[], JobResult]) -> Job:
    """Run the last step of the job and end it with SUCCESS, in one transaction.

    Raises FenceLost if the claim is lost.
    """

    def last_step() -> dict[str, object]:
        result = finish()
        return {
            "result_id": result.hierarchy_id,
            "completed_items": result.items,
            "total_items": result.items,
        }

    return _end(session, claimed, JobStatus.SUCCESS, last_step)


def fail(
    session: Session, claimed: Job, code: str, message: str, abandon: Callable[[], None]
) -> Job:
    """End the job with FAILED and one error. `abandon` discards the rows its steps have written.

    Raises FenceLost if the claim is lost.
    """

    def last_step() -> dict[str, object]:
        abandon()
        return {}

    job = _end(session, claimed, JobStatus.FAILED, last_step)
    job_errors.add(session, job, code, message, now(session))
    return job


def release(session: Session, claimed: Job) -> None:
    """Release the claim, if it still holds, so that any worker can resume the job at once.

    The attempt does not count: the job did not cause the interruption.
    """
    if lanes.release(session, claimed.store, claimed.epoch, timedelta(0)):
        _change_claimed(session, claimed, attempts=max(0, claimed.attempts - 1))
        announce(session, claimed.store)


def snooze(session: Session, claimed: Job, pause: timedelta) -> None:
    """Release the claim of a broken attempt, if it still holds, for the time after `pause`.

    Until then no worker resumes the job or starts another one of the store.
    """
    lanes.release(session, claimed.store, claimed.epoch, pause)


def _end(
    session: Session,
    claimed: Job,
    status: JobStatus,
    last_step: Callable[[], dict[str, object]],
) -> Job:
    lane = lanes.lock(session, claimed.store)
    if lane.epoch != claimed.epoch:
        raise FenceLost(claimed.id)
    values = last_step()
    at = now(session)
    job = _change_claimed(session, claimed, status=status, completed_at=at, updated_at=at, **values)
    lane.holder = None
    lane.lease_until = None
    if status is JobStatus.SUCCESS and job.started_at and job.items:
        pace = Pace(lane.pace_seconds, lane.pace_items)
        pace = pace.with_job((at - job.started_at).total_seconds(), job.items)
        lane.pace_seconds, lane.pace_items = pace.seconds, pace.items
    events.append(session, lane, job, JobStatus.STARTED, at)
    count_ended(session, job)
    return job


def _change_claimed(session: Session, claimed: Job, **values: Any) -> Job:
    changed = jobs.update(session, claimed, **values)
    if changed is None:
        raise FenceLost(claimed.id)
    return changed
