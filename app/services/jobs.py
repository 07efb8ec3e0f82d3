"""Requests, cancellations and retries of jobs. Each function runs in one transaction.

Every change of a job locks its store's lane first, so that jobs are numbered, started and logged in
one order.
"""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from functools import partial
from hashlib import sha256
from uuid import UUID

import orjson

from app.domain.callers import Scope
from app.domain.errors import NotFound
from app.domain.job_times import creation_time
from app.domain.job_types import Catalogue, JobArgs, TreeSize
from app.domain.jobs import (
    IDEMPOTENCY_WINDOW,
    IdempotencyConflict,
    JobNotCancellable,
    JobNotRetryable,
    JobStatus,
    JobType,
    checked_idempotency_key,
)
from app.domain.lanes import LockedLane
from app.observability import metrics
from app.storage import events, hierarchies, idempotency, jobs, lanes
from app.storage.engine.transaction import Transaction
from app.storage.jobs import JobFilter
from app.storage.lanes import QueuePosition
from app.storage.sql.keyset import KeysetWindow
from app.storage.tables import JobRow

UNFINISHED = frozenset(status for status in JobStatus if not status.is_final)

MAX_CANCELLED = 100
"""Max jobs per `cancel_matching`: each writes an event while the lane is locked."""


@dataclass(frozen=True, slots=True)
class Requester:
    """The subject that requests a job, its store, and the request."""

    store: str
    request_id: str
    subject: str | None = None
    traceparent: str | None = None
    """The span of the request (W3C Trace Context), if it is traced."""


@dataclass(frozen=True, slots=True)
class Requested:
    """A requested job. `replayed`: an earlier request created it."""

    job: JobRow
    replayed: bool


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The outcome for one job: cancelled, or refused."""

    job: JobRow
    refusal: JobNotCancellable | None = None


@dataclass(frozen=True, slots=True)
class Cancellations:
    """The outcomes of a bulk cancellation."""

    outcomes: Sequence[Cancellation]
    remaining: int
    """Pending jobs that match, beyond the limit."""


def request(
    tx: Transaction, requester: Requester, args: JobArgs, idempotency_key: str | None = None
) -> Requested:
    """Queue a job of any type for the requester's store.

    The same key with the same type and input returns the same job for 24 hours. Raises NotFound for
    what the job needs and the store lacks, InvalidInput for invalid arguments or an invalid key,
    IdempotencyConflict for a key used with another input.
    """
    args.check()
    if idempotency_key is not None:
        checked_idempotency_key(idempotency_key, "idempotency_key")
    lane = lanes.lock(tx, requester.store)
    if idempotency_key is not None:
        digest = digest_of(args)
        earlier = idempotency.find(
            tx, requester.store, idempotency_key, tx.now() - IDEMPOTENCY_WINDOW
        )
        if earlier:
            job, earlier_digest = earlier
            if earlier_digest != digest:
                raise IdempotencyConflict(job.id, ("idempotency_key",))
            return Requested(job, replayed=True)
    items = args.items(StoreCatalogue(tx, requester.store))
    job = enqueue(
        tx,
        lane,
        requester,
        args.job_type,
        items,
        args=jobs.as_json(args),
        subject_id=args.subject_id,
    )
    if idempotency_key is not None:
        idempotency.save(tx, job, idempotency_key, digest)
    return Requested(job, replayed=False)


def digest_of(args: JobArgs) -> str:
    """Return a digest of the type and of the fields that differ from their defaults.

    A new field with a default leaves the digests of inputs without it as they are.
    """
    stored = jobs.as_json(args)
    stated = {
        field.name: stored[field.name]
        for field in fields(args)
        if getattr(args, field.name) != _default_of(field)
    }
    document = orjson.dumps([args.job_type, stated], option=orjson.OPT_SORT_KEYS)
    return sha256(document).hexdigest()


def _default_of(field: Field[object]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


@dataclass(frozen=True, slots=True)
class StoreCatalogue(Catalogue):
    """The catalogue that a store sees, in a transaction."""

    tx: Transaction
    store: str

    def hierarchy(self, id: UUID) -> TreeSize:
        hierarchy = hierarchies.by_id(self.tx, self.store, id)
        if hierarchy is None:
            raise NotFound("hierarchy", str(id), ("hierarchy_id",))
        return hierarchy


def enqueue(
    tx: Transaction,
    lane: LockedLane,
    requester: Requester,
    type: JobType,
    items: int,
    **columns: object,
) -> JobRow:
    """Append a pending job of any type to the queue of its store, whose lane is locked.

    `items` estimates its work; `columns` are its arguments and other columns of the job.
    """
    at = lane.last_created_at = creation_time(tx.now(), lane.last_created_at)
    lane.job_seq += 1
    job = jobs.add(
        tx,
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
        **columns,
    )
    start_at = lanes.forecast(tx, lane).start_time(at, lane.pending, lane.pending_items)
    lane.pending += 1
    lane.pending_items += items
    events.append(tx, lane, job, None, at, QueuePosition(lane.pending, start_at))
    return job


def cancel(tx: Transaction, store: str, job_id: UUID) -> JobRow:
    """Cancel a pending job. Raises NotFound, or JobNotCancellable with the job's status."""
    lane, job = lock_job(tx, store, job_id)
    return _cancel(tx, lane, job)


