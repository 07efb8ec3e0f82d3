"""Follows the event log of each watched store and delivers its events to all subscribers.

The log is the truth; wake-ups are hints. One reader per store keeps the newest events in memory, in
a short tail. A subscriber is only a cursor: near the end of the log it takes events from the tail,
further back it reads the log itself. So there is no queue per subscriber, and a slow subscriber
costs no memory, delays no other one and misses nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from time import time
from uuid import UUID

from app.domain.errors import NotFound
from app.domain.events import CursorAhead, CursorExpired, JobEventType
from app.domain.jobs import JobStatus
from app.observability import metrics
from app.storage import events, jobs, lanes
from app.storage.engine.database import Database, DatabaseUnavailable
from app.storage.engine.transaction import Transaction
from app.storage.jobs import JobFilter
from app.storage.lanes import QueuePosition
from app.storage.tables import JobEventRow, JobRow

log = logging.getLogger(__name__)

TAIL_EVENTS = 256
"""Events kept in memory per watched store."""

READ_EVENTS = 100
"""Max events per read of the log."""


@dataclass(frozen=True, slots=True, eq=False)
class FeedEvent:
    """A logged event, or a snapshot of a job (SNAPSHOT, PROGRESS).

    All subscribers that read it from the tail receive the same object.
    """

    seq: int
    """The number of the last logged event that this one includes: the cursor to resume from."""
    type: JobEventType
    at: datetime
    job: JobRow
    previous_status: JobStatus | None = None
    queue_position: QueuePosition | None = None
    """The job's position at the event, if the event is logged and the job was pending."""
    unix_time: float = 0
    """`at` in Unix seconds, for the metric of event lag."""


FeedEvents = AsyncGenerator[FeedEvent, None]


