"""Cancels the next job of a store's queue, again and again, until SIGTERM.

Prints a line per attempt: the job's id, and "won" or the status in the refusal. Several cancellers
and the workers race for the same job.
"""

# ruff: noqa: T201 - the output is read by the test

import asyncio
import os
import signal
import sys
from contextlib import suppress

import uvloop

from app.domain.jobs import JobNotCancellable, JobStatus
from app.services import jobs
from app.storage import jobs as stored
from app.storage.engine.connect import connect
from app.storage.engine.database import Database

POLL_SECONDS = 1.0


async def cancel_next_jobs(database: Database, store: str) -> None:
    """Cancel pending jobs until SIGTERM; wait only while nothing is pending."""
    stopping, woken = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        stopping.set()
        woken.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    database.on_commit(lambda _: woken.set())
    listening = asyncio.create_task(database.listen())
    print("cancelling", flush=True)
    while not stopping.is_set():
        woken.clear()
        job = await database.read(stored.first_pending, store)
        if job is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await woken.wait()
            continue
        try:
            cancelled = await database.write(jobs.cancel, store, job.id)
            assert (cancelled.status, cancelled.started_at) == (JobStatus.CANCELLED, None)
            print(job.id, "won", flush=True)
        except JobNotCancellable as refusal:
            print(job.id, refusal.status, flush=True)
    listening.cancel()


if __name__ == "__main__":
    opened = connect(os.environ["DATABASE_URL"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cancel_next_jobs(opened, sys.argv[1]))
    opened.close()