def cancel_matching(tx: Transaction, store: str, filter: JobFilter) -> Cancellations:
    """Cancel up to 100 matching pending jobs, oldest first; report an outcome per examined job.

    If fewer than 100 are pending, matching jobs in other statuses are examined, and refused, up to
    100 in all. A filter without statuses matches jobs that have not ended.
    """
    lane = lanes.lock(tx, store)
    matching = UNFINISHED if filter.status is None else frozenset(filter.status)
    examined: list[JobRow] = []
    remaining = 0
    for statuses in (matching & {JobStatus.PENDING}, matching - {JobStatus.PENDING}):
        narrowed = replace(filter, status=statuses)
        window = KeysetWindow(MAX_CANCELLED - len(examined))
        if statuses and window.limit:
            page = jobs.listing(tx, store, narrowed, True, window)
            examined += [job for _, job in page.rows]
            if page.has_next and statuses == {JobStatus.PENDING}:
                remaining = jobs.count(tx, store, narrowed) - len(examined)
    outcomes = []
    for job in examined:
        try:
            outcomes.append(Cancellation(_cancel(tx, lane, job)))
        except JobNotCancellable as refusal:
            outcomes.append(Cancellation(job, refusal))
    return Cancellations(outcomes, remaining)


def retry(
    tx: Transaction,
    requester: Requester,
    job_id: UUID,
    authorize: Callable[[frozenset[Scope]], None],
) -> Requested:
    """Queue a failed job again, as a new job at the end of the queue.

    `authorize` is called with the scopes for requesting a job of this type, and may raise. If a
    retry of the job, or a retry of that one, is pending, started or successful, return that one.
    Raises NotFound, also if what the job needs is gone, or JobNotRetryable with the job's status.
    """
    lane, failed = lock_job(tx, requester.store, job_id)
    args = jobs.any_args_of(failed)
    authorize(frozenset() if args is None else args.scopes)
    if failed.status is not JobStatus.FAILED:
        raise JobNotRetryable(failed.id, failed.status, ("job_id",))
    latest = failed
    while retried := jobs.newest_retries(tx, requester.store, [latest.id]).get(latest.id):
        latest = retried
    if latest.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        return Requested(latest, replayed=True)
    items = failed.items
    if args is not None:
        try:
            items = args.items(StoreCatalogue(tx, requester.store))
        except NotFound as error:
            raise NotFound(error.kind, error.id, ("job_id",)) from None
    job = enqueue(
        tx,
        lane,
        requester,
        failed.type,
        items,
        retry_of=failed.id,
        args=failed.args,
        subject_id=failed.subject_id,
    )
    return Requested(job, replayed=False)


def _cancel(tx: Transaction, lane: LockedLane, job: JobRow) -> JobRow:
    if job.status is not JobStatus.PENDING:
        raise JobNotCancellable(job.id, job.status, ("job_id",))
    at = tx.now()
    cancelled = change_in_lane(tx, job, status=JobStatus.CANCELLED, updated_at=at)
    lane.pending -= 1
    lane.pending_items -= cancelled.items
    events.append(tx, lane, cancelled, JobStatus.PENDING, at)
    count_ended(tx, cancelled)
    return cancelled


def lock_job(tx: Transaction, store: str, job_id: UUID) -> tuple[LockedLane, JobRow]:
    """Lock the store's lane. Return it and the job. Raises NotFound."""
    lane = lanes.lock(tx, store)
    job = jobs.by_id(tx, store, job_id)
    if job is None:
        raise NotFound("job", str(job_id), ("job_id",))
    return lane, job


def change_in_lane(tx: Transaction, job: JobRow, **values: object) -> JobRow:
    """Change a job whose lane this transaction has locked."""
    changed = jobs.update(tx, job, **values)
    assert changed, "the lane's lock keeps others from changing its jobs"
    return changed


def count_ended(tx: Transaction, job: JobRow) -> None:
    """Count an ended job in the metrics once the transaction commits."""
    ended = partial(metrics.job_ended, job.type, job.status, job.started_at, job.completed_at)
    tx.after_commit(ended)
