"""Jobs."""

from datetime import datetime
from enum import Enum
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import Cursors, int_part, none_if_unset, uuid_part
from app.api.graphql.fields.connection import connection
from app.api.graphql.fields.expression import expression
from app.api.graphql.fields.relation import relation
from app.api.graphql.scalars import describe_enum
from app.api.graphql.types.duplications import Duplication
from app.api.graphql.types.job_errors import JobError
from app.api.graphql.types.relay import PRIMARY_KEY, Connection, Node
from app.domain.forecast import Pace, estimated_end
from app.domain.ids import uuid_of
from app.domain.jobs import JobStatus, JobType
from app.storage import job_errors, jobs, lanes, tables

describe_enum(
    JobStatus,
    "Status of a job.",
    {
        JobStatus.PENDING: "Queued; not started.",
        JobStatus.STARTED: "Running, or waiting to be resumed after an interruption.",
        JobStatus.SUCCESS: "Ended successfully.",
        JobStatus.FAILED: "Ended without a result; see errors.",
        JobStatus.CANCELLED: "Cancelled before it started.",
    },
)
describe_enum(
    JobType,
    "Type of a job.",
    {
        JobType.CHILD_PRODUCTS: "Builds child products. Not supported by this version.",
        JobType.PRODUCT_IMPORT: "Imports products. Not supported by this version.",
        JobType.PRODUCT_EXPORT: "Exports products. Not supported by this version.",
        JobType.HIERARCHY_DUPLICATE: "Copies a hierarchy with all its nodes.",
        JobType.PRICE_IMPORT: "Imports prices. Not supported by this version.",
    },
)

JOBS = Cursors("jobs", int_part)
QUEUED = Cursors("queued-jobs", int_part)
_ERRORS = Cursors("job-errors", uuid_part)

_STATUS = frozenset({"status"})


@strawberry.enum(description="Order of a list of jobs.")
class JobOrder(Enum):
    CREATED_AT_DESC = strawberry.enum_value("desc", description="Newest first.")
    CREATED_AT_ASC = strawberry.enum_value("asc", description="Oldest first.")


@strawberry.type(
    description="Progress of a job in items, which are nodes and product associations."
)
class JobProgress:
    completed: int = strawberry.field(description="Number of completed items.")
    total: int | None = strawberry.field(
        description="Number of items of the job; null until counted."
    )
    ratio: float | None = strawberry.field(
        description="completed / total, 0 to 1; null until total is counted."
    )
    estimated_completion_at: datetime | None = strawberry.field(
        description="Estimated end at the job's speed so far; null before its first completed "
        "items, and once it has ended."
    )


def _progress(job: tables.JobRow) -> JobProgress | None:
    if job.started_at is None:
        return None
    total, completed = job.total_items, job.completed_items
    ratio = None
    if total is not None:
        ratio = min(1.0, completed / total) if total else 1.0
    running = job.status is JobStatus.STARTED
    return JobProgress(
        completed=completed,
        total=total,
        ratio=ratio,
        estimated_completion_at=estimated_end(
            job.started_at, job.updated_at, completed, total, Pace()
        )
        if running
        else None,
    )


def _if_pending(job: tables.JobRow) -> int | None:
    return job.pk if job.status is JobStatus.PENDING else None


