"""Clients see the same of jobs before and after revision 0006, from every earlier revision."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
import sqlalchemy as sa

from app.domain.events import JobEventType
from app.domain.hierarchies import HierarchyState, Owner, new_hierarchy_id
from app.domain.instants import format_instant
from app.domain.jobs import JobStatus
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.migrations import upgrade
from tests import factories
from tests.support.clients import client_of
from tests.support.databases import postgresql_is_long
from tests.support.gateway import gateway_of
from tests.support.subscriber import BEGINNING, subscriber

REVISIONS = ["0001", "0002", "0003", "0004", "0005"]
AT = datetime(2026, 11, 22, 8, 30, 0, 123000, UTC)
STATUSES = [*JobStatus, JobStatus.PENDING]
EVENT_TYPES = {
    JobStatus.PENDING: JobEventType.CREATED,
    JobStatus.STARTED: JobEventType.STARTED,
    JobStatus.SUCCESS: JobEventType.SUCCEEDED,
    JobStatus.FAILED: JobEventType.FAILED,
    JobStatus.CANCELLED: JobEventType.CANCELLED,
}
KEY = "a client's key"

FIELDS = """
  id type status createdAt startedAt completedAt requestId requestedBy version
  progress { completed total } errors { nodes { code message } }
  duplication { sourceId source { id } name description includeProducts result { id } }
"""


class OldStore:
    """Rows of a store in the tables of an old revision, and what clients see of them."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._tables = sa.MetaData()
        self._tables.reflect(connection)
        self._is_sqlite = connection.dialect.name == "sqlite"
        self.source = self._add_hierarchy()
        self.jobs: list[dict[str, Any]] = []
        for seq, status in enumerate(STATUSES, 1):
            self._add_job(seq, status)
        self._add_job(len(STATUSES) + 1, JobStatus.PENDING, type="price-import")
        last = self.jobs[5]
        digest = sha256(
            orjson.dumps(
                {
                    "source_id": last["source_id"],
                    "name": last["name"],
                    "description": last["description"],
                    "include_products": last["include_products"],
                }
            )
        ).hexdigest()
        key = {"store": factories.STORE, "key": KEY, "digest": digest, "job_pk": last["pk"]}
        self._insert("idempotency_key", **key, created_at=datetime.now(UTC))
        lane = {"epoch": 1, "job_seq": len(self.jobs), "event_seq": len(self.jobs), "pending": 3}
        paces = {"pending_items": 0, "pace_seconds": 0.0, "pace_items": 0.0}
        lease = {"lease_until": AT, "last_created_at": AT}
        self._insert("lane", store=factories.STORE, **lane, **paces, **lease)

    def _insert(self, table: str, **values: Any) -> None:
        """Insert a row, without the columns that the revision does not have."""
        columns = self._tables.tables[table].columns
        self._connection.execute(
            sa.insert(self._tables.tables[table]),
            {
                name: value.hex if self._is_sqlite and isinstance(value, UUID) else value
                for name, value in values.items()
                if name in columns
            },
        )

    def _add_hierarchy(self) -> UUID:
        id = new_hierarchy_id()
        counts = {"revision": 0, "node_count": 0, "association_count": 0}
        times = {"created_at": AT, "updated_at": AT}
        state = {"owner": Owner.STORE.value, "state": HierarchyState.READY.value}
        names = {"name": "Garden", "locales": {}}
        self._insert("hierarchy", id=id, store=factories.STORE, **state, **names, **counts, **times)
        return id

    def _add_job(self, seq: int, status: JobStatus, type: str = "hierarchy-duplicate") -> None:
        copies = type == "hierarchy-duplicate"
        started = status in (JobStatus.STARTED, JobStatus.SUCCESS, JobStatus.FAILED)
        ended = status in (JobStatus.SUCCESS, JobStatus.FAILED)
        job: dict[str, Any] = {
            "pk": seq,
            "id": uuid4(),
            "store": factories.STORE,
            "job_seq": seq,
            "turn": seq,
            "type": type,
            "status": status.value,
            "version": 3,
            "created_at": AT,
            "started_at": AT + timedelta(seconds=1) if started else None,
            "completed_at": AT + timedelta(seconds=2) if ended else None,
            "updated_at": AT + timedelta(seconds=3),
            "request_id": f"request {seq}",
            "requested_by": "ann",
            "source_id": self.source if copies else None,
            "result_id": self._add_hierarchy() if status is JobStatus.SUCCESS else None,
            "name": f'Copy\'s "name" {seq} é' if copies and seq % 2 else None,
            "description": "" if copies and seq == 3 else None,
            "include_products": bool(copies and seq % 2),
            "items": 7,
            "completed_items": 4 if started else 0,
            "total_items": 7 if started else None,
            "epoch": 1 if started else 0,
            "attempts": 0,
            "checkpoint": None,
        }
        self.jobs.append(job)
        # Without its number, so that the database counts: new jobs follow.
        self._insert("job", **{name: value for name, value in job.items() if name != "pk"})
        if status is JobStatus.FAILED:
            error = {"job_version": 3, "code": "NOT_FOUND", "message": "Gone.", "created_at": AT}
            self._insert("job_error", id=uuid4(), job_pk=seq, **error)
        snapshot = {key: value for key, value in job.items() if key != "checkpoint"}
        if "turn" not in self._tables.tables["job"].columns:
            del snapshot["turn"]
        event = {"type": EVENT_TYPES[status].value, "at": job["updated_at"]}
        self._insert(
            "job_event",
            store=factories.STORE,
            seq=seq,
            job_pk=seq,
            previous_status=None,
            snapshot=orjson.loads(orjson.dumps(snapshot)),
            **event,
        )

    def graphql(self) -> list[dict[str, Any]]:
        """The jobs of the store in order of creation, as GraphQL showed them."""
        return [self._graphql(job) for job in self.jobs]

    def _graphql(self, job: dict[str, Any]) -> dict[str, Any]:
        duplication = None
        if job["source_id"]:
            duplication = {
                "sourceId": str(job["source_id"]),
                "source": {"id": str(job["source_id"])},
                "name": job["name"],
                "description": job["description"],
                "includeProducts": job["include_products"],
                "result": job["result_id"] and {"id": str(job["result_id"])},
            }
        started = job["started_at"]
        errors = [{"code": "NOT_FOUND", "message": "Gone."}] if job["status"] == "failed" else []
        return {
            "id": str(job["id"]),
            "type": job["type"].upper().replace("-", "_"),
            "status": job["status"].upper(),
            "createdAt": format_instant(job["created_at"]),
            "startedAt": started and format_instant(started),
            "completedAt": job["completed_at"] and format_instant(job["completed_at"]),
            "requestId": job["request_id"],
            "requestedBy": "ann",
            "version": 3,
            "progress": started and {"completed": 4, "total": 7},
            "errors": {"nodes": errors},
            "duplication": duplication,
        }

    def rest(self, job: dict[str, Any]) -> dict[str, Any]:
        """A job as REST showed it."""
        meta = {"x_request_id": job["request_id"]}
        if job["started_at"]:
            meta["copied_from"] = str(job["source_id"])
        if job["result_id"]:
            meta["hierarchy_id"] = str(job["result_id"])
        names = ("started_at", "completed_at", "created_at", "updated_at")
        instants = {name: job[name] and format_instant(job[name]) for name in names}
        attributes = {**instants, "type": job["type"], "status": job["status"]}
        return {"id": str(job["id"]), "type": "pim-job", "attributes": attributes, "meta": meta}


