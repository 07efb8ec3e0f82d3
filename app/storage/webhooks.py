"""Webhook endpoints, their positions in each event log, and deliveries."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import col

from app.domain.events import JobEventType
from app.domain.webhooks import MAX_PAUSE, DeliveryStatus
from app.storage.engine.statements import BindValues
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import insert_ignore
from app.storage.sql.rows import all_columns, row_of
from app.storage.tables import (
    JobEvent,
    JobEventRow,
    Lane,
    WebhookDelivery,
    WebhookDeliveryRow,
    WebhookEndpoint,
    WebhookPosition,
)

FINAL_TYPES = [type for type in JobEventType if type.is_last]

MAX_SKIPPED_EVENTS = 500
"""Advance a position after this many non-final events, so they are not rescanned."""

MAX_STORES = 100
"""Stores that `stores_to_record` returns at most."""

DeliveryRecord = tuple[WebhookDeliveryRow, str, JobEventRow]
"""A delivery, the URL of its endpoint, and its event."""


def known_endpoints(tx: Transaction, urls: Collection[str]) -> dict[int, str]:
    """The URLs that have an endpoint, by the endpoint's pk."""
    return dict(
        tx.rows(
            sa.select(col(WebhookEndpoint.pk), col(WebhookEndpoint.url)).where(
                col(WebhookEndpoint.url).in_(urls)
            )
        )
    )


def add_endpoint(tx: Transaction, url: str) -> None:
    """Add an endpoint that starts at the present end of each log.

    Does nothing if another process adds the same one at this moment.
    """
    if not insert_ignore(tx, WebhookEndpoint, [{"url": url, "created_at": tx.now()}]):
        return
    heads = sa.select(col(WebhookEndpoint.pk), col(Lane.store), col(Lane.event_seq)).join_from(
        Lane, WebhookEndpoint, col(WebhookEndpoint.url) == url
    )
    tx.changed(sa.insert(WebhookPosition).from_select(["endpoint_pk", "store", "seq"], heads))


def stores_to_record(
    tx: Transaction, endpoints: Collection[int], stores: Collection[str] | None
) -> Sequence[str]:
    """The stores with final events after an endpoint's position.

    Also those with more than MAX_SKIPPED_EVENTS other events after it. At most MAX_STORES; None for
    `stores` searches all stores.
    """
    position = sa.func.coalesce(col(WebhookPosition.seq), 0)
    has_final_event = sa.exists().where(
        col(JobEvent.store) == col(Lane.store),
        col(JobEvent.seq) > position,
        col(JobEvent.type).in_(FINAL_TYPES),
    )
    query = (
        sa.select(col(Lane.store))
        .distinct()
        .join(WebhookEndpoint, sa.true())
        .outerjoin(
            WebhookPosition,
            sa.and_(
                col(WebhookPosition.endpoint_pk) == col(WebhookEndpoint.pk),
                col(WebhookPosition.store) == col(Lane.store),
            ),
        )
        .where(col(WebhookEndpoint.pk).in_(endpoints), col(Lane.event_seq) > position)
        .where(sa.or_(col(Lane.event_seq) > position + MAX_SKIPPED_EVENTS, has_final_event))
        .limit(MAX_STORES)
    )
    if stores is not None:
        query = query.where(col(Lane.store).in_(stores))
    return [store for (store,) in tx.rows(query)]


def position(tx: Transaction, endpoint: int, store: str) -> int:
    """The number of the last event recorded or skipped for the endpoint."""
    insert_ignore(tx, WebhookPosition, [{"endpoint_pk": endpoint, "store": store, "seq": 0}])
    [(seq,)] = tx.rows(
        sa.select(col(WebhookPosition.seq)).where(
            col(WebhookPosition.endpoint_pk) == endpoint, col(WebhookPosition.store) == store
        )
    )
    return seq


def advance_position(tx: Transaction, endpoint: int, store: str, seq: int, to: int) -> bool:
    """Advance the position from `seq` to `to`. Return False if it was no longer at `seq`.

    Of two concurrent calls one succeeds.
    """
    advanced = tx.changed(
        sa.update(WebhookPosition)
        .where(
            col(WebhookPosition.endpoint_pk) == endpoint,
            col(WebhookPosition.store) == store,
            col(WebhookPosition.seq) == seq,
        )
        .values(seq=to)
    )
    return advanced == 1


def final_events(tx: Transaction, store: str, after: int, to: int, limit: int) -> Sequence[int]:
    """The first `limit` final events after `after`, up to `to`."""
    rows = tx.rows(
        sa.select(col(JobEvent.seq))
        .where(col(JobEvent.store) == store, col(JobEvent.seq) > after, col(JobEvent.seq) <= to)
        .where(col(JobEvent.type).in_(FINAL_TYPES))
        .order_by(col(JobEvent.seq))
        .limit(limit)
    )
    return [seq for (seq,) in rows]


def add_deliveries(tx: Transaction, endpoint: int, store: str, seqs: Iterable[int]) -> None:
    """Add deliveries of these events to the endpoint, due now."""
    at = tx.now()
    delivery = {"endpoint_pk": endpoint, "store": store, "created_at": at, "due_at": at}
    if deliveries := [{"id": uuid4(), "seq": seq, **delivery} for seq in seqs]:
        tx.changed(sa.insert(WebhookDelivery), deliveries)


