"""Follows the event log of each store somebody watches, and hands its events to all who do.

The log is the truth; wake-ups are hints. One reader a store keeps the newest events at hand in a
short tail. A subscriber is no more than its cursor: near the end of the log it takes events from
the tail, further back it reads the log itself. So nothing is queued for anyone, and a slow
subscriber costs no memory, delays nobody and misses nothing.
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

from sqlmodel import Session

from app.domain.errors import NotFound
from app.domain.events import CursorAhead, CursorExpired, JobEventType
from app.domain.jobs import JobStatus
from app.observability import metrics
from app.storage import events, jobs, lanes
from app.storage.engine.database import Database, DatabaseUnavailable
from app.storage.jobs import JobFilter
from app.storage.lanes import QueuePosition
from app.storage.tables import Job, JobEvent

log = logging.getLogger(__name__)

TAIL_EVENTS = 256
READ_EVENTS = 100


@dataclass(frozen=True, slots=True, eq=False)
class FeedEvent:
    """What a subscriber hears: an event of the log, or how things stand at a place in it. Whoever
    takes it from the tail is handed the same object."""

    seq: int
    """The last logged event that this one includes: where to resume from."""
    type: JobEventType
    at: datetime
    job: Job
    previous_status: JobStatus | None = None
    standing: QueuePosition | None = None
    """Where the job stood in the queue, if the event is of the past and the job was pending."""
    happened: float = 0
    """`at` as the system's clock counts seconds."""


FeedEvents = AsyncGenerator[FeedEvent, None]


