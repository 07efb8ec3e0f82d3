"""A worker whose jobs only print when they start, by the clock that all processes share."""

import asyncio
from time import monotonic

from app import main
from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.services.attempts import JobResult
from app.settings import Settings
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow


class EmptyHandler:
    """A handler whose jobs print their start and succeed at once."""

    type = JobType.HIERARCHY_DUPLICATE

    async def run(self, attempt: Attempt) -> None:
        """Print the start and succeed."""
        print(f"started {monotonic()}", flush=True)
        await attempt.succeed(lambda _tx, _job: JobResult(0))

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        """Do nothing: the job has written nothing."""


if __name__ == "__main__":
    handler = EmptyHandler()
    asyncio.run(
        main.work(Settings(), lambda *_: print("ready", flush=True), {handler.type: handler})
    )
