"""What jobs do: one file a type. A module here whose `handler` is a Handler is found by itself."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol

from sqlmodel import Session

from app.domain.jobs import JobType
from app.queue.attempt import Attempt
from app.storage.tables import Job


class Handler(Protocol):
    """What a job type does. It is shared by all jobs of the type and keeps nothing of its own."""

    type: JobType

    async def run(self, attempt: Attempt) -> None:
        """Bring the job from its checkpoint to `attempt.succeed`.

        A DomainError fails the job and tells its sentence; any other exception means another
        attempt, from the last step.
        """

    def abandon(self, session: Session, job: Job) -> None:
        """Give up all that the job has written, in the transaction that fails it."""


def find_handlers() -> Mapping[JobType, Handler]:
    """Every handler of this package by the type it runs."""
    found: dict[JobType, Handler] = {}
    for module in iter_modules(__path__):
        handler: Handler = import_module(f"{__name__}.{module.name}").handler
        if handler.type in found:
            raise TypeError(f"two handlers for {handler.type}")
        found[handler.type] = handler
    return found
