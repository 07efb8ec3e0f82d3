"""Webhooks: who is told of a job's end, in which words, and what came of it. Each function is one
transaction's work."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson
from sqlmodel import Session

from app.domain.errors import NotFound
from app.domain.instants import instant_text
from app.domain.jobs import JobStatus, JobType
from app.domain.webhooks import DeliveryResponse, DeliveryStatus, pause_after
from app.storage import events, job_errors, lanes, webhooks
from app.storage.engine.database import now
from app.storage.sql.offset import OffsetWindow
from app.storage.tables import Job, JobEvent, WebhookDelivery

MAX_ERRORS = 10
"""At most so many of a job's errors are told."""


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """A message to be sent once, and the claim to do so."""

    delivery: WebhookDelivery
    job: Job
    body: bytes


def register(session: Session, urls: Collection[str]) -> dict[int, str]:
    """The endpoints by their keys. One that is new is told of what happens from now on; one that
    comes back, of what it has missed."""
    known = webhooks.known_endpoints(session, urls)
    for url in sorted(set(urls) - set(known.values())):
        webhooks.add_endpoint(session, url)
    return webhooks.known_endpoints(session, urls)


def record(session: Session, store: str, endpoints: Collection[int], limit: int) -> int:
    """Turn the events that an endpoint has not been told of and that are a job's last, the first
    `limit` of them, into deliveries; so for each endpoint. How many events, at most, were pruned
    untold.

    An event becomes one delivery to an endpoint, however many record it at once.
    """
    bounds = lanes.log_bounds(session, store)
    missed = 0
    for endpoint in sorted(endpoints):
        seq = webhooks.position(session, endpoint, store)
        found = webhooks.final_events(session, store, seq, bounds.head, limit)
        reached = found[-1] if len(found) == limit else bounds.head
        if reached > seq and webhooks.advance_position(session, endpoint, store, seq, reached):
            webhooks.add_deliveries(session, endpoint, store, found)
            missed = max(missed, bounds.pruned - seq)
    return missed


def claim(
    session: Session,
    endpoint: int,
    stores: Collection[str] | None,
    lease: timedelta,
    limit: int,
) -> list[DeliveryAttempt]:
    """Begin up to `limit` attempts that are due at the endpoint, of the stores given if any are.
    One that has no result when its lease runs out is begun anew."""
    begun = []
    for delivery, event in webhooks.claim(session, endpoint, stores, lease, limit):
        job = events.job_of(event)
        begun.append(DeliveryAttempt(delivery, job, _message(session, event, job)))
    return begun


def conclude(
    session: Session, delivery: WebhookDelivery, answer: DeliveryResponse, chance: float
) -> timedelta | None:
    """Write down what came of an attempt; how long until the next one, None when there is none.
    `chance` is that of `pause_after`."""
    pause = pause_after(answer, delivery.attempts, chance)
    if answer.delivered:
        status = DeliveryStatus.DELIVERED
    else:
        status = DeliveryStatus.FAILED if pause is None else DeliveryStatus.PENDING
    values = {
        "status": status,
        "due_at": None if pause is None else now(session) + pause,
        "answer": answer.status,
        "reason": answer.reason,
    }
    webhooks.conclude(session, delivery, values)
    return pause


def redeliver(session: Session, id: UUID) -> None:
    """Send it anew, however it went. Raises NotFound."""
    if not webhooks.redeliver(session, id):
        raise NotFound("delivery", str(id))


def _message(session: Session, event: JobEvent, job: Job) -> bytes:
    """What the endpoint is told: the job as a REST document has it, as it was when it ended."""
    meta = {"x_request_id": job.request_id}
    if job.type is JobType.HIERARCHY_DUPLICATE and job.started_at:
        meta["copied_from"] = str(job.source_id)
        if job.result_id:
            meta["hierarchy_id"] = str(job.result_id)
    data = {
        "store": event.store,
        "seq": event.seq,
        "job": {
            "id": str(job.id),
            "type": "pim-job",
            "attributes": {
                "started_at": _instant(job.started_at),
                "completed_at": _instant(job.completed_at),
                "created_at": _instant(job.created_at),
                "updated_at": _instant(job.updated_at),
                "type": job.type,
                "status": job.status,
            },
            "meta": meta,
        },
    }
    if job.status is JobStatus.FAILED:
        errors = job_errors.offset_page(session, job, OffsetWindow(0, MAX_ERRORS)).rows
        data["errors"] = [{"code": error.code, "message": error.message} for error in errors]
    told = {"type": f"job.{event.type}", "timestamp": instant_text(event.at), "data": data}
    return orjson.dumps(told)


def _instant(instant: datetime | None) -> str | None:
    return instant_text(instant) if instant else None
