"""Jobs, the queue, and what the subscriptions tell of them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry
from strawberry import UNSET

from app.api.graphql.cursors import Cursors, given, uuid, whole
from app.api.graphql.fields.declarations import (
    attribute,
    connection,
    expression,
    relation,
)
from app.api.graphql.scalars import describe
from app.api.graphql.types.hierarchies import Hierarchy
from app.api.graphql.types.relay import Connection, Node
from app.domain.forecast import Pace, estimated_end
from app.domain.ids import uuid_of
from app.domain.jobs import JobStatus, JobType
from app.storage import hierarchies, job_errors, jobs, lanes, tables
from app.storage.jobs import JobFilter as StoredFilter
from app.storage.sql.rows import is_row_of

describe(
    JobStatus,
    "Where a job is in its life.",
    {
        JobStatus.PENDING: "Accepted; waits for its turn.",
        JobStatus.STARTED: "Running, or about to be resumed after an interruption.",
        JobStatus.SUCCESS: "Done.",
        JobStatus.FAILED: "Ended without a result; errors say why.",
        JobStatus.CANCELLED: "Cancelled before it started.",
    },
)
describe(
    JobType,
    "What a job does.",
    {
        JobType.CHILD_PRODUCTS: "Builds child products. Nothing here runs it yet.",
        JobType.PRODUCT_IMPORT: "Imports products. Nothing here runs it yet.",
        JobType.PRODUCT_EXPORT: "Exports products. Nothing here runs it yet.",
        JobType.HIERARCHY_DUPLICATE: "Copies a hierarchy with all that is below it.",
        JobType.PRICE_IMPORT: "Imports prices. Nothing here runs it yet.",
    },
)

PK = frozenset({"pk"})
STATUS = frozenset({"status"})
"""What much is told by."""


JOBS = Cursors("jobs", whole)
QUEUED = Cursors("queued-jobs", whole)
_ERRORS = Cursors("job-errors", uuid)


@strawberry.type(description="Why a job failed, or a warning it left.")
class JobError(Node):
    code: str = strawberry.field(description="Stable, for programs: NOT_FOUND, for example.")
    message: str = strawberry.field(description="One sentence for a person.")
    created_at: datetime = strawberry.field(description="When it was noted.")

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return is_row_of(row, tables.JobError)


@strawberry.type(
    description="Items done of items to do. total is null until counted; ratio runs 0 to 1."
)
class JobProgress:
    completed: int = strawberry.field(description="Items done: nodes and product associations.")
    total: int | None = strawberry.field(description="Items to do; null until counted.")
    ratio: float | None = strawberry.field(
        description="completed of total, 0 to 1; null until total is counted."
    )
    estimated_completion_at: datetime | None = strawberry.field(
        description="When the job should end at its speed so far; null before its first items "
        "and once it has ended."
    )


def _progress(job: tables.Job) -> JobProgress | None:
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


@strawberry.type(
    description="The facts of a HIERARCHY_DUPLICATE job. result is null until SUCCESS."
)
class Duplication:
    source_id: strawberry.ID = attribute("source_id", "The id of the hierarchy to copy.", made=str)
    source: Hierarchy | None = relation(
        hierarchies.by_ids,
        lambda job: job.source_id,
        "The hierarchy to copy, as it is now; null once it is deleted.",
        needs=frozenset({"source_id"}),
    )
    name: str | None = strawberry.field(description="The name asked for; null keeps the source's.")
    description: str | None = strawberry.field(
        description="The description asked for; null keeps the source's, an empty one clears it."
    )
    include_products: bool = strawberry.field(
        description="Whether product associations and their curation are copied too."
    )
    result: Hierarchy | None = relation(
        hierarchies.by_ids,
        lambda job: job.result_id,
        "The copy; null until SUCCESS, and once it is deleted.",
        needs=frozenset({"result_id"}),
    )


def _if_pending(job: tables.Job) -> int | None:
    return job.pk if job.status is JobStatus.PENDING else None


@strawberry.type(
    description="One unit of queued work. One runs at a time in a store: the PENDING one created "
    "first, unless another was moved to the front."
)
class Job(Node):
    type: JobType = strawberry.field(description="What it does.")
    status: JobStatus = strawberry.field(description="Where it is in its life.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(
        description="When it first began to run; a cancelled job keeps it null."
    )
    completed_at: datetime | None = strawberry.field(
        description="Set by SUCCESS and FAILED; a cancelled job keeps it null."
    )
    updated_at: datetime = strawberry.field(description="When it last changed.")
    request_id: str = strawberry.field(description="The id of the request that created the job.")
    requested_by: str | None = strawberry.field(
        description="Who asked for it, where requests are authenticated."
    )
    version: int = strawberry.field(
        description="Grows with every change: drop an event at or below the version you hold. "
        "Progress counts as a change."
    )
    can_cancel: bool = expression(
        lambda job: job.status is JobStatus.PENDING,
        "Whether cancelJob would work: PENDING.",
        STATUS,
    )
    can_retry: bool = expression(
        lambda job: job.status is JobStatus.FAILED,
        "Whether retryJob would work: FAILED.",
        STATUS,
    )
    retry_of: Annotated["Job", strawberry.lazy(__name__)] | None = relation(
        jobs.by_ids,
        lambda job: job.retry_of,
        "The failed job that this one tries again; null when it is none's retry, and once that is "
        "no longer kept.",
        needs=frozenset({"retry_of"}),
    )
    retried_by: Annotated["Job", strawberry.lazy(__name__)] | None = relation(
        jobs.retries,
        lambda job: job.id if job.status is JobStatus.FAILED else None,
        "The newest job that tries this failed one again.",
        needs=frozenset({"id", "status"}),
    )
    queue_position: int | None = relation(
        lanes.queue_positions,
        _if_pending,
        "1 = next to start; null unless PENDING.",
        lambda standing: standing.position,
        PK | STATUS,
    )
    estimated_start_at: datetime | None = relation(
        lanes.queue_positions,
        _if_pending,
        "When it should start, by the pace of the store's latest jobs; null unless PENDING, while "
        "nothing has shown the pace yet, and while the queue is paused.",
        lambda standing: standing.start_at,
        PK | STATUS,
    )
    progress: JobProgress | None = expression(
        _progress,
        "How far it has come; null until it has started.",
        STATUS | {"started_at", "updated_at", "completed_items", "total_items"},
    )
    duplication: Duplication | None = expression(
        lambda job: job if job.type is JobType.HIERARCHY_DUPLICATE else None,
        "Null for other types of job.",
        frozenset({"type"}),
    )
    errors: Connection[JobError] = connection(
        _ERRORS,
        job_errors.of_jobs,
        job_errors.counts_of_jobs,
        # Only a failed job has errors, and most jobs that are watched have not failed.
        lambda job: (job.pk, job.version) if job.status is JobStatus.FAILED else None,
        "Why it failed, the first one first.",
        PK | STATUS | {"version"},
    )

    @classmethod
    def is_type_of(cls, row: Any, _info: Any) -> bool:
        """Whether a row is one of these."""
        return is_row_of(row, tables.Job)


@strawberry.input(description="Conditions that all have to hold; what is left out asks nothing.")
class JobFilter:
    status: list[JobStatus] | None = strawberry.field(default=UNSET, description="In one of these.")
    type: list[JobType] | None = strawberry.field(default=UNSET, description="Of one of these.")
    hierarchy_id: strawberry.ID | None = strawberry.field(
        default=UNSET, description="Duplications from or into this hierarchy."
    )
    created_after: datetime | None = strawberry.field(
        default=UNSET, description="Created later than this."
    )
    created_before: datetime | None = strawberry.field(
        default=UNSET, description="Created earlier than this."
    )

    def stored(self) -> StoredFilter:
        """The conditions as storage takes them."""
        status, type_, hierarchy_id = (
            given(self.status),
            given(self.type),
            given(self.hierarchy_id),
        )
        return StoredFilter(
            status=None if status is None else tuple(status),
            type=None if type_ is None else tuple(type_),
            # An id that is none matches nothing, as does one of no hierarchy.
            hierarchy_id=None if hierarchy_id is None else uuid_of(hierarchy_id) or UUID(int=0),
            created_after=given(self.created_after),
            created_before=given(self.created_before),
        )
