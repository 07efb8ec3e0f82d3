"""Reads of clients: turns of the event loop, and shares of threads."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from app.storage.engine import client_reads
from app.storage.engine.client_reads import (
    FairQueue,
    FairThreads,
    LoopTurns,
    ReadLimit,
    ReadTooLong,
)


async def settled() -> None:
    """Let all tasks run until they wait for a thread."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_stores_take_turns_and_a_store_keeps_its_order() -> None:
    queue = FairQueue()
    names = {
        queue.add(store): f"{store}{number}"
        for store, number in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1), ("b", 2)]
    }
    order = []
    while waiting := queue.next():
        order.append(names[waiting[1]])
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert not queue


async def test_a_cancelled_read_gives_its_turn_to_the_next() -> None:
    queue = FairQueue()
    first, second = queue.add("a"), queue.add("a")
    first.cancel()
    assert queue.next() == ("a", second)
    assert queue.next() is None


class Gates:
    """Work that ends when the test says so."""

    def __init__(self, threads: FairThreads) -> None:
        self.threads = threads
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self.started: list[str] = []
        self.open: dict[str, threading.Event] = {}

    def begin(self, store: str, name: str) -> "asyncio.Task[str]":
        gate = self.open[name] = threading.Event()

        def work() -> str:
            self.started.append(name)
            self.loop.call_soon_threadsafe(self.changed.set)
            gate.wait()
            return name

        return asyncio.create_task(self.threads.run(store, work, ReadLimit()))

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def test_a_store_has_a_share_and_others_need_not_wait_for_it() -> None:
    gates = Gates(FairThreads("test", threads=3, per_store=2))
    tasks = [gates.begin("a", f"a{number}") for number in range(6)]
    await gates.until(lambda: len(gates.started) == 2)
    tasks.append(gates.begin("b", "b0"))
    await gates.until(lambda: "b0" in gates.started)
    assert sorted(gates.started) == ["a0", "a1", "b0"]
    for gate in gates.open.values():
        gate.set()
    assert await asyncio.gather(*tasks) == ["a0", "a1", "a2", "a3", "a4", "a5", "b0"]
    assert gates.threads._unused == 3
    assert not gates.threads._running
    gates.threads.close()


async def test_cancelled_work_frees_its_thread_when_it_ends_and_waiting_work_at_once() -> None:
    gates = Gates(FairThreads("test", threads=1, per_store=1))
    running, waiting, last = (gates.begin("a", name) for name in ("running", "waiting", "last"))
    await gates.until(lambda: gates.started == ["running"])
    waiting.cancel()
    running.cancel()
    await asyncio.wait([running, waiting])
    assert gates.started == ["running"]
    for gate in gates.open.values():
        gate.set()
    assert await last == "last"
    assert gates.started == ["running", "last"]
    gates.threads.close()


async def test_work_that_takes_its_turn_lets_other_events_come_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_reads, "TURN_SECONDS", -1)
    turns, order = LoopTurns(), []

    async def read(name: str) -> None:
        await turns.wait_if_over(name[0])
        order.append(name)
        # An event that is ready now: it must not wait for all reads.
        asyncio.get_running_loop().call_soon(order.append, ".")

    await asyncio.gather(*map(read, ["a1", "a2", "a3", "b1"]))
    assert order[:7] == ["a1", ".", "a2", ".", "b1", ".", "a3"]


class StubbornRead:
    """A read that ends at its third interruption, each of which waits for the test."""

    def __init__(self, threads: FairThreads, limit: ReadLimit) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = asyncio.Event()
        self.interruptions: asyncio.Queue[int] = asyncio.Queue()
        self.answers = threading.Semaphore(0)
        self.count = 0
        self.threads: list[str] = []
        self.ended = threading.Event()

        def interrupt() -> None:
            if self.ended.is_set():
                return
            self.count += 1
            self.threads.append(threading.current_thread().name)
            self.loop.call_soon_threadsafe(self.interruptions.put_nowait, self.count)
            self.answers.acquire()
            if self.count == 3:
                self.ended.set()

        def work() -> None:
            with limit.interruptible(interrupt):
                self.loop.call_soon_threadsafe(self.started.set)
                self.ended.wait()

        self.task = asyncio.create_task(threads.run("a", work, limit))


async def test_an_interruption_is_repeated_after_the_one_before_and_takes_no_shared_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_reads, "REPEAT_SECONDS", 0)
    threads = FairThreads("test", threads=1, per_store=1)
    read = StubbornRead(threads, ReadLimit())
    await read.started.wait()
    read.task.cancel()
    await asyncio.wait([read.task])
    for number in (1, 2, 3):
        assert await read.interruptions.get() == number
        # Timers and threads that would send another one have their turn.
        await settled()
        assert read.interruptions.empty()
        read.answers.release()
    threads.close()
    assert read.count == 3
    # The default executor serves key sets, logins and name resolution.
    assert read.threads == ["stop-test_0"] * 3


async def test_a_read_that_takes_longer_than_its_limit_is_stopped() -> None:
    threads = FairThreads("test", threads=1, per_store=1)
    read = StubbornRead(threads, ReadLimit(seconds=0.001))
    read.answers.release(3)
    await read.task
    assert read.count == 3
    threads.close()


async def test_the_time_in_which_a_read_waits_for_its_thread_is_not_its_own() -> None:
    gates = Gates(FairThreads("test", threads=1, per_store=1))
    other = gates.begin("b", "other")
    await gates.until(lambda: gates.started == ["other"])
    limit = ReadLimit(seconds=60)
    submitted = limit.began

    def work() -> None:
        with limit.interruptible(lambda: None):
            pass

    read = asyncio.create_task(gates.threads.run("a", work, limit))
    await settled()
    # As if it had waited for more than its limit.
    limit._until = 0
    gates.open["other"].set()
    await asyncio.gather(other, read)
    assert limit.began > submitted
    assert not limit.is_stopped
    gates.threads.close()


def test_a_read_ends_after_its_checks_or_its_time() -> None:
    limit = ReadLimit(checks=2)
    assert [limit.count_check() for _ in range(3)] == [False, False, True]
    with pytest.raises(ReadTooLong):
        limit.check()
    assert ReadLimit(seconds=0).count_check()


async def test_a_stopped_read_stays_stopped_when_its_turn_comes() -> None:
    limit = ReadLimit()
    limit.stop()
    limit.start()
    with pytest.raises(ReadTooLong):
        limit.check()


async def test_an_interruption_never_reaches_the_next_user_of_a_connection() -> None:
    interruptions: list[str] = []
    limit = ReadLimit()
    with limit.interruptible(lambda: interruptions.append("statement")):
        limit.stop()
    limit.stop()
    assert interruptions == ["statement"]
