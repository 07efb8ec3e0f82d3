"""API types as the operations select them."""

from dataclasses import dataclass
from typing import TypedDict


class HierarchyRef(TypedDict):
    id: str
    name: str


class CopyRef(HierarchyRef):
    nodeCount: int


class Duplication(TypedDict):
    sourceId: str
    source: HierarchyRef | None
    name: str | None
    description: str | None
    includeProducts: bool
    result: CopyRef | None


class Progress(TypedDict):
    completed: int
    total: int | None
    ratio: float | None
    estimatedCompletionAt: str | None


class JobError(TypedDict):
    id: str
    code: str
    message: str
    createdAt: str


class JobErrors(TypedDict):
    nodes: list[JobError]


class Job(TypedDict):
    id: str
    type: str
    status: str
    createdAt: str
    startedAt: str | None
    completedAt: str | None
    updatedAt: str
    requestId: str
    requestedBy: str | None
    version: int
    canCancel: bool
    queuePosition: int | None
    estimatedStartAt: str | None
    progress: Progress | None
    duplication: Duplication | None
    errors: JobErrors


class JobEvent(TypedDict):
    cursor: str
    type: str
    at: str
    previousStatus: str | None
    job: Job


class JobRequest(TypedDict):
    job: Job
    replayed: bool


class QueuePause(TypedDict):
    at: str
    reason: str | None
    by: str | None


class JobQueue(TypedDict):
    pending: int
    running: dict[str, str] | None
    oldestPendingAt: str | None
    cursor: str
    pause: QueuePause | None


class Difference(TypedDict):
    kind: str
    aspects: list[str]
    path: list[str]


class DuplicationDiff(TypedDict):
    onlyInSource: int
    onlyInCopy: int
    changed: int
    differences: list[Difference]


class ErrorExtensions(TypedDict, total=False):
    code: str
    requestId: str


class RequestError(TypedDict, total=False):
    message: str
    extensions: ErrorExtensions


@dataclass(frozen=True, slots=True)
class JobListing:
    """Jobs, newest first, and the queue just before they were read."""

    queue: JobQueue
    jobs: list[Job]