class _Tail:
    """The end of one store's log, kept at hand while somebody watches the store."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.recent: deque[FeedEvent] = deque(maxlen=TAIL_EVENTS)
        self.progress: FeedEvent | None = None
        self.waiting: set[asyncio.Future[None]] = set()
        """Those who have heard all of it."""
        self.woken = asyncio.Event()
        self.watchers = 0
        self.reader: asyncio.Task[None] | None = None

    def holds_all_past(self, seq: int) -> bool:
        """Whether the events at hand are all there are behind `seq`."""
        return seq >= self.head - len(self.recent)

    def tell(self) -> None:
        """Wake whoever waits now."""
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
        """Something may have happened in these stores."""
        for store in stores:
            if store in self._tails:
                self._tails[store].woken.set()

    async def job_updates(self, store: str, job_id: UUID, after: int | None) -> FeedEvents:
        """One job: how it stands, or all its events past `after`; then each change as it comes.

        The stream ends behind the job's last event. Raises NotFound, CursorAhead,
        CursorExpired, at once; the last also later, to one who is slower than the log is pruned.
        """
        job, head = await self._database.read(_read_job_and_head, store, job_id, after)
        return self._updates(job, head, after)

    async def job_events(self, store: str, filter: JobFilter, after: int | None) -> FeedEvents:
        """Every job of the store that meets `filter` as of the event: all events past `after`,
        else from now on. The stream never ends. Raises as `job_updates` does."""
        head = await self._database.read(_read_head, store, after)
        return self._follow(store, head if after is None else after, filter=filter)

    async def _updates(self, job: Job, head: int, after: int | None) -> FeedEvents:
        if after is None:
            yield FeedEvent(head, JobEventType.SNAPSHOT, job.updated_at, job)
            after = head
        if job.status.is_final:
            # Whether its last event lies past the cursor or not, the log up to here has it all.
            async for happening in self._logged(job.store, after, head, job.pk):
                yield happening
            return
        async with aclosing(self._follow(job.store, after, job=job)) as happenings:
            async for happening in happenings:
                yield happening
                if happening.job.status.is_final:
                    return

    async def _logged(self, store: str, seq: int, until: int, job_pk: int | None) -> FeedEvents:
        """The events past `seq` up to `until` and not beyond, of one job where it is given."""
        while seq < until:
            try:
                stretch = await self._database.read(events.after, store, seq, READ_EVENTS, job_pk)
            except DatabaseUnavailable:
                # The subscriber has lost nothing by waiting.
                await asyncio.sleep(self._poll)
                continue
            for event in stretch.events:
                if event.seq > until:
                    return
                yield _feed_event(event)
                # Sending waits for nothing until a buffer is full: a long replay would hold the
                # loop.
                await asyncio.sleep(0)
            seq = stretch.covered_seq

    async def _follow(
        self,
        store: str,
        seq: int,
        *,
        job: Job | None = None,
        filter: JobFilter | None = None,
    ) -> FeedEvents:
        """What concerns one job or meets a filter, past `seq` and without end.

        One generator and no more: for thousands of subscribers each step of each event counts.
        """
        job_pk = job.pk if job else None
        told = job
        all_concern = job is None and filter in (None, JobFilter())

        def concerns(job: Job) -> bool:
            return job_pk in (None, job.pk) and (filter is None or filter.matches(job))

        tail = await self._watch(store)
        reason = "resumed"
        new_waiter = asyncio.get_running_loop().create_future
        try:
            while True:
                if not tail.holds_all_past(seq):
                    metrics.REREADS.labels(reason).inc()
                    until = tail.head
                    async for happening in self._logged(store, seq, until, job_pk):
                        if concerns(happening.job):
                            yield happening
                    seq = until
                    continue
                reason = "fell_behind"
                if seq < tail.head:
                    # The log has no gaps.
                    happening = tail.recent[seq - tail.head]
                    seq = happening.seq
                    if all_concern or concerns(happening.job):
                        metrics.EVENT_LAG.observe(time() - happening.happened)
                        yield happening
                    if seq < tail.head:
                        # Nothing else might be waited for: others have their turn in between.
                        await asyncio.sleep(0)
                    continue
                progress = tail.progress
                if (
                    progress
                    and progress.seq == seq == tail.head
                    and _is_newer(progress.job, told)
                    and job_pk in (None, progress.job.pk)
                ):
                    told = progress.job
                    if concerns(told):
                        yield progress
                    continue
                # The subscriber's cursor may be newer than what the tail has read by now.
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
                # In a context of its own: it reads for all, not for the request that came first.
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
        told_at = clock() - self._progress_every
        while True:
            tail.woken.clear()
            try:
                stretch, started = await self._database.read(_read_new, store, tail.head)
                happenings = [_feed_event(event) for event in stretch.events]
            except DatabaseUnavailable as error:
                log.warning("no news of store %s: %s It is tried again.", store, error)
                await asyncio.sleep(self._poll)
                continue
            except Exception:
                log.exception("reading the events of store %s broke; it is tried again", store)
                await asyncio.sleep(self._poll)
                continue
            if tail.head + len(happenings) != stretch.covered_seq:
                # Some were pruned unread. Whoever was to hear of them is told so by the log.
                tail.recent.clear()
            tail.recent.extend(happenings)
            tail.head = stretch.covered_seq
            news = bool(happenings)
            due = clock() >= told_at + self._progress_every
            told = tail.progress.job if tail.progress else None
            if due and started and started.total_items is not None and _is_newer(started, told):
                told_at = clock()
                tail.progress = FeedEvent(
                    tail.head, JobEventType.PROGRESS, started.updated_at, started
                )
                news = True
            if news:
                tail.tell()
            if len(stretch.events) < READ_EVENTS:
                # Steps wake nobody: they come too often. A job that runs is looked at instead.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._progress_every if started else self._poll):
                        await tail.woken.wait()


def _is_newer(job: Job, told: Job | None) -> bool:
    """Whether this state of a job comes behind the one that was told."""
    return told is None or told.pk != job.pk or told.version < job.version


def _feed_event(event: JobEvent) -> FeedEvent:
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
    session: Session, store: str, job_id: UUID, after: int | None
) -> tuple[Job, int]:
    job = jobs.by_id(session, store, job_id)
    if job is None:
        raise NotFound("job", str(job_id), ("id",))
    return job, _read_head(session, store, after)


def _read_head(session: Session, store: str, after: int | None) -> int:
    bounds = lanes.log_bounds(session, store)
    if after is not None and after > bounds.head:
        raise CursorAhead
    if after is not None and after < bounds.pruned:
        raise CursorExpired
    return bounds.head


def _read_new(session: Session, store: str, seq: int) -> tuple[events.EventRange, Job | None]:
    """What was logged past `seq`, and the started job if nothing more is past it."""
    seq = max(seq, lanes.log_bounds(session, store).pruned)
    stretch = events.after(session, store, seq, READ_EVENTS)
    return stretch, jobs.started(session, store) if len(stretch.events) < READ_EVENTS else None
