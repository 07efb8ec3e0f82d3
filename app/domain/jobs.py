"""Jobs: types, statuses, their transitions, and the limits of the queue.

Source: reference/cancel-a-job.txt and domain.md, "Job".
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from app.domain.attributes import checked_label
from app.domain.errors import DomainError, InvalidInput

IDEMPOTENCY_WINDOW = timedelta(hours=24)
"""The validity of an idempotency key after the creation of its job."""

IDEMPOTENCY_KEY_LIMIT = 255
"""Characters of an idempotency key."""

REASON_LIMIT = 1000
"""Characters of the reason for a pause."""

MAX_ATTEMPTS_WITHOUT_PROGRESS = 5
"""Attempts in a row without a finished step, after which the job fails."""

MAX_RETRY_DELAY = timedelta(minutes=1)
"""Between two attempts of a job."""


class JobType(StrEnum):
    """The kind of work of a job. Values are those of the REST documents."""

    CHILD_PRODUCTS = "child-products"
    PRODUCT_IMPORT = "product-import"
    PRODUCT_EXPORT = "product-export"
    HIERARCHY_DUPLICATE = "hierarchy-duplicate"
    PRICE_IMPORT = "price-import"


class JobStatus(StrEnum):
    """The life cycle of a job. Values are those of the REST documents."""

    PENDING = "pending"
    STARTED = "started"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True if no other status can follow."""
        return not NEXT_STATUSES[self]


NEXT_STATUSES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.STARTED, JobStatus.CANCELLED}),
    JobStatus.STARTED: frozenset({JobStatus.SUCCESS, JobStatus.FAILED}),
    JobStatus.SUCCESS: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""The possible next statuses of each status."""


@dataclass(eq=False)
class WrongStatus(DomainError):
    """The operation is not allowed for a job with this status."""

    job_id: UUID
    status: JobStatus
    path: tuple[str, ...] = ()


class JobNotCancellable(WrongStatus):
    """Only a pending job can be cancelled (reference/cancel-a-job.txt)."""

    code = "JOB_NOT_CANCELLABLE"

    def __str__(self) -> str:
        return f"Only a pending job can be cancelled; this one is {self.status}."


class JobNotMovable(WrongStatus):
    """Only a pending job has a position in the queue."""

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
    """The key was used with another input within IDEMPOTENCY_WINDOW."""

    code: ClassVar[str] = "IDEMPOTENCY_CONFLICT"
    job_id: UUID
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "This idempotency key was used with another input in the last 24 hours."


@dataclass(eq=False)
class FenceLost(DomainError):
    """The job was taken over or has ended: this worker's write is rolled back."""

    code: ClassVar[str] = "FENCE_LOST"
    job_id: UUID

    def __str__(self) -> str:
        return f"Job {self.job_id} is no longer run by this worker."


def retry_delay(attempts: int) -> timedelta:
    """Return the delay after `attempts` failed attempts in a row: 1, 2, 4, ... up to 60 seconds."""
    return min(timedelta(seconds=2 ** (attempts - 1)), MAX_RETRY_DELAY)


def checked_reason(reason: str, *path: str) -> str:
    """Validate a reason: not blank, at most 1000 characters, no NUL. Raises InvalidInput(path)."""
    return checked_label("reason", reason, REASON_LIMIT, *path)


def checked_idempotency_key(key: str, *path: str) -> str:
    """Validate a key of 1 to 255 printable ASCII characters. Raises InvalidInput(path).

    No blank at either end: a header loses it, so that REST could not repeat the key of GraphQL.
    """
    if (
        not 0 < len(key) <= IDEMPOTENCY_KEY_LIMIT
        or not (key.isascii() and key.isprintable())
        or key != key.strip()
    ):
        raise InvalidInput(
            f"An idempotency key has 1 to {IDEMPOTENCY_KEY_LIMIT} printable ASCII characters, "
            "without a blank at either end.",
            path,
        )
    return key
