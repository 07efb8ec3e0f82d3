"""Jobs: their types, their states, what may follow what, and what the queue promises of them.

Source: reference/cancel-a-job.txt and domain.md, "Job".
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from app.domain.attributes import checked_label, checked_name, checked_text
from app.domain.errors import DomainError, InvalidInput

IDEMPOTENCY_WINDOW = timedelta(hours=24)
"""How long an idempotency key stands for the job it first made."""

IDEMPOTENCY_KEY_LIMIT = 255
"""Characters an idempotency key may have."""

REASON_LIMIT = 1000
"""Characters the reason of a pause may have."""

ATTEMPTS_WITHOUT_PROGRESS = 5
"""Attempts in a row that may end without one finished step before the job fails."""


LONGEST_PAUSE = timedelta(minutes=1)


class JobType(StrEnum):
    """What a job does. Values are those of the REST documents."""

    CHILD_PRODUCTS = "child-products"
    PRODUCT_IMPORT = "product-import"
    PRODUCT_EXPORT = "product-export"
    HIERARCHY_DUPLICATE = "hierarchy-duplicate"
    PRICE_IMPORT = "price-import"


class JobStatus(StrEnum):
    """Where a job is in its life. Values are those of the REST documents."""

    PENDING = "pending"
    STARTED = "started"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows this status."""
        return not FOLLOWING[self]


FOLLOWING: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.STARTED, JobStatus.CANCELLED}),
    JobStatus.STARTED: frozenset({JobStatus.SUCCESS, JobStatus.FAILED}),
    JobStatus.SUCCESS: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""Each status and those that may come next."""


@dataclass(eq=False)
class WrongStatus(DomainError):
    """A job's status does not allow what was to be done with it."""

    job_id: UUID
    status: JobStatus
    path: tuple[str, ...] = ()


class JobNotCancellable(WrongStatus):
    """Only a pending job can be cancelled (reference/cancel-a-job.txt)."""

    code = "JOB_NOT_CANCELLABLE"

    def __str__(self) -> str:
        return f"Only a pending job can be cancelled; this one is {self.status}."


class JobNotMovable(WrongStatus):
    """Only a pending job has a place in the queue."""

    code = "JOB_NOT_MOVABLE"

    def __str__(self) -> str:
        return f"Only a pending job can be moved; this one is {self.status}."


class JobNotRetryable(WrongStatus):
    """Only a failed job can be tried again."""

    code = "JOB_NOT_RETRYABLE"

    def __str__(self) -> str:
        return f"Only a failed job can be tried again; this one is {self.status}."


@dataclass(eq=False)
class IdempotencyConflict(DomainError):
    """The key was used before, within its window, with another input."""

    code: ClassVar[str] = "IDEMPOTENCY_CONFLICT"
    job_id: UUID
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "This idempotency key was used with another input in the last 24 hours."


@dataclass(eq=False)
class FenceLost(DomainError):
    """The job is no longer this worker's: taken over, or ended. Whatever it wrote is undone."""

    code: ClassVar[str] = "FENCE_LOST"
    job_id: UUID

    def __str__(self) -> str:
        return f"Job {self.job_id} is no longer run by this worker."


def pause_after(attempts: int) -> timedelta:
    """How long a job rests after so many attempts in a row broke: 1, 2, 4 seconds, up to 60."""
    return min(timedelta(seconds=2 ** (attempts - 1)), LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Duplication:
    """What a hierarchy-duplicate job is asked to do. None keeps what the source says."""

    source_id: UUID
    name: str | None = None
    description: str | None = None
    include_products: bool = False

    def __post_init__(self) -> None:
        if self.name is not None:
            checked_name(self.name, "name")
        if self.description is not None:
            checked_text(self.description, "description")


def checked_reason(reason: str, *path: str) -> str:
    """`reason` itself, or InvalidInput naming `path`: not blank, at most 1000 characters, no
    NUL."""
    return checked_label("reason", reason, REASON_LIMIT, *path)


def checked_idempotency_key(key: str, *path: str) -> str:
    """`key` itself, or InvalidInput naming `path`: 1 to 255 printable ASCII characters."""
    if not 0 < len(key) <= IDEMPOTENCY_KEY_LIMIT or not (key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"An idempotency key has 1 to {IDEMPOTENCY_KEY_LIMIT} printable ASCII characters.",
            path,
        )
    return key
