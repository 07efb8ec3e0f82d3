"""The dispatcher: finds stores with jobs to run and runs one lane per store."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from opentelemetry.trace import Tracer

from app.domain.jobs import JobType
from app.queue.handler import Handler
from app.queue.sweeper import Sweeper
from app.queue.worker import Outcome, Worker
from app.services import attempts
from app.storage import lanes
from app.storage.engine.database import Database, DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)

POLL_GRACE_SECONDS = 10
"""Grace before an overdue poll counts as unhealthy."""


class Dispatcher:
    """Claims and runs the jobs of `stores`, or of all stores if None, until stopped.

    Within a store one job runs at a time, in queue order. Up to `concurrency` stores run in
    parallel, and take turns if there are more. Wake-ups are hints: it also polls every `poll`
    seconds.
    """

    def __init__(
        self,
        database: Database,
        handlers: Mapping[JobType, Handler],
        *,
        stores: Collection[str] | None = None,
        lease: timedelta = timedelta(seconds=30),
        time_limit: timedelta = timedelta(hours=1),
        retention: timedelta | None = None,
        poll: float = 1.0,
        concurrency: int = 8,
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        self._database = database
        self._stores = stores
        self._lease = lease
        self._poll = poll
        self._concurrency = concurrency
        self._holder = uuid4()
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._worker = Worker(database, handlers, lease, self._stopping, time_limit, clock, tracer)
        self._sweeper = Sweeper(database, retention)
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._clock = clock
        self._polled_at = clock()

    def wake(self, stores: Collection[str]) -> None:
        """Poll soon: these stores may have jobs (a hint). Running lanes need no hint."""
        if not self._lanes.keys() >= set(stores):
            self._woken.set()

    def stop(self) -> None:
        """Claim no more jobs. Each running job ends its step and is released."""
        self._stopping.set()
        self._woken.set()

    def unhealthy_reason(self) -> str | None:
        """Return one sentence on why jobs do not run here, or None."""
        if self._stopping.is_set():
            return "The dispatcher is stopping."
        seconds = self._clock() - self._polled_at
        if seconds > self._poll + POLL_GRACE_SECONDS:
            return f"The dispatcher has not polled for jobs for {seconds:.0f} s."
        seconds = self._worker.seconds_since_heartbeat()
        if seconds > self._lease.total_seconds():
            return f"A job running here has had no heartbeat for {seconds:.0f} s."
        return None

    async def run(self) -> None:
        """Run jobs until `stop`."""
        sweeping = asyncio.create_task(self._sweeper.run())
        try:
            while not self._stopping.is_set():
                self._woken.clear()
                await self._start_lanes()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):
                        await self._woken.wait()
        finally:
            await asyncio.gather(*self._lanes.values(), return_exceptions=True)
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    async def _start_lanes(self) -> None:
        try:
            stores = await self._database.read(lanes.claimable_stores, self._stores)
        except DatabaseUnavailable as error:
            log.warning("polling for jobs failed: %s Retrying in %s s.", error, self._poll)
            return
        except Exception:
            log.exception("polling for jobs failed; retrying in %s s", self._poll)
            return
        self._polled_at = self._clock()
        for store in stores:
            if store not in self._lanes and len(self._lanes) < self._concurrency:
                self._lanes[store] = asyncio.create_task(self._run_lane(store))

    async def _run_lane(self, store: str) -> None:
        """Claim and run the jobs of a store until its queue is empty."""
        try:
            while not self._stopping.is_set():
                job = await self._database.write(attempts.claim, store, self._holder, self._lease)
                if job is None:
                    break
                outcome = await self._worker.run(job)
                if outcome is Outcome.FAILED:
                    # The next job may need the disk space.
                    self._sweeper.wake()
                if outcome is Outcome.RELEASED:
                    # No wake-up: the cause has until the next poll to go away.
                    return
                if outcome is Outcome.LOST or len(self._lanes) >= self._concurrency:
                    # Another store may have waited longer for a free lane.
                    break
        except (DatabaseUnavailable, StorageFull) as error:
            log.warning("the lane of store %s waits: %s", store, error)
        except Exception:
            log.exception("the lane of store %s failed; retrying", store)
        else:
            # A job enqueued since the last claim sent no wake-up: this lane was still running.
            self._woken.set()
        finally:
            del self._lanes[store]
            self._sweeper.wake()
