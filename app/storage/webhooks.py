"""Webhook endpoints, their positions in each event log, and deliveries."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Session, col, select

from app.domain.events import JobEventType
from app.domain.webhooks import DeliveryStatus
from app.storage.engine.database import now
from app.storage.sql.dialects import insert_ignore
from app.storage.tables import JobEvent, Lane, WebhookDelivery, WebhookEndpoint, WebhookPosition

FINAL_TYPES = [type for type in JobEventType if type.is_last]

MAX_SKIPPED_EVENTS = 500
"""Advance a position after this many non-final events, so they are not rescanned."""

MAX_STORES = 100
"""Stores that `stores_to_record` returns at most."""

DeliveryRecord = tuple[WebhookDelivery, str, JobEvent]
"""A delivery, the URL of its endpoint, and its event."""


def known_endpoints(session: Session, urls: Collection[str]) -> dict[int, str]:
    """The URLs that have an endpoint, by the endpoint's pk."""
    endpoints = session.exec(select(WebhookEndpoint).where(col(WebhookEndpoint.url).in_(urls)))
    return {endpoint.pk: endpoint.url for endpoint in endpoints if endpoint.pk is not None}


def add_endpoint(session: Session, url: str) -> None:
    """Add an endpoint that starts at the present end of each log.

    Does nothing if another process adds the same one at this moment.
    """
    endpoint = WebhookEndpoint(url=url, created_at=now(session))
    try:
        with session.begin_nested():
            session.add(endpoint)
    except sa.exc.IntegrityError:
        return
    heads = select(sa.literal(endpoint.pk), Lane.store, Lane.event_seq)
    session.exec(sa.insert(WebhookPosition).from_select(["endpoint_pk", "store", "seq"], heads))


def stores_to_record(
    session: Session, endpoints: Collection[int], stores: Collection[str] | None
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
        select(Lane.store)
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
    return session.exec(query).all()


def position(session: Session, endpoint: int, store: str) -> int:
    """The number of the last event recorded or skipped for the endpoint."""
    insert_ignore(session, WebhookPosition, [{"endpoint_pk": endpoint, "store": store, "seq": 0}])
    query = select(WebhookPosition.seq).where(
        WebhookPosition.endpoint_pk == endpoint, WebhookPosition.store == store
    )
    return session.exec(query).one()


def advance_position(session: Session, endpoint: int, store: str, seq: int, to: int) -> bool:
    """Advance the position from `seq` to `to`. Return False if it was no longer at `seq`.

    Of two concurrent calls one succeeds.
    """
    result = session.exec(
        sa.update(WebhookPosition)
        .where(
            col(WebhookPosition.endpoint_pk) == endpoint,
            col(WebhookPosition.store) == store,
            col(WebhookPosition.seq) == seq,
        )
        .values(seq=to)
    )
    return result.rowcount == 1


def final_events(session: Session, store: str, after: int, to: int, limit: int) -> Sequence[int]:
    """The first `limit` final events after `after`, up to `to`."""
    return session.exec(
        select(JobEvent.seq)
        .where(JobEvent.store == store, JobEvent.seq > after, JobEvent.seq <= to)
        .where(col(JobEvent.type).in_(FINAL_TYPES))
        .order_by(col(JobEvent.seq))
        .limit(limit)
    ).all()


def add_deliveries(session: Session, endpoint: int, store: str, seqs: Iterable[int]) -> None:
    """Add deliveries of these events to the endpoint, due now."""
    at = now(session)
    session.add_all(
        WebhookDelivery(endpoint_pk=endpoint, store=store, seq=seq, created_at=at, due_at=at)
        for seq in seqs
    )


def endpoints_due(
    session: Session, endpoints: Collection[int], stores: Collection[str] | None
) -> Sequence[int]:
    """The endpoints among `endpoints` with due deliveries.

    None for `stores` means all stores.
    """
    any_due = sa.exists().where(*_is_due(session, col(WebhookEndpoint.pk), stores))
    query = sa.select(col(WebhookEndpoint.pk)).where(col(WebhookEndpoint.pk).in_(endpoints))
    return session.execute(query.where(any_due)).scalars().all()


def claim(
    session: Session,
    endpoint: int,
    stores: Collection[str] | None,
    lease: timedelta,
    limit: int,
) -> list[tuple[WebhookDelivery, JobEvent]]:
    """Begin an attempt at up to `limit` due deliveries, longest due first.

    No other process claims them before `lease` expires. None for `stores` means all stores.
    """
    at = now(session)
    due = session.exec(
        select(col(WebhookDelivery.pk), WebhookDelivery.attempts)
        .where(*_is_due(session, endpoint, stores))
        .order_by(col(WebhookDelivery.due_at), col(WebhookDelivery.pk))
        .limit(limit)
    ).all()
    claimed = []
    for pk, attempts in due:
        values = {"attempts": attempts + 1, "attempted_at": at, "due_at": at + lease}
        if _update(session, pk, attempts, values):
            claimed.append(pk)
    rows = session.exec(
        select(WebhookDelivery, JobEvent)
        .where(col(WebhookDelivery.pk).in_(claimed))
        .where(JobEvent.store == WebhookDelivery.store, JobEvent.seq == WebhookDelivery.seq)
    )
    return list(rows)


def conclude(session: Session, claimed: WebhookDelivery, values: Mapping[str, Any]) -> bool:
    """Record the outcome of an attempt. Return False if a later attempt has begun."""
    return _update(session, claimed.pk, claimed.attempts, values)


def redeliver(session: Session, id: UUID) -> bool:
    """Make a delivery due now with all its attempts. Return False if it does not exist."""
    result = session.exec(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.id) == id)
        .values(status=DeliveryStatus.PENDING, attempts=0, due_at=now(session))
    )
    return result.rowcount == 1


def latest_deliveries(
    session: Session, statuses: Collection[DeliveryStatus], limit: int
) -> Sequence[DeliveryRecord]:
    """The newest deliveries with these statuses; an empty collection means any."""
    query = (
        select(WebhookDelivery, WebhookEndpoint.url, JobEvent)
        .where(WebhookEndpoint.pk == WebhookDelivery.endpoint_pk)
        .where(JobEvent.store == WebhookDelivery.store, JobEvent.seq == WebhookDelivery.seq)
        .order_by(col(WebhookDelivery.pk).desc())
        .limit(limit)
    )
    if statuses:
        query = query.where(col(WebhookDelivery.status).in_(statuses))
    return session.exec(query).all()


def prune(session: Session, store: str, seq: int) -> None:
    """Delete the deliveries of the store's events up to `seq`."""
    session.exec(
        sa.delete(WebhookDelivery).where(
            col(WebhookDelivery.store) == store, col(WebhookDelivery.seq) <= seq
        )
    )


def _is_due(
    session: Session, endpoint: Any, stores: Collection[str] | None
) -> list[sa.ColumnElement[bool]]:
    in_stores = [] if stores is None else [col(WebhookDelivery.store).in_(stores)]
    return [
        col(WebhookDelivery.endpoint_pk) == endpoint,
        col(WebhookDelivery.due_at) <= now(session),
        *in_stores,
    ]


def _update(session: Session, pk: int | None, attempts: int, values: Mapping[str, Any]) -> bool:
    """Update a pending delivery, unless its attempts are no longer `attempts`."""
    result = session.exec(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.pk) == pk, col(WebhookDelivery.attempts) == attempts)
        .where(col(WebhookDelivery.status) == DeliveryStatus.PENDING)
        .values(**values)
    )
    return result.rowcount == 1
