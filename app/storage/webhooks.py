"""Webhooks: how far each endpoint has been told of each store's log, and what is to be sent."""

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

LAST = [type for type in JobEventType if type.is_last]

UNTOLD_EVENTS = 500
"""After so many events of which none is a job's last, a position moves on all the same: they are
passed over at each look."""

BEHIND_STORES = 100

Logged = tuple[WebhookDelivery, str, JobEvent]
"""A delivery, the URL it goes to, and the event it tells of."""


def endpoints(session: Session, urls: Collection[str]) -> dict[int, str]:
    """The URLs of those endpoints among these that are known, by their keys."""
    found = session.exec(select(WebhookEndpoint).where(col(WebhookEndpoint.url).in_(urls)))
    return {endpoint.pk: endpoint.url for endpoint in found if endpoint.pk is not None}


def add_endpoint(session: Session, url: str) -> None:
    """Let the endpoint be known from now on, and begin behind all that has been logged so far.
    Nothing happens if somebody does so at the same moment."""
    endpoint = WebhookEndpoint(url=url, created_at=now(session))
    try:
        with session.begin_nested():
            session.add(endpoint)
    except sa.exc.IntegrityError:
        return
    heads = select(sa.literal(endpoint.pk), Lane.store, Lane.event_seq)
    session.exec(sa.insert(WebhookPosition).from_select(["endpoint_pk", "store", "seq"], heads))


def behind(
    session: Session, endpoints: Collection[int], stores: Collection[str] | None
) -> Sequence[str]:
    """Some of the stores, of those given if any are, where one of the endpoints is to be told of
    jobs that have ended."""
    told = sa.func.coalesce(col(WebhookPosition.seq), 0)
    one_ended = sa.exists().where(
        col(JobEvent.store) == col(Lane.store),
        col(JobEvent.seq) > told,
        col(JobEvent.type).in_(LAST),
    )
    found = (
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
        .where(col(WebhookEndpoint.pk).in_(endpoints), col(Lane.event_seq) > told)
        .where(sa.or_(col(Lane.event_seq) > told + UNTOLD_EVENTS, one_ended))
        .limit(BEHIND_STORES)
    )
    if stores is not None:
        found = found.where(col(Lane.store).in_(stores))
    return session.exec(found).all()


def position(session: Session, endpoint: int, store: str) -> int:
    """The last event of the store's log that the endpoint has been told of, or need not be."""
    insert_ignore(session, WebhookPosition, [{"endpoint_pk": endpoint, "store": store, "seq": 0}])
    wanted = select(WebhookPosition.seq).where(
        WebhookPosition.endpoint_pk == endpoint, WebhookPosition.store == store
    )
    return session.exec(wanted).one()


def move_position(session: Session, endpoint: int, store: str, seq: int, to: int) -> bool:
    """Move the position on from `seq`, and whether it still was there: of two who try, one does."""
    moved = session.exec(
        sa.update(WebhookPosition)
        .where(
            col(WebhookPosition.endpoint_pk) == endpoint,
            col(WebhookPosition.store) == store,
            col(WebhookPosition.seq) == seq,
        )
        .values(seq=to)
    )
    return moved.rowcount == 1


def last_events(session: Session, store: str, after: int, to: int, limit: int) -> Sequence[int]:
    """The numbers of the first `limit` events past `after`, up to `to`, that are a job's last."""
    return session.exec(
        select(JobEvent.seq)
        .where(JobEvent.store == store, JobEvent.seq > after, JobEvent.seq <= to)
        .where(col(JobEvent.type).in_(LAST))
        .order_by(col(JobEvent.seq))
        .limit(limit)
    ).all()


def add_deliveries(session: Session, endpoint: int, store: str, seqs: Iterable[int]) -> None:
    """Let these events be sent to the endpoint, from now on."""
    at = now(session)
    session.add_all(
        WebhookDelivery(endpoint_pk=endpoint, store=store, seq=seq, created_at=at, due_at=at)
        for seq in seqs
    )


