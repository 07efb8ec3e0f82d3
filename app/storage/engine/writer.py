"""One thread for all writes of a process, with priorities."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from queue import PriorityQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """The priority of a waiting write."""

    REQUEST = 0
    """A short write that a client waits for, or that the queue's order depends on."""
    BULK = 1
    """A chunk of long work, short enough to wait for. The next requests overtake it, but not all
    later ones: a constant stream of edits would keep a copy from ending."""
    STOP = 2
    """The end of the thread, after all earlier writes."""


MAX_OVERTAKING: Mapping[Priority, float] = {
    Priority.REQUEST: 0,
    Priority.BULK: 20,
    Priority.STOP: inf,
}
"""Maximum number of later writes that may overtake a write, by priority."""


@dataclass(order=True, slots=True)
class _Task:
    rank: float
    number: int
    priority: Priority = field(compare=False)
    run: Callable[[], object] = field(compare=False)
    future: Future[Any] = field(compare=False)


class Writer:
    """A thread that runs functions one at a time, by priority, then first come, first served.

    SQLite lets one connection write at a time and makes the others poll. With one writer and a
    queue, no write polls or starves.
    """

    def __init__(self) -> None:
        self._tasks: PriorityQueue[_Task] = PriorityQueue()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    async def run(self, run: Callable[[], T], priority: Priority) -> T:
        """Run a function and return its result.

        If the caller is cancelled, a waiting function is dropped; a running one completes.
        """
        return await asyncio.wrap_future(self._put(run, priority))

    def close(self) -> None:
        """Finish all waiting functions, then end the thread."""
        self._put(lambda: None, Priority.STOP).result()
        self._thread.join()

    def _put(self, run: Callable[[], T], priority: Priority) -> "Future[T]":
        future: Future[T] = Future()
        number = next(self._numbers)
        self._tasks.put(_Task(number + MAX_OVERTAKING[priority], number, priority, run, future))
        return future

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                task.future.set_result(task.run())
            except BaseException as error:
                task.future.set_exception(error)
            if task.priority is Priority.STOP:
                return
