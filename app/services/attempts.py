"""Attempts at jobs, as a worker writes them. Each function runs in one transaction.

A worker's writes are fenced by the epoch of its claim: after a takeover the job has a later epoch,
and the earlier worker's writes match no row and are rolled back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from app.domain.forecast import Pace
from app.domain.job_times import is_leased
from app.domain.job_types import JobResult
from app.domain.jobs import FenceLost, JobStatus
from app.observability import metrics
from app.services.jobs import change_in_lane, count_ended
from app.storage import events, job_errors, jobs, lanes
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of a step: a checkpoint to resume from, and progress in items."""

    checkpoint: dict[str, object]
    completed: int
    total: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The outcome of the last step: the number of processed items, and the job's result."""

    items: int
    result: JobResult | None = None
    """None for a type without a result."""


def claim(tx: Transaction, store: str, holder: UUID, lease: timedelta) -> JobRow | None:
    """Take over the store's started job if its lease expired, or start its next pending job.

    Return None if there is neither, if another worker runs the started job, or if the queue is
    paused and no job was started. The returned job is the worker's claim: its writes apply only
    while the job has this epoch.
    """
    lane = lanes.lock(tx, store)
    at = tx.now()
    started = jobs.started(tx, store)
    if started and is_leased(lane.lease_until, at):
        return None
    job = started or jobs.first_pending(tx, store)
    if job is None or (started is None and lane.paused_at is not None):
        return None
    if lane.holder is not None:
        # The holder has neither ended nor released its job.
        tx.after_commit(metrics.TAKEOVERS.inc)
    lane.epoch += 1
    lane.holder = holder
    lane.lease_until = at + lease
    claimed = change_in_lane(
        tx,
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
        events.append(tx, lane, claimed, JobStatus.PENDING, at)
    return claimed


def heartbeat(tx: Transaction, claimed: JobRow, lease: timedelta) -> None:
    """Extend the claim to `lease` from now. Raises FenceLost."""
    if not lanes.extend_lease(tx, claimed.store, claimed.epoch, tx.now() + lease):
        raise FenceLost(claimed.id)


def advance(tx: Transaction, claimed: JobRow, step: Callable[[], Step]) -> JobRow:
    """Run a step of the job and record its progress, in one transaction.

    Raises FenceLost if the claim is lost; the step's writes are rolled back.
    """
    outcome = step()
    return _change_claimed(
        tx,
        claimed,
        checkpoint=outcome.checkpoint,
        completed_items=outcome.completed,
        total_items=outcome.total,
        attempts=0,
        updated_at=tx.now(),
    )


def succeed(tx: Transaction, claimed: JobRow, finish: Callable[[], Completion]) -> JobRow:
    """Run the last step of the job and end it with SUCCESS, in one transaction.

    Raises FenceLost if the claim is lost.
    """

    def last_step() -> dict[str, object]:
        completion = finish()
        result = completion.result
        return {
            "result": result and jobs.as_json(result),
            "result_id": result and result.result_id,
            "completed_items": completion.items,
            "total_items": completion.items,
        }

    return _end(tx, claimed, JobStatus.SUCCESS, last_step)


def fail(
    tx: Transaction, claimed: JobRow, code: str, message: str, abandon: Callable[[], None]
) -> JobRow:
    """End the job with FAILED and one error. `abandon` discards the rows its steps have written.

    Raises FenceLost if the claim is lost.
    """

    def last_step() -> dict[str, object]:
        abandon()
        return {}

    job = _end(tx, claimed, JobStatus.FAILED, last_step)
    job_errors.add(tx, job, code, message, tx.now())
    return job


def release(tx: Transaction, claimed: JobRow) -> None:
    """Release the claim, if it still holds, so that any worker can resume the job at once.

    The attempt does not count: the job did not cause the interruption.
    """
    if lanes.release(tx, claimed.store, claimed.epoch, timedelta(0)):
        _change_claimed(tx, claimed, attempts=max(0, claimed.attempts - 1))
        tx.announce(claimed.store)


def snooze(tx: Transaction, claimed: JobRow, pause: timedelta) -> None:
    """Release the claim of a broken attempt, if it still holds, for the time after `pause`.

    Until then no worker resumes the job or starts another one of the store.
    """
    lanes.release(tx, claimed.store, claimed.epoch, pause)


def _end(
    tx: Transaction,
    claimed: JobRow,
    status: JobStatus,
    last_step: Callable[[], dict[str, object]],
) -> JobRow:
    lane = lanes.lock(tx, claimed.store)
    if lane.epoch != claimed.epoch:
        raise FenceLost(claimed.id)
    values = last_step()
    at = tx.now()
    job = _change_claimed(tx, claimed, status=status, completed_at=at, updated_at=at, **values)
    lane.holder = None
    lane.lease_until = None
    if status is JobStatus.SUCCESS and job.started_at and job.completed_at and job.items:
        pace = Pace(lane.pace_seconds, lane.pace_items)
        pace = pace.with_job((job.completed_at - job.started_at).total_seconds(), job.items)
        lane.pace_seconds, lane.pace_items = pace.seconds, pace.items
    events.append(tx, lane, job, JobStatus.STARTED, at)
    count_ended(tx, job)
    return job


def _change_claimed(tx: Transaction, claimed: JobRow, **values: object) -> JobRow:
    changed = jobs.update(tx, claimed, **values)
    if changed is None:
        raise FenceLost(claimed.id)
    return changed
