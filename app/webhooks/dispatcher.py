"""The webhook dispatcher: delivers ended jobs to each endpoint, with retries."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from random import random

from app.domain.webhooks import DeliveryResponse, origin_of, signed_headers
from app.services import webhooks
from app.services.webhooks import DeliveryAttempt
from app.storage import webhooks as stored
from app.storage.engine.database import Database, DatabaseUnavailable, StorageFull
from app.webhooks.sender import Sender

log = logging.getLogger(__name__)

MAX_EVENTS = 100
"""Max events turned into deliveries per transaction and endpoint."""

LEASE = timedelta(seconds=30)
"""Time after which an attempt without an outcome counts as dead and is repeated: three times the
timeout of an attempt."""

STOP_SECONDS = 1.0
"""Max seconds for running attempts to end after `stop`. Others are cancelled, and repeated by the
next process."""


class Dispatcher:
    """Delivers the ended jobs of `stores`, or of all stores if None, to each URL, until stopped.

    The event log is the truth: one transaction turns final events into deliveries and advances the
    endpoint's position, so no delivery is lost or duplicated. A delivery is sent until the endpoint
    responds with success, that is at least once. Several processes share the work, and repeat the
    attempts of one that died. Endpoints do not wait for each other: each has at most `concurrency`
    running attempts. Wake-ups are hints: it also polls every `poll` seconds.
    """

    def __init__(
        self,
        database: Database,
        urls: Collection[str],
        keys: Sequence[bytes],
        sender: Sender,
        *,
        stores: Collection[str] | None = None,
        poll: float = 2.0,
        concurrency: int = 4,
    ) -> None:
        self._database = database
        self._urls = urls
        self._keys = keys
        self._sender = sender
        self._stores = stores
        self._poll = poll
        self._concurrency = concurrency
        self._endpoints: dict[int, str] = {}
        self._sending: dict[int, set[asyncio.Task[None]]] = {}
        self._woken_stores: set[str] = set()
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self, stores: Collection[str]) -> None:
        """Look for ended jobs in these stores (a hint)."""
        self._woken_stores.update(
            stores if self._stores is None else set(stores).intersection(self._stores)
        )
        self._woken.set()

    def stop(self) -> None:
        """Start no more attempts."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Send until `stop`."""
        clock = asyncio.get_running_loop().time
        poll_at = clock()
        async with self._sender:
            try:
                while not self._stopping.is_set():
                    self._woken.clear()
                    woken, self._woken_stores = self._woken_stores, set()
                    if clock() < poll_at:
                        await self._deliver(woken)
                    else:
                        poll_at = clock() + self._poll
                        await self._deliver(self._stores)
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(poll_at):
                            await self._woken.wait()
            finally:
                await self._end_attempts()

    async def _deliver(self, stores: Collection[str] | None) -> None:
        """Create deliveries for these stores, all if None, and start the attempts that are due."""
        try:
            if not self._endpoints:
                self._endpoints = await self._database.write(webhooks.register, self._urls)
            if stores is None or stores:
                await self._create_deliveries(stores)
            await self._start_attempts()
        except (DatabaseUnavailable, StorageFull) as error:
            log.warning("sending webhooks failed: %s Retrying in %s s.", error, self._poll)
        except Exception:
            log.exception("sending webhooks failed; retrying in %s s", self._poll)

    async def _create_deliveries(self, stores: Collection[str] | None) -> None:
        endpoints = self._endpoints.keys()
        unrecorded = await self._database.scan(stored.stores_to_record, endpoints, stores)
        for store in unrecorded:
            missed = await self._database.write_bulk(
                webhooks.create_deliveries, store, endpoints, MAX_EVENTS
            )
            if missed:
                log.warning(
                    "up to %s events of store %s were pruned before webhooks could deliver them; "
                    "the jobs that ended with them are not delivered",
                    missed,
                    store,
                )
        if unrecorded:
            # There may be more events, in these stores or in others.
            self.wake(unrecorded)

    async def _start_attempts(self) -> None:
        free = {
            endpoint: self._concurrency - len(self._sending.get(endpoint, ()))
            for endpoint in self._endpoints
        }
        due = await self._database.scan(
            stored.endpoints_due, [endpoint for endpoint in free if free[endpoint]], self._stores
        )
        for endpoint in due:
            attempts = await self._database.write_bulk(
                webhooks.claim, endpoint, self._stores, LEASE, free[endpoint]
            )
            for attempt in attempts:
                task = asyncio.create_task(self._send(self._endpoints[endpoint], attempt))
                self._sending.setdefault(endpoint, set()).add(task)
                task.add_done_callback(partial(self._attempt_ended, endpoint))

    async def _send(self, url: str, attempt: DeliveryAttempt) -> None:
        delivery = attempt.delivery
        assert delivery.attempted_at is not None
        headers = signed_headers(self._keys, delivery.id, delivery.attempted_at, attempt.body)
        try:
            response = await self._sender.post(url, headers, attempt.body)
        except Exception:
            log.exception("sending webhook %s failed", delivery.id)
            response = DeliveryResponse(None, "Internal error")
        try:
            pause = await self._database.write(webhooks.conclude, delivery, response, random())
        except (DatabaseUnavailable, StorageFull) as error:
            log.warning("webhook %s will be sent again: recording failed: %s", delivery.id, error)
            return
        outcome = "delivered" if response.delivered else "failed" if pause is None else "again"
        log.log(
            logging.WARNING if outcome == "failed" else logging.INFO,
            "webhook",
            extra={
                "request_id": attempt.job.request_id,
                "job_id": str(attempt.job.id),
                "webhook_id": str(delivery.id),
                "to": origin_of(url),
                "attempt": delivery.attempts,
                "status": response.status,
                "reason": response.reason,
                "outcome": outcome,
                "pause": pause and round(pause.total_seconds(), 3),
            },
        )

    def _attempt_ended(self, endpoint: int, task: "asyncio.Task[None]") -> None:
        self._sending[endpoint].discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("a webhook will be sent again: recording failed", exc_info=error)

    async def _end_attempts(self) -> None:
        running = [task for tasks in self._sending.values() for task in tasks]
        if running:
            await asyncio.wait(running, timeout=STOP_SECONDS)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
