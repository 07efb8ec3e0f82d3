"""The document of a job, for REST and webhooks. Source: reference/cancel-a-job.txt."""

from app.storage import jobs
from app.storage.tables import JobRow

ATTRIBUTES = ("started_at", "completed_at", "created_at", "updated_at", "type", "status")


def job_document(job: JobRow) -> dict[str, object]:
    """Return a job as a resource object. Ids and instants are values, not texts."""
    meta: dict[str, object] = {"x_request_id": job.request_id}
    if job.started_at is not None:
        for part in (jobs.any_args_of(job), jobs.result_of(job)):
            meta |= part.meta() if part else {}
    return {
        "id": job.id,
        "type": "pim-job",
        "attributes": {name: getattr(job, name) for name in ATTRIBUTES},
        "meta": meta,
    }
