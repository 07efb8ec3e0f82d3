"""Memory of a server's process."""

import asyncio
import gc
import weakref

import pytest

from app.api.http import memory

MIB = 1024**2


class Knot:
    """A large object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self
        self.text = b"x" * memory.resident_bytes()


async def test_old_cyclic_garbage_is_collected_after_growth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "CHECK_SECONDS", 0)
    with memory.tuned_garbage_collection():
        returning = asyncio.ensure_future(memory.return_memory_regularly())
        await asyncio.sleep(0)
        knot = Knot()
        collected = asyncio.Event()
        lost = weakref.ref(knot, lambda _: collected.set())
        # As in a server, the automatic collections do not reach the oldest generation.
        gc.collect(0)
        gc.collect(1)
        del knot
        assert lost() is not None
        await collected.wait()
        returning.cancel()


async def test_memory_is_returned_once_more_after_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100, 100, 200, 200, 200, 200, 200, 200])
    checks = asyncio.Event()
    trimmed: list[int] = []

    def next_size() -> int:
        try:
            return next(sizes)
        except StopIteration:
            checks.set()
            return 200

    monkeypatch.setattr(memory, "CHECK_SECONDS", 0)
    monkeypatch.setattr(memory, "resident_bytes", next_size)
    monkeypatch.setattr(memory, "trim", lambda: trimmed.append(1))
    returning = asyncio.ensure_future(memory.return_memory_regularly())
    await checks.wait()
    returning.cancel()
    assert len(trimmed) == 2


def test_unused_memory_is_returned_to_the_system() -> None:
    before = memory.resident_bytes()
    # Small enough for the heap: the allocator returns larger ones at once.
    texts = [b"x" * 10_000 for _ in range(10_000)]
    last = b"x" * 10_000
    grown = memory.resident_bytes()
    assert grown > before + 64 * MIB
    del texts
    memory.trim()
    assert memory.resident_bytes() < grown - 64 * MIB
    assert last