def endpoints_due(
    tx: Transaction, endpoints: Collection[int], stores: Collection[str] | None
) -> Sequence[int]:
    """The endpoints among `endpoints` with due deliveries.

    None for `stores` means all stores.
    """
    any_due = sa.exists().where(*_due_deliveries(tx, col(WebhookEndpoint.pk), stores))
    query = sa.select(col(WebhookEndpoint.pk)).where(col(WebhookEndpoint.pk).in_(endpoints))
    return [pk for (pk,) in tx.rows(query.where(any_due))]


def claim(
    tx: Transaction,
    endpoint: int,
    stores: Collection[str] | None,
    lease: timedelta,
    limit: int,
) -> list[tuple[WebhookDeliveryRow, JobEventRow]]:
    """Begin an attempt at up to `limit` due deliveries, longest due first.

    No other process claims them before `lease` expires. None for `stores` means all stores.
    """
    at = tx.now()
    due = tx.rows(
        sa.select(col(WebhookDelivery.pk), col(WebhookDelivery.attempts))
        .where(*_due_deliveries(tx, endpoint, stores))
        .order_by(col(WebhookDelivery.due_at), col(WebhookDelivery.pk))
        .limit(limit)
    )
    claimed = []
    for pk, attempts in due:
        values = {"attempts": attempts + 1, "attempted_at": at, "due_at": at + lease}
        if _update(tx, pk, attempts, values):
            claimed.append(pk)
    records = _records(tx, col(WebhookDelivery.pk).in_(claimed))
    by_pk = {delivery.pk: (delivery, event) for delivery, _, event in records}
    return [by_pk[pk] for pk in claimed]


def conclude(tx: Transaction, claimed: WebhookDeliveryRow, values: BindValues) -> bool:
    """Record the outcome of an attempt. Return False if a later attempt has begun."""
    return _update(tx, claimed.pk, claimed.attempts, values)


def redeliver(tx: Transaction, id: UUID) -> bool:
    """Make a delivery due now with all its attempts. Return False if it does not exist."""
    redelivered = tx.changed(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.id) == id)
        .values(status=DeliveryStatus.PENDING, attempts=0, due_at=tx.now())
    )
    return redelivered == 1


def latest_deliveries(
    tx: Transaction, statuses: Collection[DeliveryStatus], limit: int
) -> Sequence[DeliveryRecord]:
    """The newest deliveries with these statuses; an empty collection means any."""
    with_status = [col(WebhookDelivery.status).in_(statuses)] if statuses else []
    return _records(tx, *with_status, newest=limit)


def _records(
    tx: Transaction, *conditions: sa.ColumnElement[bool], newest: int | None = None
) -> list[DeliveryRecord]:
    """The deliveries that meet the conditions, all or the `newest` ones, newest first."""
    delivery_columns = all_columns(WebhookDelivery)
    query = (
        sa.select(
            col(WebhookEndpoint.url),
            *delivery_columns,
            *(column.label(f"event_{no}") for no, column in enumerate(all_columns(JobEvent))),
        )
        .where(
            col(WebhookEndpoint.pk) == col(WebhookDelivery.endpoint_pk),
            col(JobEvent.store) == col(WebhookDelivery.store),
            col(JobEvent.seq) == col(WebhookDelivery.seq),
            *conditions,
        )
        .order_by(col(WebhookDelivery.pk).desc())
        .limit(newest)
    )
    first_event_column = len(delivery_columns)
    return [
        (
            row_of(WebhookDeliveryRow, values[:first_event_column]),
            url,
            row_of(JobEventRow, values[first_event_column:]),
        )
        for url, *values in tx.rows(query)
    ]


def prune(tx: Transaction, store: str, seq: int) -> None:
    """Delete the deliveries of the store's events up to `seq`."""
    tx.changed(
        sa.delete(WebhookDelivery).where(
            col(WebhookDelivery.store) == store, col(WebhookDelivery.seq) <= seq
        )
    )


def is_due(now: datetime) -> sa.ColumnElement[bool]:
    """The condition that a delivery is due."""
    due_at = col(WebhookDelivery.due_at)
    return sa.or_(due_at <= now, due_at > now + MAX_PAUSE)


def _due_deliveries(
    tx: Transaction, endpoint: int | sa.SQLColumnExpression[int], stores: Collection[str] | None
) -> list[sa.ColumnElement[bool]]:
    """The conditions on due deliveries of an endpoint."""
    in_stores = [] if stores is None else [col(WebhookDelivery.store).in_(stores)]
    return [col(WebhookDelivery.endpoint_pk) == endpoint, is_due(tx.now()), *in_stores]


def _update(tx: Transaction, pk: int, attempts: int, values: BindValues) -> bool:
    """Update a pending delivery, unless its attempts are no longer `attempts`."""
    updated = tx.changed(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.pk) == pk, col(WebhookDelivery.attempts) == attempts)
        .where(col(WebhookDelivery.status) == DeliveryStatus.PENDING)
        .values(**values)
    )
    return updated == 1
