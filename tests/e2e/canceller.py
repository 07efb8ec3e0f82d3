"""Cancels whatever is next in a store's queue, again and again, until SIGTERM. Prints each try: the
job's id and what it was told of it, "won" or the status it was refused with.

With others like it, and workers, it goes for one and the same job all the time.
"""

# ruff: noqa: T201 - what it prints is what it is asked for

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


async def cancel_what_is_next(database: Database, store: str) -> None:
    """Until SIGTERM, resting only while nothing is pending."""
    stopping, woken = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        stopping.set()
        woken.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    database.on_commit(lambda _: woken.set())
    hearing = asyncio.create_task(database.listen())
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
    hearing.cancel()


if __name__ == "__main__":
    opened = connect(os.environ["DATABASE_URL"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cancel_what_is_next(opened, sys.argv[1]))
    opened.close()
