import asyncio
from collections.abc import Iterator
from functools import partial
from threading import Event

import pytest

from app.storage.engine.writer import MAX_OVERTAKING, Priority, Writer


@pytest.fixture
def writer() -> Iterator[Writer]:
    started = Writer()
    yield started
    started.close()


async def test_urgent_work_runs_before_bulk_work_submitted_earlier(writer: Writer) -> None:
    done: list[str] = []
    busy, release = Event(), Event()

    def first() -> None:
        busy.set()
        release.wait()

    submitted = [asyncio.ensure_future(writer.run(first, Priority.REQUEST))]
    await asyncio.to_thread(busy.wait)
    for name, priority in (
        ("bulk 1", Priority.BULK),
        ("bulk 2", Priority.BULK),
        ("urgent 1", Priority.REQUEST),
        ("urgent 2", Priority.REQUEST),
    ):
        submitted.append(asyncio.ensure_future(writer.run(partial(done.append, name), priority)))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*submitted)
    assert done == ["urgent 1", "urgent 2", "bulk 1", "bulk 2"]


async def test_bulk_work_waits_for_a_limited_number_of_later_urgent_calls(
    writer: Writer,
) -> None:
    done: list[str] = []
    busy, release = Event(), Event()

    def first() -> None:
        busy.set()
        release.wait()

    submitted = [asyncio.ensure_future(writer.run(first, Priority.REQUEST))]
    await asyncio.to_thread(busy.wait)
    submitted.append(asyncio.ensure_future(writer.run(partial(done.append, "bulk"), Priority.BULK)))
    for _ in range(50):
        urgent = writer.run(partial(done.append, "urgent"), Priority.REQUEST)
        submitted.append(asyncio.ensure_future(urgent))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*submitted)
    assert done.index("bulk") in (MAX_OVERTAKING[Priority.BULK] - 1, MAX_OVERTAKING[Priority.BULK])


async def test_an_error_reaches_its_caller_and_the_next_call_runs(
    writer: Writer,
) -> None:
    def broken() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await writer.run(broken, Priority.REQUEST)
    assert await writer.run(lambda: 1, Priority.REQUEST) == 1


async def test_cancelled_work_is_dropped_before_it_begins(
    writer: Writer,
) -> None:
    done: list[str] = []
    busy, release = Event(), Event()

    def first() -> None:
        busy.set()
        release.wait()

    blocking = asyncio.ensure_future(writer.run(first, Priority.REQUEST))
    await asyncio.to_thread(busy.wait)
    dropped = asyncio.ensure_future(writer.run(lambda: done.append("dropped"), Priority.REQUEST))
    await asyncio.sleep(0)
    dropped.cancel()
    await asyncio.gather(dropped, return_exceptions=True)
    release.set()
    await blocking
    await writer.run(lambda: done.append("kept"), Priority.BULK)
    assert done == ["kept"]


async def test_closing_finishes_all_submitted_work() -> None:
    writer, done = Writer(), list[int]()
    submitted = [
        asyncio.ensure_future(writer.run(partial(done.append, n), Priority.BULK)) for n in range(10)
    ]
    await asyncio.sleep(0)
    await asyncio.to_thread(writer.close)
    await asyncio.gather(*submitted)
    assert done == list(range(10))
