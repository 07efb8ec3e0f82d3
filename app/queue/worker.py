"""The worker: runs claimed jobs, each to the outcome of one attempt."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from time import monotonic, perf_counter
from typing import Concatenate, ParamSpec
from uuid import UUID

from opentelemetry.trace import NoOpTracer, StatusCode, Tracer
from structlog.contextvars import bound_contextvars
from tenacity import AsyncRetrying, retry_if_exception_type, wait_fixed

from app.domain.errors import DomainError
from app.domain.jobs import MAX_ATTEMPTS_WITHOUT_PROGRESS, FenceLost, JobType, retry_delay
from app.observability import metrics
from app.queue.attempt import Attempt, Interrupted
from app.queue.handler import Handler
from app.queue.tracing import attempt_span
from app.services import attempts
from app.storage.engine.database import Database, DatabaseUnavailable, StorageFull
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow

log = logging.getLogger(__name__)

P = ParamSpec("P")

HEARTBEATS_PER_LEASE = 3

OUTCOME_RETRY_SECONDS = 1.0


class Outcome(Enum):
    """The outcome of an attempt; values are those of the log."""

    SUCCEEDED = "success"
    FAILED = "failed"
    RELEASED = "handed_back"
    """The job is still started; another attempt resumes from its last step."""
    LOST = "lost"
    """Another worker has taken the job over."""


class Worker:
    """Runs claimed jobs with `handlers`.

    A job may take any time in all, but each step must finish within `time_limit`.
    """

    def __init__(
        self,
        database: Database,
        handlers: Mapping[JobType, Handler],
        lease: timedelta,
        stopping: asyncio.Event,
        time_limit: timedelta = timedelta(hours=1),
        clock: Callable[[], float] = monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        self._database = database
        self._handlers = handlers
        self._lease = lease
        self._stopping = stopping
        self._time_limit = time_limit
        self._clock = clock
        self._tracer = tracer or NoOpTracer()
        self._heartbeats: dict[tuple[UUID, int], float] = {}
        """Time of the last heartbeat of each running attempt, by job and epoch."""

    def seconds_since_heartbeat(self) -> float:
        """Seconds since the oldest heartbeat among attempts running here; 0 if none."""
        now = self._clock()
        return now - min(self._heartbeats.values(), default=now)

    async def run(self, job: JobRow) -> Outcome:
        """Run one attempt at a claimed job."""
        seconds = self._time_limit.total_seconds()
        clock = asyncio.get_running_loop().time
        limit = asyncio.timeout(seconds)
        attempt = Attempt(
            self._database, job, self._stopping, lambda: limit.reschedule(clock() + seconds)
        )
        with (
            bound_contextvars(request_id=job.request_id, job_id=str(job.id)),
            attempt_span(self._tracer, job) as span,
        ):
            began = perf_counter()
            self._heartbeats[job.id, job.epoch] = self._clock()
            heartbeats = asyncio.create_task(self._send_heartbeats(job))
            try:
                outcome = await self._attempt(job, attempt, limit)
            except FenceLost:
                log.warning("job %s was taken over", job.id)
                metrics.FENCE_REFUSALS.inc()
                outcome = Outcome.LOST
            finally:
                heartbeats.cancel()
                del self._heartbeats[job.id, job.epoch]
                with suppress(asyncio.CancelledError):
                    await heartbeats
            span.set_attribute("jobs_gateway.job.outcome", outcome.value)
            if outcome is Outcome.FAILED:
                span.set_status(StatusCode.ERROR)
            log.info(
                "job",
                extra={
                    "store": job.store,
                    "type": job.type.value,
                    "outcome": outcome.value,
                    "seconds": round(perf_counter() - began, 3),
                    "items": attempt.job.completed_items,
                    "attempts": job.attempts,
                },
            )
        return outcome

    async def _attempt(self, job: JobRow, attempt: Attempt, limit: asyncio.Timeout) -> Outcome:
        handler = self._handlers.get(job.type)
        if handler is None:
            return await self._fail(
                job, None, "NO_HANDLER", f"This process has no handler for {job.type}."
            )
        if job.attempts > MAX_ATTEMPTS_WITHOUT_PROGRESS:
            return await self._fail(
                job,
                handler,
                "ATTEMPTS_EXHAUSTED",
                f"{MAX_ATTEMPTS_WITHOUT_PROGRESS} attempts in a row ended without progress.",
            )
        try:
            async with limit:
                await handler.run(attempt)
            return Outcome.SUCCEEDED
        except FenceLost:
            raise
        except DomainError as error:
            return await self._fail(attempt.job, handler, error.code, str(error))
        except StorageFull as error:
            return await self._fail(attempt.job, handler, "STORAGE_FULL", str(error))
        except (Interrupted, DatabaseUnavailable) as error:
            log.info("attempt %s at job %s was interrupted: %s", job.attempts, job.id, error)
            await self._write_outcome(attempts.release, attempt.job)
            return Outcome.RELEASED
        except Exception:
            if limit.expired():
                seconds = self._time_limit.total_seconds()
                message = f"No step finished within {seconds:g} seconds."
                return await self._fail(attempt.job, handler, "TIME_LIMIT", message)
            log.exception("attempt %s at job %s failed", job.attempts, job.id)
        await self._write_outcome(attempts.snooze, attempt.job, retry_delay(attempt.job.attempts))
        return Outcome.RELEASED

    async def _fail(self, job: JobRow, handler: Handler | None, code: str, message: str) -> Outcome:
        def transaction(tx: Transaction) -> None:
            def abandon() -> None:
                if handler:
                    handler.abandon(tx, job)

            attempts.fail(tx, job, code, message, abandon)

        await self._write_outcome(transaction)
        return Outcome.FAILED

    async def _write_outcome(
        self, fn: Callable[Concatenate[Transaction, P], object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Write the outcome of the attempt, retrying until the database accepts it.

        Until then the claim is kept, and with it the store's order. If the outcome is never
        written, the lease expires.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((DatabaseUnavailable, StorageFull)),
            wait=wait_fixed(OUTCOME_RETRY_SECONDS),
            stop=lambda _: self._stopping.is_set(),
            reraise=True,
        )
        await retrying(self._database.write, fn, *args, **kwargs)

    async def _send_heartbeats(self, job: JobRow) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / HEARTBEATS_PER_LEASE)
            try:
                await self._database.write(attempts.heartbeat, job, self._lease)
                self._heartbeats[job.id, job.epoch] = self._clock()
            except FenceLost:
                return
            except (DatabaseUnavailable, StorageFull) as error:
                log.warning("a heartbeat of job %s failed: %s", job.id, error)
            except Exception:
                log.exception("a heartbeat of job %s failed", job.id)
