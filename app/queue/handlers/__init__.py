"""Handlers of jobs, one module per job type.

To add a job type:

1. Arguments: a frozen dataclass in `domain/jobs.py` next to its JobType, and columns of Job for
   them (`storage/tables.py` and a migration).
2. Request: a function in `services/jobs.py` that validates the arguments and calls `enqueue`;
   `retry` there copies the columns.
3. Work: a service with the steps of the job, like `services/copies.py`, and a module here that runs
   them: a class that implements Handler, and `handler`, an instance. `find_handlers` finds it.
4. Surfaces: a mutation (`api/graphql/mutations/`), an endpoint (`api/rest/`) and a command
   (`cli/jobs.py`). Arguments and results appear in `api/graphql/types/jobs.py`, in the REST
   document (`api/rest/jobs.py`) and in the webhook payload (`services/webhooks.py`).
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol

from sqlmodel import Session

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.storage.tables import Job


class Handler(Protocol):
    """The work of a job type. One instance runs all jobs of the type and keeps no state."""

    type: JobType

    async def run(self, attempt: Attempt) -> None:
        """Run the job from its checkpoint to `attempt.succeed`, in steps of about 12 ms.

        A DomainError fails the job with its code and message. Any other exception ends the attempt;
        the next one resumes from the last step.
        """

    def abandon(self, session: Session, job: Job) -> None:
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
