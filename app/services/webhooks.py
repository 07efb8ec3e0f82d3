"""Webhook endpoints, payloads and delivery state. Each function runs in one transaction."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from app.domain.errors import NotFound
from app.domain.instants import format_instant
from app.domain.jobs import JobStatus
from app.domain.webhooks import DeliveryResponse, DeliveryStatus, retry_delay
from app.services.job_documents import job_document
from app.storage import events, job_errors, lanes, webhooks
from app.storage.engine.transaction import Transaction
from app.storage.sql.offset import OffsetWindow
from app.storage.tables import JobEventRow, JobRow, WebhookDeliveryRow

MAX_ERRORS = 10
"""Max errors of a job in a payload."""


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """A claimed delivery and the body to send once."""

    delivery: WebhookDeliveryRow
    job: JobRow
    body: bytes


def register(tx: Transaction, urls: Collection[str]) -> dict[int, str]:
    """Return the endpoints' URLs by key, adding unknown ones.

    A new endpoint receives events from now on; a known one also those it has missed.
    """
    known = webhooks.known_endpoints(tx, urls)
    for url in sorted(set(urls) - set(known.values())):
        webhooks.add_endpoint(tx, url)
    return webhooks.known_endpoints(tx, urls)


def create_deliveries(tx: Transaction, store: str, endpoints: Collection[int], limit: int) -> int:
    """Create deliveries for up to `limit` final events after each endpoint's position.

    An event becomes one delivery per endpoint, even if several processes do this concurrently.
    Return how many events, at most, were pruned before they could be delivered.
    """
    bounds = lanes.log_bounds(tx, store)
    missed = 0
    for endpoint in sorted(endpoints):
        seq = webhooks.position(tx, endpoint, store)
        final = webhooks.final_events(tx, store, seq, bounds.head, limit)
        reached = final[-1] if len(final) == limit else bounds.head
        if reached > seq and webhooks.advance_position(tx, endpoint, store, seq, reached):
            webhooks.add_deliveries(tx, endpoint, store, final)
            missed = max(missed, bounds.pruned - seq)
    return missed


def claim(
    tx: Transaction,
    endpoint: int,
    stores: Collection[str] | None,
    lease: timedelta,
    limit: int,
) -> list[DeliveryAttempt]:
    """Claim up to `limit` due deliveries of an endpoint, of `stores` or of all if None.

    An attempt without an outcome when its lease expires is repeated.
    """
    attempts = []
    for delivery, event in webhooks.claim(tx, endpoint, stores, lease, limit):
        job = events.job_of(event)
        attempts.append(DeliveryAttempt(delivery, job, _message(tx, event, job)))
    return attempts


def conclude(
    tx: Transaction, delivery: WebhookDeliveryRow, response: DeliveryResponse, jitter: float
) -> timedelta | None:
    """Record the outcome of an attempt. Return the pause before the next one, or None.

    `jitter` (0 to 1) varies the pause, see `retry_delay`.
    """
    pause = retry_delay(response, delivery.attempts, jitter)
    if response.delivered:
        status = DeliveryStatus.DELIVERED
    else:
        status = DeliveryStatus.FAILED if pause is None else DeliveryStatus.PENDING
    values = {
        "status": status,
        "due_at": None if pause is None else tx.now() + pause,
        "answer": response.status,
        "reason": response.reason,
    }
    webhooks.conclude(tx, delivery, values)
    return pause


def redeliver(tx: Transaction, id: UUID) -> None:
    """Make a delivery due again with all attempts left, in any status. Raises NotFound."""
    if not webhooks.redeliver(tx, id):
        raise NotFound("delivery", str(id))


def _message(tx: Transaction, event: JobEventRow, job: JobRow) -> bytes:
    """Build the payload: the job at its end, shaped like a REST document."""
    data: dict[str, object] = {
        "store": event.store,
        "seq": event.seq,
        "job": job_document(job),
    }
    if job.status is JobStatus.FAILED:
        errors = job_errors.offset_page(tx, job, OffsetWindow(0, MAX_ERRORS)).rows
        data["errors"] = [{"code": error.code, "message": error.message} for error in errors]
    payload = {"type": f"job.{event.type}", "timestamp": format_instant(event.at), "data": data}
    return orjson.dumps(payload, default=_encode, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return format_instant(value)
    raise TypeError(f"no JSON value for {type(value).__name__}")
