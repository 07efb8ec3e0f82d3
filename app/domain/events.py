"""Events of jobs in a store's event log."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, assert_never

from app.domain.errors import DomainError
from app.domain.jobs import JobStatus


class JobEventType(StrEnum):
    """The type of an event. SNAPSHOT and PROGRESS are never logged."""

    SNAPSHOT = "snapshot"
    CREATED = "created"
    MOVED = "moved"
    STARTED = "started"
    PROGRESS = "progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_last(self) -> bool:
        """True for a job's final event."""
        return self in (self.SUCCEEDED, self.FAILED, self.CANCELLED)


@dataclass(eq=False)
class CursorAhead(DomainError):
    """A cursor after the end of the log: of another database or store."""

    code: ClassVar[str] = "CURSOR_INVALID"
    path: tuple[str, ...] = ("after",)

    def __str__(self) -> str:
        return "The cursor is ahead of the event log; it does not come from this store's events."


@dataclass(eq=False)
class CursorExpired(DomainError):
    """A cursor whose next events were pruned."""

    code: ClassVar[str] = "CURSOR_EXPIRED"
    path: tuple[str, ...] = ("after",)

    def __str__(self) -> str:
        return (
            "The events after this cursor are no longer kept. "
            "Read the jobs again and follow them from jobQueue.cursor."
        )


def event_of(status: JobStatus) -> JobEventType:
    """Return the event type of a job that reaches `status`."""
    match status:
        case JobStatus.PENDING:
            return JobEventType.CREATED
        case JobStatus.STARTED:
            return JobEventType.STARTED
        case JobStatus.SUCCESS:
            return JobEventType.SUCCEEDED
        case JobStatus.FAILED:
            return JobEventType.FAILED
        case JobStatus.CANCELLED:
            return JobEventType.CANCELLED
    assert_never(status)
