"""Runs one claimed job to an outcome."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto

from sqlmodel import Session

from app.domain.errors import DomainError
from app.domain.jobs import ATTEMPTS_WITHOUT_PROGRESS, FenceLost, JobType
from app.queue.attempt import Attempt, Interrupted
from app.queue.handlers import Handler
from app.services import jobs
from app.storage.database import Database
from app.storage.tables import Job

log = logging.getLogger(__name__)

HEARTBEATS_PER_LEASE = 3


class Outcome(Enum):
    """How a worker's time with a job ended."""

    SUCCEEDED = auto()
    FAILED = auto()
    HANDED_BACK = auto()
    """Still started; another attempt goes on from the last step."""
    LOST = auto()
    """Another worker has it."""


class Worker:
    """Runs claimed jobs, one at a time, with the handlers it is given."""

    def __init__(
        self,
        database: Database,
        handlers: Mapping[JobType, Handler],
        lease: timedelta,
        stopping: asyncio.Event,
    ) -> None:
        self._database = database
        self._handlers = handlers
        self._lease = lease
        self._stopping = stopping

    async def run(self, job: Job) -> Outcome:
        """Run a claimed job as far as it goes."""
        attempt = Attempt(self._database, job, self._stopping)
        heart = asyncio.create_task(self._beat(job))
        try:
            return await self._try(attempt)
        except FenceLost:
            log.warning("job %s was taken over", job.id)
            return Outcome.LOST
        finally:
            heart.cancel()
            with suppress(asyncio.CancelledError):
                await heart

    async def _try(self, attempt: Attempt) -> Outcome:
        job = attempt.job
        handler = self._handlers.get(job.type)
        if handler is None:
            return await self._fail(attempt, None, "NO_HANDLER", f"Nothing here runs {job.type}.")
        if job.attempts > ATTEMPTS_WITHOUT_PROGRESS:
            return await self._fail(
                attempt,
                handler,
                "ATTEMPTS_EXHAUSTED",
                f"{ATTEMPTS_WITHOUT_PROGRESS} attempts in a row ended without progress.",
            )
        try:
            await handler.run(attempt)
            return Outcome.SUCCEEDED
        except FenceLost:
            raise
        except DomainError as error:
            return await self._fail(attempt, handler, error.code, str(error))
        except Interrupted:
            pass
        except Exception:
            log.exception("attempt %s at job %s broke", job.attempts, job.id)
        await self._database.write(jobs.hand_back, attempt.job)
        return Outcome.HANDED_BACK

    async def _fail(
        self, attempt: Attempt, handler: Handler | None, code: str, message: str
    ) -> Outcome:
        def transaction(session: Session) -> None:
            def abandon() -> None:
                if handler:
                    handler.abandon(session, attempt.job)

            jobs.fail(session, attempt.job, code, message, abandon)

        await self._database.write(transaction)
        return Outcome.FAILED

    async def _beat(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / HEARTBEATS_PER_LEASE)
            try:
                await self._database.write(jobs.heartbeat, job, self._lease)
            except FenceLost:
                return
            except Exception:
                log.exception("a heartbeat of job %s was not written; the next one may be", job.id)
