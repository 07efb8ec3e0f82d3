"""Jobs. Source: reference/cancel-a-job.txt and reference/duplicate-a-hierarchy.txt."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Response
from pydantic import Field
from sqlmodel import Session, col

from app.api.rest.context import Duplicates, Endpoint, JobsRead, JobsWrite
from app.api.rest.errors import refusals
from app.api.rest.filters import ID, INSTANT, one_of
from app.api.rest.models import (
    STATED_FIELDS,
    IdInPath,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    StrictRequestModel,
    Timestamp,
    left_out,
)
from app.api.rest.pagination import (
    FilteredListRequest,
    ListDocument,
    Paged,
    filtered,
    without_filter,
)
from app.domain.attributes import NAME_LIMIT
from app.domain.errors import NotFound
from app.domain.ids import known_uuid
from app.domain.jobs import Duplication, JobStatus, JobType
from app.services import jobs as service
from app.storage import job_errors, jobs, tables
from app.storage.sql.keyset import OrderBy

router = APIRouter(route_class=Endpoint, tags=["JobListRequest"])


class JobAttributes(ResponseModel):
    started_at: Timestamp | None = Field(description="When it first began to run.")
    completed_at: Timestamp | None = Field(
        description="When it succeeded or failed; a cancelled job keeps it null."
    )
    created_at: Timestamp
    updated_at: Timestamp
    type: JobType = Field(description="What it does.")
    status: JobStatus = Field(description="Where it is in its life.")


class JobMeta(ResponseModel):
    x_request_id: str = Field(description="The id of the request that made the job.")
    copied_from: UUID = left_out(
        description="Of a hierarchy-duplicate that has started: the hierarchy it copies."
    )
    hierarchy_id: UUID = left_out(
        description="Of a hierarchy-duplicate: the copy, once it is whole."
    )
    file_locations: list[str] = left_out(description="Of a product-export: its files.")
    filter: str = left_out(description="What the job includes.")


class JobData(ResponseModel):
    id: UUID
    type: Literal["pim-job"]
    attributes: JobAttributes
    meta: JobMeta


class JobErrorAttributes(ResponseModel):
    message: str


class JobErrorData(ResponseModel):
    id: UUID
    type: Literal["pim-job-error"]
    attributes: JobErrorAttributes


class DuplicateAttributes(StrictRequestModel):
    """What the copy is to say. What is left out or null stays as in the source."""

    name: str | None = Field(
        default=None,
        max_length=NAME_LIMIT,
        description="Something to be seen.",
        json_schema_extra={**STATED_FIELDS},
    )
    description: str | None = Field(default=None, description="An empty one clears it.")
    include_products: bool = Field(
        default=False, description="Whether product associations and their curation are copied."
    )


class DuplicateData(RequestModel):
    type: Literal["hierarchy"]
    attributes: DuplicateAttributes = Field(default_factory=DuplicateAttributes)


def job_data(job: tables.Job) -> JobData:
    """The job as the wire has it."""
    about = {}
    if job.type is JobType.HIERARCHY_DUPLICATE and job.started_at:
        about["copied_from"] = job.source_id
        if job.result_id:
            about["hierarchy_id"] = job.result_id
    return JobData(
        id=job.id,
        type="pim-job",
        attributes=JobAttributes.model_validate(job, from_attributes=True),
        meta=JobMeta(x_request_id=job.request_id, **about),
    )


def _error_data(error: tables.JobError) -> JobErrorData:
    said = JobErrorAttributes(message=error.message)
    return JobErrorData(id=error.id, type="pim-job-error", attributes=said)


def _job(session: Session, store: str, id: str) -> tables.Job:
    job = jobs.by_id(session, store, known_uuid("job", id))
    if job is None:
        raise NotFound("job", id)
    return job


IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 printable ASCII characters of your choice. The same key with the "
        "same request gives the same job for 24 hours; with another one it is refused with 422.",
    ),
]

JobListRequest = Annotated[
    FilteredListRequest,
    filtered(
        {
            "id": ID,
            "type": one_of(JobType),
            "status": one_of(JobStatus),
            "created_at": INSTANT,
            "updated_at": INSTANT,
        },
        {
            "created_at": (OrderBy(col(tables.Job.job_seq)),),
            "updated_at": (OrderBy(col(tables.Job.updated_at)), OrderBy(col(tables.Job.job_seq))),
        },
        jobs.LATEST_FIRST,
    ),
]


@router.post(
    "/hierarchies/{hierarchy_id}/duplicate_job",
    status_code=201,
    summary="Duplicate a hierarchy",
    responses=refusals(400, 403, 404, 415, 422),
)
async def duplicate_hierarchy(
    asking: Duplicates,
    hierarchy_id: IdInPath,
    response: Response,
    body: RequestDocument[DuplicateData] | None = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> ResponseDocument[JobData]:
    """Queues a deep copy and answers at once with a pending job."""
    wanted = body.data.attributes if body else DuplicateAttributes()
    requested = await asking.write(
        service.request_duplication,
        asking.requester,
        Duplication(
            known_uuid("hierarchy", hierarchy_id),
            wanted.name,
            wanted.description,
            wanted.include_products,
        ),
        idempotency_key,
    )
    if requested.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return ResponseDocument(data=job_data(requested.job))


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    dependencies=[Depends(without_filter)],
    responses=refusals(400, 403, 404, 422),
)
async def cancel_job(asking: JobsWrite, job_id: IdInPath) -> ResponseDocument[JobData]:
    """Cancels a job that is still pending. A body is passed over."""
    cancelled = await asking.write(service.cancel, asking.store, known_uuid("job", job_id))
    return ResponseDocument(data=job_data(cancelled))


@router.get(
    "/jobs",
    summary="Get all jobs",
    responses=refusals(400, 403),
)
async def list_jobs(asking: JobsRead, part: JobListRequest) -> ListDocument[JobData]:
    """The store's jobs, the one created last first."""
    found = await asking.scan(jobs.offset_page, asking.store, part.filter, part.order, part.span)
    return part.document(found, job_data)


@router.get(
    "/jobs/{job_id}",
    summary="Get a job",
    responses=refusals(400, 403, 404),
)
async def get_job(asking: JobsRead, job_id: IdInPath) -> ResponseDocument[JobData]:
    """One job."""
    return ResponseDocument(data=job_data(await asking.read(_job, asking.store, job_id)))


@router.get(
    "/jobs/{job_id}/errors",
    summary="Get job errors",
    responses=refusals(400, 403, 404),
)
async def list_job_errors(
    asking: JobsRead, job_id: IdInPath, part: Paged
) -> ListDocument[JobErrorData]:
    """Why a job failed, the first reason first."""
    found = await asking.scan(
        lambda session: job_errors.offset_page(
            session, _job(session, asking.store, job_id), part.span
        )
    )
    return part.document(found, _error_data)
