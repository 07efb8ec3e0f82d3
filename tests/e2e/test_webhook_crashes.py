"""A process killed between sending a webhook and recording it: the message is sent again with the
same id, so that the receiver can recognise it."""

import asyncio
import subprocess
from contextlib import closing
from time import monotonic

import pytest
import sqlalchemy as sa
from sqlmodel import col, select
from standardwebhooks import Webhook

from app.domain.webhooks import DeliveryStatus
from app.services import webhooks
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import WebhookDelivery
from app.webhooks.dispatcher import LEASE
from app.wiring import open_database
from tests import factories
from tests.support.entities import session_of
from tests.support.processes import start_worker
from tests.support.webhook_receiver import SECRET, receiving

pytestmark = pytest.mark.fault

WRITTEN_WITHIN_SECONDS = 30
LOOK_EVERY_SECONDS = 0.05


async def delivery(database: Database) -> WebhookDelivery:
    """Read the only delivery."""
    return await database.read(lambda tx: session_of(tx).exec(select(WebhookDelivery)).one())


def let_lease_pass(tx: Transaction) -> None:
    """Move the delivery's due time back by the lease."""
    [(due,)] = tx.rows(sa.select(col(WebhookDelivery.due_at)))
    assert due
    tx.changed(sa.update(WebhookDelivery).values(due_at=due - LEASE))


@pytest.mark.timeout(180)
async def test_a_message_of_a_killed_sender_is_sent_again_with_the_same_id(
    database_url: str,
) -> None:
    async with receiving() as receiver:
        environment = {
            "JOBS_GATEWAY_WEBHOOKS": receiver.url,
            "JOBS_GATEWAY_WEBHOOK_SECRET": SECRET,
            "JOBS_GATEWAY_WEBHOOK_NETWORKS": "127.0.0.0/8",
        }
        with closing(open_database(Settings(database_url=database_url))) as database:
            await database.write(webhooks.register, [receiver.url])
            source = await factories.hierarchy(database, {"a": {}})
            job = await factories.pending_duplication(database, source)

            receiver.open.clear()
            first = await asyncio.to_thread(lambda: start_worker(database_url, **environment))
            lost = await receiver.next()
            first.kill()
            assert (await delivery(database)).status is DeliveryStatus.PENDING

            receiver.open.set()
            await database.write(let_lease_pass)
            second = await asyncio.to_thread(lambda: start_worker(database_url, **environment))
            began = monotonic()
            again = await receiver.next()
            assert lost.job == again.job == str(job.id)
            assert (lost.id, lost.body) == (again.id, again.body)
            for request in (lost, again):
                assert (
                    Webhook(SECRET).verify(request.body, request.headers)["type"] == "job.succeeded"
                )

            while (last := await delivery(database)).status is DeliveryStatus.PENDING:
                assert monotonic() < began + WRITTEN_WITHIN_SECONDS
                with pytest.raises(subprocess.TimeoutExpired):
                    await asyncio.to_thread(second.process.wait, LOOK_EVERY_SECONDS)
            assert (last.status, last.attempts) == (DeliveryStatus.DELIVERED, 2)
            assert await asyncio.to_thread(second.stop) == 0
        assert receiver.received.empty()
