"""One thread for all writes of a process, the urgent ones soonest."""

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
    """Who goes first when writes wait for each other."""

    REQUEST = 0
    """Somebody waits for it, or the queue's order hangs on it: short, before most bulk work."""
    BULK = 1
    """A chunk of a long piece of work, which makes its chunks short enough to wait for one. It lets
    those go first that are asked for soon after it, not all there ever are: authors who never pause
    would keep a copy from ending."""
    STOP = 2
    """The end of the thread, behind everything that was asked before."""


LATER: Mapping[Priority, float] = {Priority.REQUEST: 0, Priority.BULK: 20, Priority.STOP: inf}
"""Behind how many of those asked for after it a write goes at the latest."""


@dataclass(order=True, slots=True)
class _Task:
    turn: float
    number: int
    priority: Priority = field(compare=False)
    run: Callable[[], Any] = field(compare=False)
    future: Future[Any] = field(compare=False)


class Writer:
    """Runs functions one at a time on a thread of its own, by priority, then in order of asking.

    SQLite lets one connection write at a time and lets the others poll for their turn; with one
    writer and a queue in front of it nobody polls and nobody starves.
    """

    def __init__(self) -> None:
        self._tasks: PriorityQueue[_Task] = PriorityQueue()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    async def run(self, run: Callable[[], T], priority: Priority) -> T:
        """What `run` returns or raises. Not begun yet, it is dropped when the caller is cancelled;
        once begun it runs to its end."""
        return await asyncio.wrap_future(self._put(run, priority))

    def close(self) -> None:
        """Finish all that was asked, then end the thread."""
        self._put(lambda: None, Priority.STOP).result()
        self._thread.join()

    def _put(self, run: Callable[[], T], priority: Priority) -> "Future[T]":
        future: Future[T] = Future()
        number = next(self._numbers)
        self._tasks.put(_Task(number + LATER[priority], number, priority, run, future))
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
