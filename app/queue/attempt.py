"""An attempt at a job, as its handler sees it."""

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from app.services import attempts
from app.services.attempts import Completion, Step
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow

P = ParamSpec("P")


class Interrupted(Exception):
    """The process is stopping. Another attempt resumes the job from its last step."""


class Attempt:
    """A claimed job and its two transitions: another step, or success.

    Each is one transaction that applies only while the claim holds; otherwise it raises FenceLost.
    A step is bulk work: it waits for urgent writes, and must not take longer than these may wait.
    """

    def __init__(
        self, database: Database, job: JobRow, stopping: asyncio.Event, on_step: Callable[[], None]
    ) -> None:
        self.job = job
        """The job as of its last step."""
        self._database = database
        self._stopping = stopping
        self._on_step = on_step

    async def step(
        self,
        work: Callable[Concatenate[Transaction, JobRow, P], Step],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Run `work` and record its progress. Raises Interrupted if the process is stopping."""
        self.check()

        def transaction(tx: Transaction) -> JobRow:
            step = lambda: work(tx, self.job, *args, **kwargs)  # noqa: E731
            return attempts.advance(tx, self.job, step)

        self.job = await self._database.write_bulk(transaction)
        self._on_step()

    def check(self) -> None:
        """Raise Interrupted if the process is stopping: for steps that outlast a shutdown."""
        if self._stopping.is_set():
            raise Interrupted

    async def succeed(self, finish: Callable[[Transaction, JobRow], Completion]) -> None:
        """Run `finish` and end the job with SUCCESS, in one transaction."""

        def transaction(tx: Transaction) -> JobRow:
            return attempts.succeed(tx, self.job, lambda: finish(tx, self.job))

        self.job = await self._database.write(transaction)
