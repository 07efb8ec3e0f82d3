"""Tells the endpoints of webhooks of jobs that have ended, until each was told or tried enough."""

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
"""Events recorded a transaction, for each endpoint."""

LEASE = timedelta(seconds=30)
"""After it an attempt without a result is taken for dead and begun anew: three times as long as one
may take."""

STOP_SECONDS = 1.0
"""How long attempts may take to end once the courier stops. What does not is made again by whoever
comes next."""


class Dispatcher:
    """Sends what happens in all stores, or in those given, to each of the URLs, until stopped.

    The event log is the truth: in one transaction the events that end jobs become deliveries and
    the endpoint's position moves on, so none is lost and none is there twice. A delivery is sent
    until it is answered with success, that is at least once; several processes share the work, and
    repeat that of one that died. Endpoints do not wait for each other: each has at most
    `at_once` attempts under way. Wake-ups are hints: every `poll` seconds it looks by itself.
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
        at_once: int = 4,
    ) -> None:
        self._database = database
        self._urls = urls
        self._keys = keys
        self._sender = sender
        self._stores = stores
        self._poll = poll
        self._at_once = at_once
        self._endpoints: dict[int, str] = {}
        self._sending: dict[int, set[asyncio.Task[None]]] = {}
        self._told: set[str] = set()
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self, stores: Collection[str]) -> None:
        """Something may have happened in these stores."""
        self._told.update(
            stores if self._stores is None else set(stores).intersection(self._stores)
        )
        self._woken.set()

    def stop(self) -> None:
        """Begin no attempt more."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Send until `stop`."""
        clock = asyncio.get_running_loop().time
        look_everywhere_at = clock()
        async with self._sender:
            try:
                while not self._stopping.is_set():
                    self._woken.clear()
                    told, self._told = self._told, set()
                    if clock() < look_everywhere_at:
                        await self._look(told)
                    else:
                        look_everywhere_at = clock() + self._poll
                        await self._look(self._stores)
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(look_everywhere_at):
                            await self._woken.wait()
            finally:
                await self._end_attempts()

    async def _look(self, stores: Collection[str] | None) -> None:
        """Record what has happened in these stores, all of them if None, and begin what is due."""
        try:
            if not self._endpoints:
                self._endpoints = await self._database.write(webhooks.register, self._urls)
            if stores is None or stores:
                await self._record(stores)
            await self._begin()
        except (DatabaseUnavailable, StorageFull) as error:
            log.warning("webhooks wait: %s It is tried again in %s s.", error, self._poll)
        except Exception:
            log.exception("looking for webhooks to send broke; it is tried again")

    async def _record(self, stores: Collection[str] | None) -> None:
        endpoints = self._endpoints.keys()
        behind = await self._database.scan(stored.stores_to_record, endpoints, stores)
        for store in behind:
            missed = await self._database.write_bulk(webhooks.record, store, endpoints, MAX_EVENTS)
            if missed:
                log.warning(
                    "up to %s events of store %s were pruned before webhooks could tell of them; "
                    "jobs that ended with them are not told of",
                    missed,
                    store,
                )
        if behind:
            # There may be more, in these stores or in others.
            self.wake(behind)

    async def _begin(self) -> None:
        free = {
            endpoint: self._at_once - len(self._sending.get(endpoint, ()))
            for endpoint in self._endpoints
        }
        due = await self._database.scan(
            stored.endpoints_due, [endpoint for endpoint in free if free[endpoint]], self._stores
        )
        for endpoint in due:
            begun = await self._database.write_bulk(
                webhooks.claim, endpoint, self._stores, LEASE, free[endpoint]
            )
            for attempt in begun:
                task = asyncio.create_task(self._send(self._endpoints[endpoint], attempt))
                self._sending.setdefault(endpoint, set()).add(task)
                task.add_done_callback(partial(self._ended, endpoint))

    async def _send(self, url: str, attempt: DeliveryAttempt) -> None:
        delivery = attempt.delivery
        assert delivery.attempted_at is not None
        headers = signed_headers(self._keys, delivery.id, delivery.attempted_at, attempt.body)
        try:
            answer = await self._sender.post(url, headers, attempt.body)
        except Exception:
            log.exception("sending webhook %s broke", delivery.id)
            answer = DeliveryResponse(None, "Internal error")
        try:
            pause = await self._database.write(webhooks.conclude, delivery, answer, random())
        except (DatabaseUnavailable, StorageFull) as error:
            log.warning("webhook %s is sent again, however it went: %s", delivery.id, error)
            return
        outcome = "delivered" if answer.delivered else "failed" if pause is None else "again"
        log.log(
            logging.WARNING if outcome == "failed" else logging.INFO,
            "webhook",
            extra={
                "request_id": attempt.job.request_id,
                "job_id": str(attempt.job.id),
                "webhook_id": str(delivery.id),
                "to": origin_of(url),
                "attempt": delivery.attempts,
                "status": answer.status,
                "reason": answer.reason,
                "outcome": outcome,
                "pause": pause and round(pause.total_seconds(), 3),
            },
        )

    def _ended(self, endpoint: int, task: "asyncio.Task[None]") -> None:
        self._sending[endpoint].discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("a webhook is sent again, however it went", exc_info=error)

    async def _end_attempts(self) -> None:
        running = [task for tasks in self._sending.values() for task in tasks]
        if running:
            await asyncio.wait(running, timeout=STOP_SECONDS)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
