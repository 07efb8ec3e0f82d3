"""Reads that clients cause: measured, limited in time, and with a share of threads per store.

A client's read runs where reads are fastest, for READ_SECONDS at most. A longer one is interrupted
and starts over as a scan, on a thread of its store's share. A scan ends with its request.
"""

import asyncio
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import inf
from time import monotonic, thread_time
from typing import TypeVar

T = TypeVar("T")

SCAN_THREADS = 4
"""Scans at the same time per process."""

SCANS_PER_STORE = 2
"""Scans at the same time per store: the other threads are for other stores."""

TURN_SECONDS = 0.005
"""Clients' work takes this long per turn of the event loop; then other events come first."""

REPEAT_SECONDS = 0.05
"""Pause between interruptions: one that arrives between two statements has no effect."""


class ReadTooLong(Exception):
    """A read that reached its time limit, or whose client no longer waits for it."""


class WorkTime:
    """Processor seconds that a request took for reads, writes and documents, on any thread.

    Not the time that passed: a distant database or a busy machine is not the client's work. Only
    of a scan by a database server, whose processor time is unknown, it is the time that passed.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


current_work_time: ContextVar[WorkTime | None] = ContextVar("current_work_time", default=None)
"""The time of the current request, if it is measured."""

scan_listener: ContextVar[Callable[[], None] | None] = ContextVar("scan_listener", default=None)
"""Called before the current task waits for a scan: only then is it worth watching its client."""


class ReadLimit:
    """The end of a read: after some seconds, checks or characters, or when it is stopped."""

    __slots__ = (
        "_characters",
        "_checks_left",
        "_interrupt",
        "_lock",
        "_until",
        "_work_seconds",
        "began",
        "is_stopped",
        "seconds",
    )

    def __init__(self, seconds: float = inf, checks: float = inf, characters: float = inf) -> None:
        """`checks` is the number of calls of `count_check` that the read may last for, and
        `characters` the size of the texts that it may read."""
        self.seconds = seconds
        self._characters = characters
        self.is_stopped = False
        self._checks_left = checks
        self._interrupt: Callable[[], None] | None = None
        self._lock: threading.Lock | None = None
        self._work_seconds: float | None = None
        self.start()

    def start(self) -> None:
        """Count the seconds from now: until now the read had to wait."""
        self.began = monotonic()
        self._until = self.began + self.seconds

    @property
    def seconds_left(self) -> float:
        """Seconds until the read must end, 0 or less if it must now."""
        if self.is_stopped or self._checks_left < 0:
            return 0
        return self._until - monotonic()

    def check(self) -> None:
        """Raise ReadTooLong if the limit is reached."""
        if self.seconds_left <= 0:
            raise ReadTooLong

    def check_characters(self, characters: int) -> None:
        """Raise ReadTooLong if the read has read too many characters."""
        if characters > self._characters:
            raise ReadTooLong

    def count_check(self) -> bool:
        """Count a check of the running statement. Return True if the limit is reached."""
        self._checks_left -= 1
        return self.seconds_left <= 0

    @contextmanager
    def measured(self, clock: Callable[[], float] = thread_time) -> Iterator[None]:
        """Measure the time of the block, which is the read, on its thread."""
        began = clock()
        try:
            yield
        finally:
            self._work_seconds = clock() - began

    def record(self) -> None:
        """Add the time of the read to the current request's: all of it, unless it was measured."""
        if time := current_work_time.get():
            passed = monotonic() - self.began
            time.seconds += passed if self._work_seconds is None else self._work_seconds

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Start the read, and let `stop` call `interrupt` within this block, but never after it.

        The connection then runs the statements of others.
        """
        self._interrupt = interrupt
        self._lock = lock = threading.Lock()
        try:
            self.start()
            # It may have been stopped while it waited for its thread.
            self.check()
            yield
        finally:
            with lock:
                self._interrupt = None

    def stop(self) -> None:
        """End the read, and the statement that it runs. May block: not for the event loop."""
        self.is_stopped = True
        if self._lock:
            with self._lock:
                if self._interrupt:
                    self._interrupt()


class FairQueue:
    """Waiting reads: the stores take turns, and within a store the first comes first."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By store; the store whose turn is next comes first."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, store: str) -> "asyncio.Future[None]":
        """Return a future that is done when `next` returned it and its owner set its result."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(store, deque()).append(turn)
        return turn

    def next(
        self, may_run: Callable[[str], bool] = lambda _: True
    ) -> "tuple[str, asyncio.Future[None]] | None":
        """Remove and return the next read that still waits, of a store that may run one."""
        for store in [*self._waiting]:
            if not may_run(store):
                continue
            queue = self._waiting.pop(store)
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    if queue:
                        # At the end: the other stores come first next time.
                        self._waiting[store] = queue
                    return store, turn
        return None


class LoopTurns:
    """Turns of the event loop, of which clients' work takes TURN_SECONDS each.

    Without them, fifty requests that are ready together would delay all others by their sum.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._queue = FairQueue()
        self._next_is_scheduled = False

    @property
    def is_over(self) -> bool:
        """True if this turn has taken its time, or if others already wait."""
        return self._next_is_scheduled and (
            bool(self._queue) or monotonic() - self._began > TURN_SECONDS
        )

    async def wait_if_over(self, store: str) -> None:
        """Wait for a later turn if this one is over; else this one begins, if it has not yet."""
        if self.is_over:
            await self._queue.add(store)
        elif not self._next_is_scheduled:
            self._schedule_next()

    def count(self, began: float) -> None:
        """Count work since `began`. Short work is not worth its bookkeeping, which takes 2 µs."""
        if not self._next_is_scheduled and monotonic() - began > TURN_SECONDS / 10:
            self._schedule_next()
            self._began = began

    def _schedule_next(self) -> None:
        self._next_is_scheduled = True
        self._began = monotonic()
        asyncio.get_running_loop().call_soon(self._begin_next)

    def _begin_next(self) -> None:
        self._next_is_scheduled = False
        if waiting := self._queue.next():
            waiting[1].set_result(None)
            # The work is done in the next turn of the loop, and its successor's after it.
            self._schedule_next()


