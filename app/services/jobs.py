"""The life of a job: asked for, claimed, advanced, ended. Each function is one transaction's work.

Whatever changes a job locks its store's lane first, so that jobs are numbered, started and told
of in one order. A worker's writes are fenced by the epoch it was given: once another worker was
given a later one, the earlier one's writes find no row and are undone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from sqlmodel import Session

from app.domain.errors import NotFound
from app.domain.jobs import (
    IDEMPOTENCY_WINDOW,
    Duplication,
    IdempotencyConflict,
    JobNotCancellable,
    JobNotRetryable,
    JobStatus,
    JobType,
    checked_idempotency_key,
)
from app.observability import metrics
from app.storage import events, hierarchies, idempotency, jobs, lanes
from app.storage.engine.database import after_commit, now
from app.storage.jobs import JobFilter
from app.storage.lanes import LockedLane, QueuePosition
from app.storage.sql.keyset import KeysetWindow
from app.storage.tables import Job

UNFINISHED = frozenset(status for status in JobStatus if not status.is_final)

MAX_CANCELLED = 100
"""Jobs that are cancelled at once: each writes an event while the lane is locked."""


@dataclass(frozen=True, slots=True)
class Requester:
    """On whose behalf a job is made, and in which request."""

    store: str
    request_id: str
    subject: str | None = None
    traceparent: str | None = None
    """The span of the request (W3C Trace Context), where requests are traced."""


@dataclass(frozen=True, slots=True)
class Requested:
    """A job, and whether an earlier request had made it already."""

    job: Job
    replayed: bool


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of one job that was to be cancelled."""

    job: Job
    """As it now stands."""
    refusal: JobNotCancellable | None = None


@dataclass(frozen=True, slots=True)
class Cancellations:
    """What became of jobs that were to be cancelled."""

    outcomes: Sequence[Cancellation]
    remaining: int
    """Pending ones that matched too, and were not looked at."""


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
    lane = lanes.lock(session, requester.store)
    if idempotency_key is not None:
        digest = sha256(orjson.dumps(duplication)).hexdigest()
        known = idempotency.find(
            session, requester.store, idempotency_key, now(session) - IDEMPOTENCY_WINDOW
        )
        if known:
            job, known_digest = known
            if known_digest != digest:
                raise IdempotencyConflict(job.id, ("idempotencyKey",))
            return Requested(job, replayed=True)

    source_id, include_products = duplication.source_id, duplication.include_products
    job = enqueue(
        session,
        lane,
        requester,
        JobType.HIERARCHY_DUPLICATE,
        items=_items(session, requester.store, source_id, include_products, "hierarchyId"),
        source_id=duplication.source_id,
        name=duplication.name,
        description=duplication.description,
        include_products=duplication.include_products,
    )
    if idempotency_key is not None:
        idempotency.save(session, job, idempotency_key, digest)
    return Requested(job, replayed=False)


def enqueue(
    session: Session,
    lane: LockedLane,
    requester: Requester,
    type: JobType,
    items: int,
    **facts: Any,
) -> Job:
    """Put a pending job of any type behind all others of its store, whose lane is locked.

    `items` is how much work it looks like; `facts` are columns of the job.
    """
    at = now(session)
    # A clock set back must not let a later job look earlier than the one before it.
    at = max(at, lane.last_created_at or at)
    lane.last_created_at = at
    lane.job_seq += 1
    job = jobs.add(
        session,
        store=requester.store,
        job_seq=lane.job_seq,
        turn=lane.job_seq,
        type=type,
        created_at=at,
        updated_at=at,
        request_id=requester.request_id,
        requested_by=requester.subject,
        traceparent=requester.traceparent,
        items=items,
        **facts,
    )
    start_at = lanes.queue_forecast(session, lane).start_time(at, lane.pending, lane.pending_items)
    lane.pending += 1
    lane.pending_items += items
    events.append(session, lane, job, None, at, QueuePosition(lane.pending, start_at))
    return job


