"""webhooks: what was sent to whom, straight from the database, and sending it anew."""

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import orjson
import typer

from app.cli.flags import takes_settings
from app.cli.output import printable
from app.domain.errors import NotFound
from app.domain.instants import instant_text
from app.domain.webhooks import DeliveryStatus, origin_of
from app.services import webhooks as service
from app.settings import Settings, group_of
from app.storage import webhooks as stored
from app.storage.engine.database import UnusableDatabase
from app.storage.tables import JobEvent, WebhookDelivery
from app.storage.webhooks import Logged
from app.wiring import open_database

MAX_DELIVERIES = 10_000


@takes_settings(lambda name: group_of(name) == "Database")
def webhooks(
    settings: Settings,
    status: Annotated[
        list[DeliveryStatus] | None,
        typer.Option(case_sensitive=False, help="Only these; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_DELIVERIES, help="At most this many.")] = 25,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    redeliver: Annotated[
        UUID | None,
        typer.Option(metavar="ID", help="Send this one anew, with all its attempts before it."),
    ] = None,
) -> None:
    """List what webhooks were sent, newest first, and what came of it.

    A line each: its id, which is the message's webhook-id, its status, what it tells, and the rest
    by name. Of a URL its origin is shown: the rest may be a secret.
    """
    try:
        found = asyncio.run(_log(settings, status or [], limit, redeliver))
    except (NotFound, UnusableDatabase) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    for delivery, url, event in found:
        told = _told(delivery, url, event)
        print(orjson.dumps(told).decode() if json else _line(told))
    if redeliver:
        print(f"{redeliver} is sent anew by the next process that runs the queue.")
    elif not found:
        print("No webhooks.", file=sys.stderr)


async def _log(
    settings: Settings, statuses: Collection[DeliveryStatus], limit: int, redeliver: UUID | None
) -> Sequence[Logged]:
    database = open_database(settings)
    try:
        if redeliver:
            await database.write(service.redeliver, redeliver)
            return []
        return await database.read(stored.log, statuses, limit)
    finally:
        database.close()


def _told(delivery: WebhookDelivery, url: str, event: JobEvent) -> dict[str, str | int | None]:
    return {
        "id": str(delivery.id),
        "status": delivery.status,
        "type": f"job.{event.type}",
        "to": origin_of(url),
        "store": delivery.store,
        "seq": delivery.seq,
        "job": event.snapshot["id"],
        "created": _instant(delivery.created_at),
        "attempts": delivery.attempts,
        "attempted": _instant(delivery.attempted_at),
        "answer": delivery.answer,
        "reason": delivery.reason,
        "due": _instant(delivery.due_at),
    }


def _instant(instant: datetime | None) -> str | None:
    return instant_text(instant) if instant else None


def _line(told: Mapping[str, str | int | None]) -> str:
    words = [f"{key}={_word(str(value))}" for key, value in told.items() if value not in (None, "")]
    return " ".join([str(told["id"]), str(told["status"]).upper(), str(told["type"]), *words[3:]])


def _word(value: str) -> str:
    value = printable(value)
    return orjson.dumps(value).decode() if " " in value or '"' in value else value
