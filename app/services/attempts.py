"""Attempts at jobs: claimed, advanced, ended, released."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlmodel import Session

from app.domain.forecast import Pace
from app.domain.jobs import (
    FenceLost,
    JobStatus,
)
from app.observability import metrics
from app.services.jobs import change_in_lane
from app.storage import events, job_errors, jobs, lanes
from app.storage.engine.database import after_commit, announce, now
from app.storage.tables import Job


@dataclass(frozen=True, slots=True)
class Step:
    """How far a step has brought a job: where to go on from, and items done of items to do."""

    checkpoint: dict[str, object]
    completed: int
    total: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job did: items in all, and the hierarchy that came of it, if one did."""

    items: int
    hierarchy_id: UUID | None = None


def claim(session: Session, store: str, holder: UUID, lease: timedelta) -> Job | None:
    """Take over the store's started job if its lease ran out, else start the pending one whose turn
    is next.

    None when there is neither, when another worker still runs the started one, and when the queue
    is paused and none was started. The job as returned is the worker's claim: its writes count
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
        # Whoever held the lane has neither ended its job nor handed it back.
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
    """Keep the claim for another `lease` from now. Raises FenceLost when it is gone."""
    if not lanes.extend_lease(session, claimed.store, claimed.epoch, now(session) + lease):
        raise FenceLost(claimed.id)


def advance(session: Session, claimed: Job, step: Callable[[], Step]) -> Job:
    """Do a step of the job's work and note how far it came, in one transaction.

    Raises FenceLost when the claim is gone, and what the step has written is undone.
    """
    done = step()
    return _changed_by_worker(
        session,
        claimed,
        checkpoint=done.checkpoint,
        completed_items=done.completed,
        total_items=done.total,
        attempts=0,
        updated_at=now(session),
    )


def succeed(session: Session, claimed: Job, finish: Callable[[], JobResult]) -> Job:
    """Do the last step of the job's work and end it with SUCCESS, in one transaction.

    Raises FenceLost when the claim is gone.
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
    """End the job with FAILED and say why. `abandon` gives up what its steps have written.

    Raises FenceLost when the claim is gone.
    """

    def last_step() -> dict[str, object]:
        abandon()
        return {}

    job = _end(session, claimed, JobStatus.FAILED, last_step)
    job_errors.add(session, job, code, message, now(session))
    return job


def release(session: Session, claimed: Job) -> None:
    """Let go of the claim, if it still holds, so that another worker can resume the job at once.

    The attempt was interrupted through no fault of the job's, and does not count.
    """
    if lanes.release(session, claimed.store, claimed.epoch, timedelta(0)):
        _changed_by_worker(session, claimed, attempts=max(0, claimed.attempts - 1))
        announce(session, claimed.store)


def snooze(session: Session, claimed: Job, pause: timedelta) -> None:
    """Let go of the claim, if it still holds, after an attempt that broke: nobody resumes the job,
    or starts another one of the store, before the pause is over."""
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
    job = _changed_by_worker(
        session, claimed, status=status, completed_at=at, updated_at=at, **values
    )
    lane.holder = None
    lane.lease_until = None
    if status is JobStatus.SUCCESS and job.started_at and job.items:
        pace = Pace(lane.pace_seconds, lane.pace_items)
        pace = pace.with_job((at - job.started_at).total_seconds(), job.items)
        lane.pace_seconds, lane.pace_items = pace.seconds, pace.items
    events.append(session, lane, job, JobStatus.STARTED, at)
    after_commit(
        session, partial(metrics.job_ended, job.type, job.status, job.started_at, job.completed_at)
    )
    return job


def _changed_by_worker(session: Session, claimed: Job, **values: Any) -> Job:
    changed = jobs.update(session, claimed, **values)
    if changed is None:
        raise FenceLost(claimed.id)
    return changed
