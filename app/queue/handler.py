"""Handlers of job types, and the parts of the process that they may use."""

from dataclasses import dataclass
from typing import Protocol

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The parts of the process that handlers may use besides their attempt."""

    database: Database


class Handler(Protocol):
    """The work of a job type. One instance runs all jobs of the type and keeps no state of them."""

    type: JobType

    async def run(self, attempt: Attempt) -> None:
        """Run the job from its checkpoint to `attempt.succeed`, in steps of about 12 ms.

        A DomainError fails the job with its code and message. Any other exception ends the attempt;
        the next one resumes from the last step.
        """

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        """Discard what the job has written, in the transaction that fails it."""
