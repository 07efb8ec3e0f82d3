"""webhooks: list deliveries from the database, and repeat one."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import orjson
import typer

from app.cli.flags import takes_settings
from app.cli.streams import print_json, print_line, print_notice
from app.domain.display import printable
from app.domain.errors import NotFound
from app.domain.instants import format_instant
from app.domain.webhooks import DeliveryStatus, origin_of
from app.services import webhooks as service
from app.settings import Settings, group_of
from app.storage import webhooks as stored
from app.storage.engine.database import DatabaseUnavailable, StorageFull, UnusableDatabase
from app.storage.tables import JobEventRow, WebhookDeliveryRow
from app.storage.webhooks import DeliveryRecord
from app.wiring import open_database

MAX_DELIVERIES = 10_000


@takes_settings(lambda name: group_of(name) == "Database")
def webhooks(
    settings: Settings,
    status: Annotated[
        list[DeliveryStatus] | None,
        typer.Option(
            case_sensitive=False, help="Only deliveries with this status; repeat for several."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_DELIVERIES, help="Max number of deliveries.")
    ] = 25,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    redeliver: Annotated[
        UUID | None,
        typer.Option(metavar="ID", help="Send this delivery again, with a new series of attempts."),
    ] = None,
) -> None:
    """List webhook deliveries and their outcomes, newest first.

    One line per delivery: id (the message's webhook-id), status, event type, and the other fields
    by name. URLs are shown as origins, because their paths may be secret.
    """
    try:
        deliveries = asyncio.run(_deliveries(settings, status or [], limit, redeliver))
    except (NotFound, UnusableDatabase, DatabaseUnavailable, StorageFull) as error:
        print_notice(str(error))
        raise typer.Exit(1) from None
    for delivery, url, event in deliveries:
        fields = _fields(delivery, url, event)
        print_json(fields) if json else print_line(_line(fields))
    if redeliver:
        print_line(f"{redeliver} will be sent again by the next process that runs the queue.")
    elif not deliveries:
        print_notice("No deliveries.")


async def _deliveries(
    settings: Settings, statuses: Collection[DeliveryStatus], limit: int, redeliver: UUID | None
) -> Sequence[DeliveryRecord]:
    database = open_database(settings)
    try:
        if redeliver:
            await database.write(service.redeliver, redeliver)
            return []
        return await database.read(stored.latest_deliveries, statuses, limit)
    finally:
        database.close()


def _fields(
    delivery: WebhookDeliveryRow, url: str, event: JobEventRow
) -> dict[str, str | int | None]:
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
    return format_instant(instant) if instant else None


def _line(fields: Mapping[str, str | int | None]) -> str:
    words = [
        f"{key}={_word(str(value))}" for key, value in fields.items() if value not in (None, "")
    ]
    return " ".join(
        [str(fields["id"]), str(fields["status"]).upper(), str(fields["type"]), *words[3:]]
    )


def _word(value: str) -> str:
    value = printable(value)
    return orjson.dumps(value).decode() if " " in value or '"' in value else value