class FairThreads:
    """Threads that the stores take in turn, and of which a store has a share at the same time."""

    def __init__(self, name: str, threads: int, per_store: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        # One per thread: a server that does not answer may take seconds to stop each statement.
        self._stopping = ThreadPoolExecutor(threads, thread_name_prefix=f"stop-{name}")
        self._unused = threads
        self._per_store = per_store
        self._running: Counter[str] = Counter()
        self._queue = FairQueue()

    async def run(self, store: str, work: Callable[[], T], limit: ReadLimit) -> T:
        """Run `work` on a thread of the store's share.

        It is stopped if it is cancelled, or takes longer than the limit.
        """
        loop = asyncio.get_running_loop()
        await self._acquire(store)
        limit.start()
        running = self._threads.submit(work)
        timer = None
        if limit.seconds < inf:
            timer = loop.call_later(limit.seconds, self._stop_if_over, loop, running, limit)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            self._stop(running, limit)
            raise
        finally:
            if timer:
                timer.cancel()
            limit.record()
            self._release_when_done(loop, store, running)
            # It has the read's error, whose traceback refers to this frame: a cycle.
            del running

    async def run_measured(self, store: str, work: Callable[[], T]) -> T:
        """Run `work`, which does not check a limit, and record its processor time."""
        limit = ReadLimit()

        def measured() -> T:
            with limit.measured():
                return work()

        return await self.run(store, measured, limit)

    def close(self) -> None:
        """Wait for the running work and end the threads."""
        self._threads.shutdown()
        self._stopping.shutdown()

    async def _acquire(self, store: str) -> None:
        if self._unused and self._may_run(store):
            self._start(store)
            return
        turn = self._queue.add(store)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Its thread was reserved just before.
                self._release(store)
            raise

    def _may_run(self, store: str) -> bool:
        return self._running[store] < self._per_store

    def _start(self, store: str) -> None:
        self._unused -= 1
        self._running[store] += 1

    def _stop(self, running: "Future[T]", limit: ReadLimit) -> None:
        if not limit.is_stopped and not running.done():
            limit.is_stopped = True
            self._stopping.submit(_stop_until_done, running, limit)

    def _stop_if_over(
        self, loop: asyncio.AbstractEventLoop, running: "Future[T]", limit: ReadLimit
    ) -> None:
        if limit.seconds_left <= 0:
            self._stop(running, limit)
        elif not running.done():
            # Its clock started later than this timer: it waited for a connection.
            loop.call_later(limit.seconds_left, self._stop_if_over, loop, running, limit)

    def _release_when_done(
        self, loop: asyncio.AbstractEventLoop, store: str, running: "Future[T]"
    ) -> None:
        if running.done():
            self._release(store)
            return

        def release(_running: Future[T]) -> None:
            # At exit the loop may have been closed before the thread ends.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._release, store)

        running.add_done_callback(release)

    def _release(self, store: str) -> None:
        self._unused += 1
        self._running[store] -= 1
        if not self._running[store]:
            del self._running[store]
        while self._unused and (waiting := self._queue.next(self._may_run)):
            next_store, turn = waiting
            self._start(next_store)
            turn.set_result(None)


def _stop_until_done(running: "Future[T]", limit: ReadLimit) -> None:
    """Stop a read, and again until it has ended."""
    while not running.done():
        limit.stop()
        wait([running], REPEAT_SECONDS)