def with_due(
    session: Session, endpoints: Collection[int], stores: Collection[str] | None
) -> Sequence[int]:
    """The endpoints among these that something is to be sent to now, of the stores given if any
    are."""
    any_due = sa.exists().where(*_due(session, col(WebhookEndpoint.pk), stores))
    wanted = sa.select(col(WebhookEndpoint.pk)).where(col(WebhookEndpoint.pk).in_(endpoints))
    return session.execute(wanted.where(any_due)).scalars().all()


def claim(
    session: Session,
    endpoint: int,
    stores: Collection[str] | None,
    lease: timedelta,
    limit: int,
) -> list[tuple[WebhookDelivery, JobEvent]]:
    """Begin an attempt at up to `limit` of the deliveries that are due, the longest due first, each
    with its event. Nobody else takes them up before the lease runs out."""
    at = now(session)
    due = session.exec(
        select(col(WebhookDelivery.pk), WebhookDelivery.attempts)
        .where(*_due(session, endpoint, stores))
        .order_by(col(WebhookDelivery.due_at), col(WebhookDelivery.pk))
        .limit(limit)
    ).all()
    begun = []
    for pk, attempts in due:
        values = {"attempts": attempts + 1, "attempted_at": at, "due_at": at + lease}
        if _change(session, pk, attempts, values):
            begun.append(pk)
    found = session.exec(
        select(WebhookDelivery, JobEvent)
        .where(col(WebhookDelivery.pk).in_(begun))
        .where(JobEvent.store == WebhookDelivery.store, JobEvent.seq == WebhookDelivery.seq)
    )
    return list(found)


def conclude(session: Session, claimed: WebhookDelivery, values: Mapping[str, Any]) -> bool:
    """Write what came of the attempt, unless another one was begun since; whether so."""
    return _change(session, claimed.pk, claimed.attempts, values)


def redeliver(session: Session, id: UUID) -> bool:
    """Let it be sent anew, now and with all its attempts before it; whether there is one."""
    anew = session.exec(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.id) == id)
        .values(status=DeliveryStatus.PENDING, attempts=0, due_at=now(session))
    )
    return anew.rowcount == 1


def log(session: Session, statuses: Collection[DeliveryStatus], limit: int) -> Sequence[Logged]:
    """The newest deliveries of these statuses, of all if none is named."""
    wanted = (
        select(WebhookDelivery, WebhookEndpoint.url, JobEvent)
        .where(WebhookEndpoint.pk == WebhookDelivery.endpoint_pk)
        .where(JobEvent.store == WebhookDelivery.store, JobEvent.seq == WebhookDelivery.seq)
        .order_by(col(WebhookDelivery.pk).desc())
        .limit(limit)
    )
    if statuses:
        wanted = wanted.where(col(WebhookDelivery.status).in_(statuses))
    return session.exec(wanted).all()


def prune(session: Session, store: str, seq: int) -> None:
    """Delete the deliveries of the store's events up to that one."""
    session.exec(
        sa.delete(WebhookDelivery).where(
            col(WebhookDelivery.store) == store, col(WebhookDelivery.seq) <= seq
        )
    )


def _due(
    session: Session, endpoint: Any, stores: Collection[str] | None
) -> list[sa.ColumnElement[bool]]:
    of_stores = [] if stores is None else [col(WebhookDelivery.store).in_(stores)]
    return [
        col(WebhookDelivery.endpoint_pk) == endpoint,
        col(WebhookDelivery.due_at) <= now(session),
        *of_stores,
    ]


def _change(session: Session, pk: int | None, attempts: int, values: Mapping[str, Any]) -> bool:
    changed = session.exec(
        sa.update(WebhookDelivery)
        .where(col(WebhookDelivery.pk) == pk, col(WebhookDelivery.attempts) == attempts)
        .where(col(WebhookDelivery.status) == DeliveryStatus.PENDING)
        .values(**values)
    )
    return changed.rowcount == 1
