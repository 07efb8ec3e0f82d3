"""The life of a job: asked for, claimed, advanced, ended. Each function is one transaction's work.

Whatever changes a job locks its store's lane first, so that jobs are numbered, started and told
of in one order. A worker's writes are fenced by the epoch it was given: once another worker was
given a later one, the earlier one's writes find no row and are undone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import orjson
from sqlmodel import Session

from app.domain.errors import NotFound
from app.domain.jobs import (
    IDEMPOTENCY_WINDOW,
    Duplication,
    FenceLost,
    IdempotencyConflict,
    JobNotCancellable,
    JobStatus,
    JobType,
    Pace,
    checked_idempotency_key,
)
from app.storage import events, hierarchies, jobs, lanes
from app.storage.database import announce, now
from app.storage.lanes import Outlook
from app.storage.tables import Job


@dataclass(frozen=True, slots=True)
class Requester:
    """On whose behalf a job is made, and in which request."""

    store: str
    request_id: str
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Requested:
    """A job, and whether an earlier request had made it already."""

    job: Job
    replayed: bool


@dataclass(frozen=True, slots=True)
class Step:
    """How far a step has brought a job: where to go on from, and items done of items to do."""

    checkpoint: dict[str, object]
    completed: int
    total: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished job did: items in all, and the hierarchy that came of it, if one did."""

    items: int
    hierarchy_id: UUID | None = None


def request_duplication(
    session: Session,
    requester: Requester,
    duplication: Duplication,
    idempotency_key: str | None = None,
) -> Requested:
    """Queue the duplication of a hierarchy the requester's store can see.

    The same key with the same input gives the same job for 24 hours. Raises NotFound, InvalidInput
    for a key that is none, IdempotencyConflict for one used with another input.
    """
    if idempotency_key is not None:
        checked_idempotency_key(idempotency_key, "idempotencyKey")
    at = now(session)
    lane = lanes.lock(session, requester.store)
    digest = sha256(orjson.dumps(duplication)).hexdigest()
    if idempotency_key is not None:
        known = jobs.by_key(session, requester.store, idempotency_key, at - IDEMPOTENCY_WINDOW)
        if known:
            job, known_digest = known
            if known_digest != digest:
                raise IdempotencyConflict(job.id, ("idempotencyKey",))
            return Requested(job, replayed=True)

    source = hierarchies.by_id(session, requester.store, duplication.source_id)
    if source is None:
        raise NotFound("hierarchy", str(duplication.source_id), ("hierarchyId",))

    lane.job_seq += 1
    # A clock set back must not let a later job look earlier than the one before it.
    created_at = max(at, lane.last_created_at or at)
    lane.last_created_at = created_at
    job = Job(
        store=requester.store,
        job_seq=lane.job_seq,
        type=JobType.HIERARCHY_DUPLICATE,
        created_at=created_at,
        updated_at=created_at,
        request_id=requester.request_id,
        requested_by=requester.subject,
        source_id=duplication.source_id,
        name=duplication.name,
        description=duplication.description,
        include_products=duplication.include_products,
        items=source.node_count + (source.association_count if duplication.include_products else 0),
    )
    session.add(job)
    session.flush()
    if idempotency_key is not None:
        jobs.keep_key(session, job, idempotency_key, digest)
    queue = lanes.queue(session, requester.store)
    outlook = Outlook(
        queue.pending,
        queue.start_behind(created_at, queue.pending - 1, queue.pending_items - job.items),
    )
    events.append(session, lane, job, None, created_at, outlook)
    return Requested(job, replayed=False)


def cancel(session: Session, store: str, job_id: UUID) -> Job:
    """Cancel a pending job. Raises NotFound, or JobNotCancellable with the job's status."""
    lane = lanes.lock(session, store)
    job = jobs.by_id(session, store, job_id)
    if job is None:
        raise NotFound("job", str(job_id), ("jobId",))
    at = now(session)
    pending = job.status is JobStatus.PENDING
    if not pending or not jobs.change(session, job, status=JobStatus.CANCELLED, updated_at=at):
        raise JobNotCancellable(job.id, job.status, ("jobId",))
    job = jobs.by_pk(session, _pk(job))
    events.append(session, lane, job, JobStatus.PENDING, at)
    return job


def claim(session: Session, store: str, holder: UUID, lease: timedelta) -> Job | None:
    """Take over the store's started job if its lease ran out, else start its earliest pending one.

    None when there is neither, or another worker still runs the started one. The job as returned
    is the worker's claim: its writes count while the job has this epoch.
    """
    lane = lanes.lock(session, store)
    at = now(session)
    started = jobs.started(session, store)
    if started and lane.lease_until and lane.lease_until > at:
        return None
    job = started or jobs.first_pending(session, store)
    if job is None:
        return None
    lane.epoch += 1
    lane.holder = holder
    lane.lease_until = at + lease
    claimed = jobs.change(
        session,
        job,
        status=JobStatus.STARTED,
        started_at=job.started_at or at,
        updated_at=at,
        attempts=job.attempts + 1,
        epoch=lane.epoch,
    )
    assert claimed, "the lane's lock keeps others from changing its jobs"
    job = jobs.by_pk(session, _pk(job))
    if started is None:
        events.append(session, lane, job, JobStatus.PENDING, at)
    return job


def heartbeat(session: Session, claimed: Job, lease: timedelta) -> None:
    """Keep the claim for another `lease` from now. Raises FenceLost when it is gone."""
    if not lanes.extend_lease(session, claimed.store, claimed.epoch, now(session) + lease):
        raise FenceLost(claimed.id)


def advance(session: Session, claimed: Job, lease: timedelta, step: Callable[[], Step]) -> Job:
    """Do a step of the job's work and note how far it came, in one transaction.

    Raises FenceLost, before and instead of the step, when the claim is gone.
    """
    heartbeat(session, claimed, lease)
    done = step()
    if not jobs.change(
        session,
        claimed,
        checkpoint=done.checkpoint,
        completed_items=done.completed,
        total_items=done.total,
        attempts=0,
        updated_at=now(session),
    ):
        raise FenceLost(claimed.id)
    announce(session, claimed.store)
    return jobs.by_pk(session, _pk(claimed))


def succeed(session: Session, claimed: Job, finish: Callable[[], Result]) -> Job:
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
    jobs.add_error(session, job, code, message, now(session))
    return job


def hand_back(session: Session, claimed: Job) -> None:
    """Let the lease end now, so that another worker resumes the job at once."""
    lanes.extend_lease(session, claimed.store, claimed.epoch, now(session))


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
    if not jobs.change(session, claimed, status=status, completed_at=at, updated_at=at, **values):
        raise FenceLost(claimed.id)
    job = jobs.by_pk(session, _pk(claimed))
    lane.holder = None
    lane.lease_until = None
    if status is JobStatus.SUCCESS and job.started_at and job.items:
        pace = Pace(lane.pace_seconds, lane.pace_items)
        pace = pace.with_job((at - job.started_at).total_seconds(), job.items)
        lane.pace_seconds, lane.pace_items = pace.seconds, pace.items
    events.append(session, lane, job, JobStatus.STARTED, at)
    return job


def _pk(job: Job) -> int:
    assert job.pk is not None
    return job.pk
