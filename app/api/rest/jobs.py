"""Endpoints of jobs. Source: reference/cancel-a-job.txt and reference/duplicate-a-hierarchy.txt."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Response
from pydantic import Field

from app.api.rest.context import DuplicationsWrite, JobsRead, JobsWrite, RestRoute
from app.api.rest.errors import error_responses
from app.api.rest.filters import ID, INSTANT, enum_kind
from app.api.rest.models import (
    NOT_BLANK,
    IdInPath,
    RequestDocument,
    RequestModel,
    ResponseDocument,
    ResponseModel,
    StrictRequestModel,
    Timestamp,
    optional_field,
)
from app.api.rest.pagination import (
    FilteredListRequest,
    ListDocument,
    PagedListRequest,
    filtered_list,
    refuse_filter,
)
from app.domain.attributes import NAME_LIMIT
from app.domain.errors import NotFound
from app.domain.ids import require_uuid
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import JobStatus, JobType
from app.services import jobs as service
from app.services.job_documents import job_document
from app.storage import job_errors, jobs, tables
from app.storage.engine.transaction import Transaction

router = APIRouter(route_class=RestRoute, tags=["Jobs"])


class JobAttributes(ResponseModel):
    started_at: Timestamp | None = Field(
        description="Time of the first start; stays null if the job is cancelled."
    )
    completed_at: Timestamp | None = Field(
        description="Time of success or failure; stays null if the job is cancelled."
    )
    created_at: Timestamp
    updated_at: Timestamp
    type: JobType = Field(description="Type of the job.")
    status: JobStatus = Field(description="Current status.")


class JobMeta(ResponseModel):
    x_request_id: str = Field(description="ID of the request that created the job.")
    copied_from: UUID = optional_field(
        description="Source of a hierarchy-duplicate; absent until the job has started."
    )
    hierarchy_id: UUID = optional_field(
        description="Copy of a hierarchy-duplicate; absent until it is complete."
    )
    file_locations: list[str] = optional_field(description="Files of a product-export.")
    filter: str = optional_field(description="Filter of the objects that the job includes.")


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
    """Attributes of the copy. Omitted or null ones stay as in the source."""

    name: str | None = Field(
        default=None,
        max_length=NAME_LIMIT,
        description="Not blank.",
        json_schema_extra={**NOT_BLANK},
    )
    description: str | None = Field(default=None, description="An empty text clears it.")
    include_products: bool | None = Field(
        default=None,
        description="True to copy product associations and their curation. Default: false.",
    )


class DuplicateData(RequestModel):
    type: Literal["hierarchy"]
    attributes: DuplicateAttributes | None = None


def job_data(job: tables.JobRow) -> JobData:
    """Convert a job to its resource object."""
    return JobData.model_validate(job_document(job))


def _error_data(error: tables.JobErrorRow) -> JobErrorData:
    attributes = JobErrorAttributes(message=error.message)
    return JobErrorData(id=error.id, type="pim-job-error", attributes=attributes)


def _load_job(tx: Transaction, store: str, id: str) -> tables.JobRow:
    job = jobs.by_id(tx, store, require_uuid("job", id))
    if job is None:
        raise NotFound("job", id)
    return job


IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 printable ASCII characters, chosen by the client. For 24 hours, the "
        "same key with the same request returns the same job; with another request it is refused "
        "with 422.",
    ),
]

JobListRequest = Annotated[
    FilteredListRequest,
    filtered_list(
        {
            "id": ID,
            "type": enum_kind(JobType),
            "status": enum_kind(JobStatus),
            "created_at": INSTANT,
            "updated_at": INSTANT,
        },
        ("created_at", "updated_at"),
    ),
]


@router.post(
    "/hierarchies/{hierarchy_id}/duplicate_job",
    status_code=201,
    summary="Duplicate a hierarchy",
    responses=error_responses(400, 403, 404, 415, 422),
)
async def duplicate_hierarchy(
    context: DuplicationsWrite,
    hierarchy_id: IdInPath,
    response: Response,
    body: RequestDocument[DuplicateData] | None = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> ResponseDocument[JobData]:
    """Queue a deep copy and return its pending job at once."""
    attributes = (body and body.data.attributes) or DuplicateAttributes()
    requested = await context.write(
        service.request,
        context.requester,
        Duplication(
            require_uuid("hierarchy", hierarchy_id),
            attributes.name,
            attributes.description,
            bool(attributes.include_products),
        ),
        idempotency_key,
    )
    if requested.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return ResponseDocument(data=job_data(requested.job))


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Cancel a job",
    dependencies=[Depends(refuse_filter)],
    responses=error_responses(400, 403, 404, 422),
)
async def cancel_job(context: JobsWrite, job_id: IdInPath) -> ResponseDocument[JobData]:
    """Cancel a pending job. A body is ignored."""
    cancelled = await context.write(service.cancel, context.store, require_uuid("job", job_id))
    return ResponseDocument(data=job_data(cancelled))


@router.get(
    "/jobs",
    summary="Get all jobs",
    responses=error_responses(400, 403),
)
async def list_jobs(context: JobsRead, list_request: JobListRequest) -> ListDocument[JobData]:
    """List the jobs of the store, by default newest first."""
    page = await context.scan(
        jobs.offset_page,
        context.store,
        list_request.filter,
        list_request.sort,
        list_request.window,
    )
    return list_request.document([job_data(job) for job in page.rows], page.total)


@router.get(
    "/jobs/{job_id}",
    summary="Get a job",
    responses=error_responses(400, 403, 404),
)
async def get_job(context: JobsRead, job_id: IdInPath) -> ResponseDocument[JobData]:
    """Get one job."""
    return ResponseDocument(data=job_data(await context.read(_load_job, context.store, job_id)))


@router.get(
    "/jobs/{job_id}/errors",
    summary="Get job errors",
    responses=error_responses(400, 403, 404),
)
async def list_job_errors(
    context: JobsRead, job_id: IdInPath, list_request: PagedListRequest
) -> ListDocument[JobErrorData]:
    """List the reasons why a job failed, oldest first."""
    page = await context.scan(
        lambda tx: job_errors.offset_page(
            tx, _load_job(tx, context.store, job_id), list_request.window
        )
    )
    return list_request.document([_error_data(error) for error in page.rows], page.total)