class _Tail:
    """The newest events of one store, in memory while the store has subscribers."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.recent: deque[FeedEvent] = deque(maxlen=TAIL_EVENTS)
        self.progress: FeedEvent | None = None
        self.waiting: set[asyncio.Future[None]] = set()
        """Subscribers that have received all events."""
        self.woken = asyncio.Event()
        self.watchers = 0
        self.reader: asyncio.Task[None] | None = None

    def holds_all_after(self, seq: int) -> bool:
        """Return True if the tail has every event after `seq`."""
        return seq >= self.head - len(self.recent)

    def notify(self) -> None:
        """Wake the waiting subscribers."""
        waiting, self.waiting = self.waiting, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class Feed:
    """The events of all stores, for any number of subscribers."""

    def __init__(
        self, database: Database, *, poll: float = 1.0, progress_every: float = 0.25
    ) -> None:
        self._database = database
        self._poll = poll
        self._progress_every = progress_every
        self._tails: dict[str, _Tail] = {}

    def wake(self, stores: Collection[str]) -> None:
        """Look for new events in these stores (a hint)."""
        for store in stores:
            if store in self._tails:
                self._tails[store].woken.set()

    async def job_updates(self, store: str, job_id: UUID, after: int | None) -> FeedEvents:
        """Follow one job: a snapshot, or all its events after `after`; then each change.

        The stream ends after the job's last event. Raises NotFound, CursorAhead or CursorExpired
        at once; CursorExpired also later, if the subscriber is slower than the log is pruned.
        """
        job, head = await self._database.read(_read_job_and_head, store, job_id, after)
        return self._updates(job, head, after)

    async def job_events(self, store: str, filter: JobFilter, after: int | None) -> FeedEvents:
        """Follow the jobs of the store that match `filter` at the event.

        All events after `after`, or from now on. The stream never ends. Raises like `job_updates`.
        """
        head = await self._database.read(_read_head, store, after)
        return self._follow(store, head if after is None else after, filter=filter)

    async def _updates(self, job: JobRow, head: int, after: int | None) -> FeedEvents:
        if after is None:
            yield FeedEvent(head, JobEventType.SNAPSHOT, job.updated_at, job)
            after = head
        if job.status.is_final:
            # The log up to `head` has all its events.
            async for event in self._logged(job.store, after, head, job.pk):
                yield event
            return
        async with aclosing(self._follow(job.store, after, job=job)) as updates:
            async for event in updates:
                yield event
                if event.job.status.is_final:
                    return

    async def _logged(self, store: str, seq: int, until: int, job_pk: int | None) -> FeedEvents:
        """Yield the logged events after `seq` up to `until`, of one job with `job_pk`."""
        while seq < until:
            try:
                logged = await self._database.read(events.after, store, seq, READ_EVENTS, job_pk)
            except DatabaseUnavailable:
                # The subscriber loses nothing by waiting.
                await asyncio.sleep(self._poll)
                continue
            for event in logged.events:
                if event.seq > until:
                    return
                yield _feed_event(event)
                # Sending does not wait until a buffer is full: a long replay would block the event
                # loop.
                await asyncio.sleep(0)
            seq = logged.covered_seq

    async def _follow(
        self,
        store: str,
        seq: int,
        *,
        job: JobRow | None = None,
        filter: JobFilter | None = None,
    ) -> FeedEvents:
        """Yield the events after `seq` of one job, or of jobs that match a filter, without end.

        A single generator: with thousands of subscribers each step per event counts.
        """
        job_pk = job.pk if job else None
        latest = job
        matches_all = job is None and filter in (None, JobFilter())

        def matches(job: JobRow) -> bool:
            return job_pk in (None, job.pk) and (filter is None or filter.matches(job))

        tail = await self._watch(store)
        reason = "resumed"
        new_waiter = asyncio.get_running_loop().create_future
        try:
            while True:
                if not tail.holds_all_after(seq):
                    metrics.REREADS.labels(reason).inc()
                    until = tail.head
                    async for event in self._logged(store, seq, until, job_pk):
                        if matches(event.job):
                            yield event
                    seq = until
                    continue
                reason = "fell_behind"
                if seq < tail.head:
                    # The log has no gaps.
                    event = tail.recent[seq - tail.head]
                    seq = event.seq
                    if matches_all or matches(event.job):
                        metrics.EVENT_LAG.observe(time() - event.unix_time)
                        yield event
                    if seq < tail.head:
                        # There may be no other await in this loop: let other tasks run.
                        await asyncio.sleep(0)
                    continue
                progress = tail.progress
                if (
                    progress
                    and progress.seq == seq == tail.head
                    and _is_newer(progress.job, latest)
                    and job_pk in (None, progress.job.pk)
                ):
                    latest = progress.job
                    if matches(latest):
                        yield progress
                    continue
                # A cursor may also be ahead of the tail, which then has yet to read that far.
                waiter = new_waiter()
                tail.waiting.add(waiter)
                try:
                    await waiter
                except BaseException:
                    tail.waiting.discard(waiter)
                    raise
        finally:
            self._unwatch(store, tail)

    async def _watch(self, store: str) -> _Tail:
        tail = self._tails.get(store)
        if tail is None:
            head = await self._database.read(lanes.event_head, store)
            tail = self._tails.setdefault(store, _Tail(head))
            if tail.reader is None:
                # Its own context: it reads for all subscribers, not for the first request.
                tail.reader = asyncio.create_task(self._read(store, tail), context=Context())
        tail.watchers += 1
        metrics.SUBSCRIBERS.inc()
        return tail

    def _unwatch(self, store: str, tail: _Tail) -> None:
        tail.watchers -= 1
        metrics.SUBSCRIBERS.dec()
        if tail.watchers == 0:
            del self._tails[store]
            assert tail.reader is not None
            tail.reader.cancel()

    async def _read(self, store: str, tail: _Tail) -> None:
        clock = asyncio.get_running_loop().time
        progress_at = clock() - self._progress_every
        while True:
            tail.woken.clear()
            try:
                logged, started = await self._database.read(_read_new, store, tail.head)
                new = [_feed_event(event) for event in logged.events]
            except DatabaseUnavailable as error:
                log.warning("reading the events of store %s failed: %s Retrying.", store, error)
                await asyncio.sleep(self._poll)
                continue
            except Exception:
                log.exception("reading the events of store %s failed; retrying", store)
                await asyncio.sleep(self._poll)
                continue
            if tail.head + len(new) != logged.covered_seq:
                # Some were pruned unread. Subscribers that need them get CursorExpired from the
                # log.
                tail.recent.clear()
            tail.recent.extend(new)
            tail.head = logged.covered_seq
            changed = bool(new)
            due = clock() >= progress_at + self._progress_every
            latest = tail.progress.job if tail.progress else None
            if due and started and started.total_items is not None and _is_newer(started, latest):
                progress_at = clock()
                tail.progress = FeedEvent(
                    tail.head, JobEventType.PROGRESS, started.updated_at, started
                )
                changed = True
            if changed:
                tail.notify()
            if len(logged.events) < READ_EVENTS:
                # Steps are too frequent to wake readers: a running job is polled instead.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._progress_every if started else self._poll):
                        await tail.woken.wait()


def _is_newer(job: JobRow, latest: JobRow | None) -> bool:
    """Return True if `job` is another job than `latest`, or a later version of it."""
    return latest is None or latest.pk != job.pk or latest.version < job.version


def _feed_event(event: JobEventRow) -> FeedEvent:
    return FeedEvent(
        event.seq,
        event.type,
        event.at,
        events.job_of(event),
        event.previous_status,
        events.queue_position_of(event),
        event.at.timestamp(),
    )


def _read_job_and_head(
    tx: Transaction, store: str, job_id: UUID, after: int | None
) -> tuple[JobRow, int]:
    job = jobs.by_id(tx, store, job_id)
    if job is None:
        raise NotFound("job", str(job_id), ("id",))
    return job, _read_head(tx, store, after)


def _read_head(tx: Transaction, store: str, after: int | None) -> int:
    bounds = lanes.log_bounds(tx, store)
    if after is not None and after > bounds.head:
        raise CursorAhead
    if after is not None and after < bounds.pruned:
        raise CursorExpired
    return bounds.head


def _read_new(tx: Transaction, store: str, seq: int) -> tuple[events.EventRange, JobRow | None]:
    """Read the events after `seq`, and the started job if these are all of them."""
    seq = max(seq, lanes.log_bounds(tx, store).pruned)
    logged = events.after(tx, store, seq, READ_EVENTS)
    return logged, jobs.started(tx, store) if len(logged.events) < READ_EVENTS else None