def cancel(session: Session, store: str, job_id: UUID) -> Job:
    """Cancel a pending job. Raises NotFound, or JobNotCancellable with the job's status."""
    lane = lanes.lock(session, store)
    job = jobs.by_id(session, store, job_id)
    if job is None:
        raise NotFound("job", str(job_id), ("jobId",))
    return _cancel(session, lane, job)


def cancel_matching(session: Session, store: str, filter: JobFilter) -> Cancellations:
    """Cancel the first 100 of the pending jobs that match, in the order of their creation. Of them,
    and of others that match where there is room, tell what became of each. A filter that names no
    status means jobs that have not ended."""
    lane = lanes.lock(session, store)
    asked = UNFINISHED if filter.status is None else frozenset(filter.status)
    found: list[Job] = []
    remaining = 0
    for statuses in (asked & {JobStatus.PENDING}, asked - {JobStatus.PENDING}):
        wanted = replace(filter, status=statuses)
        window = KeysetWindow(MAX_CANCELLED - len(found))
        if statuses and window.limit:
            page = jobs.listing(session, store, wanted, True, window)
            found += [job for _, job in page.rows]
            if page.has_next and statuses == {JobStatus.PENDING}:
                remaining = jobs.count(session, store, wanted) - len(found)
    outcomes = []
    for job in found:
        try:
            outcomes.append(Cancellation(_cancel(session, lane, job)))
        except JobNotCancellable as refusal:
            outcomes.append(Cancellation(job, refusal))
    return Cancellations(outcomes, remaining)


def retry(session: Session, requester: Requester, job_id: UUID) -> Requested:
    """Queue a failed job once more, as a job of its own behind all others.

    While a retry of it, or a retry of that, waits, runs or has succeeded, that one is given. Raises
    NotFound, also where the hierarchy to copy is gone, and JobNotRetryable with the job's status.
    """
    lane = lanes.lock(session, requester.store)
    failed = jobs.by_id(session, requester.store, job_id)
    if failed is None:
        raise NotFound("job", str(job_id), ("jobId",))
    if failed.status is not JobStatus.FAILED:
        raise JobNotRetryable(failed.id, failed.status, ("jobId",))
    latest = failed
    while retried := jobs.newest_retries(session, requester.store, [latest.id]).get(latest.id):
        latest = retried
    if latest.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        return Requested(latest, replayed=True)
    items = failed.items
    if failed.source_id is not None:
        items = _items(session, requester.store, failed.source_id, failed.include_products, "jobId")
    job = enqueue(
        session,
        lane,
        requester,
        failed.type,
        items=items,
        retry_of=failed.id,
        source_id=failed.source_id,
        name=failed.name,
        description=failed.description,
        include_products=failed.include_products,
    )
    return Requested(job, replayed=False)


def _cancel(session: Session, lane: LockedLane, job: Job) -> Job:
    if job.status is not JobStatus.PENDING:
        raise JobNotCancellable(job.id, job.status, ("jobId",))
    at = now(session)
    cancelled = change_in_lane(session, job, status=JobStatus.CANCELLED, updated_at=at)
    lane.pending -= 1
    lane.pending_items -= cancelled.items
    events.append(session, lane, cancelled, JobStatus.PENDING, at)
    after_commit(
        session,
        partial(
            metrics.job_ended,
            cancelled.type,
            cancelled.status,
            cancelled.started_at,
            cancelled.completed_at,
        ),
    )
    return cancelled


def _items(session: Session, store: str, source_id: UUID, include_products: bool, path: str) -> int:
    """How much work copying a hierarchy looks like now. Raises NotFound."""
    source = hierarchies.by_id(session, store, source_id)
    if source is None:
        raise NotFound("hierarchy", str(source_id), (path,))
    return source.node_count + (source.association_count if include_products else 0)


def change_in_lane(session: Session, job: Job, **values: Any) -> Job:
    changed = jobs.update(session, job, **values)
    assert changed, "the lane's lock keeps others from changing its jobs"
    return changed