@strawberry.type(
    description="A unit of queued work. Each store runs one job at a time: the PENDING one created "
    "first, unless another was moved to the front."
)
class Job(Node):
    type: JobType = strawberry.field(description="Type of the job.")
    status: JobStatus = strawberry.field(description="Current status.")
    created_at: datetime = strawberry.field(description="Time of the request.")
    started_at: datetime | None = strawberry.field(
        description="Time of the first start; stays null if the job is cancelled."
    )
    completed_at: datetime | None = strawberry.field(
        description="Time of SUCCESS or FAILED; stays null if the job is cancelled."
    )
    updated_at: datetime = strawberry.field(description="Time of the last change.")
    request_id: str = strawberry.field(description="ID of the request that created the job.")
    requested_by: str | None = strawberry.field(
        description="Subject of the token that requested the job; null without authentication."
    )
    version: int = strawberry.field(
        description="Increases with every change, progress included: ignore an event whose version "
        "is not greater than the one you hold."
    )
    can_cancel: bool = expression(
        lambda job: job.status is JobStatus.PENDING,
        "True if cancelJob is allowed: the status is PENDING.",
        _STATUS,
    )
    can_retry: bool = expression(
        lambda job: job.status is JobStatus.FAILED,
        "True if retryJob is allowed: the status is FAILED.",
        _STATUS,
    )
    retry_of: Annotated["Job", strawberry.lazy(__name__)] | None = relation(
        jobs.by_ids,
        lambda job: job.retry_of,
        "The failed job that this job retries; null if it is not a retry, and once the failed job "
        "is deleted by retention.",
        requires=frozenset({"retry_of"}),
        projected=True,
    )
    retried_by: Annotated["Job", strawberry.lazy(__name__)] | None = relation(
        jobs.newest_retries,
        lambda job: job.id if job.status is JobStatus.FAILED else None,
        "The newest retry of this job; null without a retry, and unless FAILED.",
        requires=frozenset({"id", "status"}),
    )
    queue_position: int | None = relation(
        lanes.queue_positions,
        _if_pending,
        "Position in the store's queue, 1 = next to start; null unless PENDING.",
        lambda position: position.position,
        PRIMARY_KEY | _STATUS,
    )
    estimated_start_at: datetime | None = relation(
        lanes.queue_positions,
        _if_pending,
        "Estimated start, from the pace of the store's latest jobs; null unless PENDING, until "
        "the pace is known, and while the queue is paused.",
        lambda position: position.start_at,
        PRIMARY_KEY | _STATUS,
    )
    progress: JobProgress | None = expression(
        _progress,
        "Progress; null until the job has started.",
        _STATUS | {"started_at", "updated_at", "completed_items", "total_items"},
    )
    duplication: Duplication | None = expression(
        lambda job: job if job.type is JobType.HIERARCHY_DUPLICATE else None,
        "Arguments and result of a duplication; null for other job types.",
        frozenset({"type"}),
    )
    errors: Connection[JobError] = connection(
        _ERRORS,
        job_errors.of_jobs,
        job_errors.counts_of_jobs,
        # Only failed jobs have errors; others, most of the watched ones, need no statement.
        lambda job: (job.pk, job.version) if job.status is JobStatus.FAILED else None,
        "Reasons for the failure, oldest first; empty unless FAILED.",
        PRIMARY_KEY | _STATUS | {"version"},
    )

    @classmethod
    def is_type_of(cls, row: object, _info: object) -> bool:
        return isinstance(row, tables.JobRow)


@strawberry.input(description="Conditions that must all hold; omitted ones match every job.")
class JobFilter:
    status: list[JobStatus] | None = strawberry.field(
        default=UNSET, description="Jobs with one of these statuses."
    )
    type: list[JobType] | None = strawberry.field(
        default=UNSET, description="Jobs of one of these types."
    )
    hierarchy_id: strawberry.ID | None = strawberry.field(
        default=UNSET, description="Duplications from or into this hierarchy."
    )
    created_after: datetime | None = strawberry.field(
        default=UNSET, description="Jobs created after this instant, exclusive."
    )
    created_before: datetime | None = strawberry.field(
        default=UNSET, description="Jobs created before this instant, exclusive."
    )

    def to_storage(self) -> jobs.JobFilter:
        """Convert to the filter of storage."""
        status, type_, hierarchy_id = (
            none_if_unset(self.status),
            none_if_unset(self.type),
            none_if_unset(self.hierarchy_id),
        )
        return jobs.JobFilter(
            status=None if status is None else tuple(status),
            type=None if type_ is None else tuple(type_),
            # An invalid id matches nothing, like the id of no hierarchy.
            hierarchy_id=None if hierarchy_id is None else uuid_of(hierarchy_id) or UUID(int=0),
            created_after=none_if_unset(self.created_after),
            created_before=none_if_unset(self.created_before),
        )
