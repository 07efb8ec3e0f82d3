"""Finds stores with work, and keeps one lane running in each of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from opentelemetry.trace import Tracer

from app.domain.jobs import JobType
from app.queue.handlers import Handler
from app.queue.sweeper import Sweeper
from app.queue.worker import Outcome, Worker
from app.services import attempts
from app.storage import lanes
from app.storage.engine.database import Database, DatabaseUnavailable, StorageFull

log = logging.getLogger(__name__)

POLL_GRACE_SECONDS = 10
"""How much later than it wants to a dispatcher may look for work."""


class Dispatcher:
    """Claims and runs the jobs of all stores, or of those given, in this process until it is
    stopped.

    Within a store one job runs at a time, the one whose turn is next; stores run side by side, at
    most `concurrency` of them, and take turns when there are more. Wake-ups are hints: every
    `poll` seconds it looks by itself.
    """

    def __init__(
        self,
        database: Database,
        handlers: Mapping[JobType, Handler],
        *,
        stores: Collection[str] | None = None,
        lease: timedelta = timedelta(seconds=30),
        time_limit: timedelta = timedelta(hours=1),
        keep: timedelta | None = None,
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
        self._sweeper = Sweeper(database, keep)
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._clock = clock
        self._looked_at = clock()

    def wake(self, stores: Collection[str]) -> None:
        """There may be work in these stores. A lane that runs will look by itself."""
        if not self._lanes.keys() >= set(stores):
            self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; each running job ends its step and is handed back."""
        self._stopping.set()
        self._woken.set()

    def unhealthy_reason(self) -> str | None:
        """What keeps jobs from being run here: a sentence, None while nothing does."""
        if self._stopping.is_set():
            return "It is stopping."
        silence = self._clock() - self._looked_at
        if silence > self._poll + POLL_GRACE_SECONDS:
            return f"It has not looked for work for {silence:.0f} s."
        silence = self._worker.silence()
        if silence > self._lease.total_seconds():
            return f"A job that runs here has not been heard of for {silence:.0f} s."
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
            stores = await self._database.read(lanes.claimable, self._stores)
        except DatabaseUnavailable as error:
            log.warning("not looking for work: %s It is tried again in %s s.", error, self._poll)
            return
        except Exception:
            log.exception("looking for work broke; it is tried again in %s s", self._poll)
            return
        self._looked_at = self._clock()
        for store in stores:
            if store not in self._lanes and len(self._lanes) < self._concurrency:
                self._lanes[store] = asyncio.create_task(self._run_lane(store))

    async def _run_lane(self, store: str) -> None:
        """Claim and run until nothing is left to claim."""
        try:
            while not self._stopping.is_set():
                job = await self._database.write(attempts.claim, store, self._holder, self._lease)
                if job is None:
                    break
                outcome = await self._worker.run(job)
                if outcome is Outcome.FAILED:
                    # The next job may need the room.
                    self._sweeper.wake()
                if outcome is Outcome.RELEASED:
                    # Not woken: what broke gets until the next poll to mend.
                    return
                if outcome is Outcome.LOST or len(self._lanes) >= self._concurrency:
                    # Another store may have waited longer for a place.
                    break
        except (DatabaseUnavailable, StorageFull) as error:
            log.warning("the lane of store %s waits: %s", store, error)
        except Exception:
            log.exception("the lane of store %s broke; it is tried again", store)
        else:
            # What was asked for between the last claim and here found this lane still running.
            self._woken.set()
        finally:
            del self._lanes[store]
            self._sweeper.wake()