@postgresql_is_long
@pytest.mark.parametrize("revision", REVISIONS)
async def test_clients_see_the_same_jobs_after_the_upgrade(empty: Database, revision: str) -> None:
    upgrade(empty, revision)
    with empty.write_engine.begin() as connection:
        old = OldStore(connection)
    upgrade(empty)
    url = empty.url.render_as_string(hide_password=False)

    async with gateway_of(Settings(database_url=url, port=0, runner=False)) as gateway:
        async with client_of(gateway) as client:
            listed = await client.data(
                f"{{ jobs(orderBy: CREATED_AT_ASC) {{ nodes {{ {FIELDS} }} }} }}"
            )
            about = await client.data(
                "query($id: ID!) { jobs(filter: {hierarchyId: $id}) { totalCount } }",
                id=str(old.jobs[2]["result_id"]),
            )
            again = await client.data(
                """
                mutation($input: DuplicateHierarchyInput!) {
                  duplicateHierarchy(input: $input) { replayed job { id } }
                }
                """,
                input={"hierarchyId": str(old.source), "idempotencyKey": KEY},
            )
            retried = await client.data(
                "mutation($id: ID!) { retryJob(input: {jobId: $id}) { job { id "
                "duplication { sourceId name description includeProducts } } } }",
                id=str(old.jobs[3]["id"]),
            )
        async with httpx.AsyncClient(base_url=gateway.url) as http:
            documents = [
                (await http.get(f"/pcm/jobs/{job['id']}")).json()["data"] for job in old.jobs
            ]
        async with subscriber(gateway.url) as socket:
            updates = await socket.subscribe(
                "subscription($after: String) { jobEvents(after: $after) { job {"
                f"{FIELDS} }} }} }}",
                after=BEGINNING,
            )
            replayed = [(await anext(updates))["job"] for _ in old.jobs]
            assert (await anext(updates))["job"]["id"] == retried["retryJob"]["job"]["id"]

    assert listed["jobs"]["nodes"] == old.graphql()
    assert replayed == old.graphql()
    assert documents == [old.rest(job) for job in old.jobs]
    assert about["jobs"]["totalCount"] == 1
    assert again["duplicateHierarchy"] == {"replayed": True, "job": {"id": str(old.jobs[5]["id"])}}
    shown = old.graphql()[3]["duplication"]
    assert retried["retryJob"]["job"]["duplication"] == {
        name: shown[name] for name in ("sourceId", "name", "description", "includeProducts")
    }
