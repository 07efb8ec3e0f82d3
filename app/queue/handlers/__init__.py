"""Handlers of jobs, one module per job type: a class that implements Handler, and `handler`, an
instance. For the other files of a job type see docs/how-to/extend.md.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow


class Handler(Protocol):
    """The work of a job type. One instance runs all jobs of the type and keeps no state."""

    type: JobType

    async def run(self, attempt: Attempt) -> None:
        """Run the job from its checkpoint to `attempt.succeed`, in steps of about 12 ms.

        A DomainError fails the job with its code and message. Any other exception ends the attempt;
        the next one resumes from the last step.
        """

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        """Discard what the job has written, in the transaction that fails it."""


def find_handlers() -> Mapping[JobType, Handler]:
    """Import every module of this package. Return its handler by job type."""
    handlers: dict[JobType, Handler] = {}
    for module in iter_modules(__path__):
        handler: Handler = import_module(f"{__name__}.{module.name}").handler
        if handler.type in handlers:
            raise TypeError(f"two handlers for {handler.type}")
        handlers[handler.type] = handler
    return handlers
