"""A job type is its arguments and its handler: one is added at run time, app unchanged."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

from app.domain.callers import Scope
from app.domain.errors import InvalidInput, NotFound
from app.domain.job_types import Catalogue, JobArgs, JobResult, base, register
from app.domain.jobs import IdempotencyConflict, JobType
from app.domain.webhooks import checked_network, signing_keys
from app.main import Gateway
from app.queue import Dispatcher
from app.queue.attempt import Attempt
from app.queue.handler import Dependencies
from app.services import attempts, jobs, webhooks
from app.services.attempts import Completion, Step
from app.services.jobs import Requester, digest_of
from app.storage import jobs as stored
from app.storage.engine.transaction import Transaction
from app.storage.tables import Job, JobRow
from app.webhooks import Dispatcher as WebhookDispatcher
from app.webhooks import Sender
from tests import factories
from tests.support import tokens
from tests.support.clients import GraphQLClient
from tests.support.subscriber import JOB_UPDATES, subscriber
from tests.support.webhook_receiver import SECRET, Receiver, receiving

REQUESTER = Requester(factories.STORE, request_id="a request", subject="ann")


@dataclass(frozen=True, slots=True)
class ExportResult(JobResult):
    """The files of an export."""

    file_locations: list[str]

    def meta(self) -> Mapping[str, object]:
        return {"file_locations": self.file_locations}


@dataclass(frozen=True, slots=True)
class Export(JobArgs):
    """The products to export."""

    job_type: ClassVar[JobType] = JobType.PRODUCT_EXPORT
    result: ClassVar[type[JobResult]] = ExportResult
    scopes: ClassVar[frozenset[Scope]] = frozenset({Scope.HIERARCHIES_READ})

    filter: str
    parts: int = 2
    below: UUID | None = None

    def check(self) -> None:
        if not self.filter:
            raise InvalidInput("A filter is not empty.", ("filter",))

    @property
    def subject_id(self) -> UUID | None:
        return self.below

    def items(self, catalogue: Catalogue) -> int:
        return self.parts if self.below is None else catalogue.hierarchy(self.below).node_count

    def meta(self) -> Mapping[str, object]:
        return {"filter": self.filter}


class Exporter:
    """Exports one file per step; a filter `lost` fails after the first."""

    type = JobType.PRODUCT_EXPORT

    def __init__(self, dependencies: Dependencies) -> None:
        self.database = dependencies.database
        self.abandoned: list[UUID] = []

    async def run(self, attempt: Attempt) -> None:
        export = stored.args_of(attempt.job, Export)
        while (done := (attempt.job.checkpoint or {"parts": 0})["parts"]) < export.parts:
            await attempt.step(self._write_part, done + 1, export)
            if export.filter == "lost":
                raise NotFound("filter", export.filter)
        files = [f"/files/{number}.csv" for number in range(export.parts)]
        await attempt.succeed(lambda tx, job: Completion(export.parts, ExportResult(files)))

    def _write_part(self, tx: Transaction, job: JobRow, number: int, export: Export) -> Step:
        return Step({"parts": number}, number, export.parts)

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        self.abandoned.append(job.id)


@pytest.fixture
def declared() -> Iterator[None]:
    """Declare the type for one test."""
    register(Export)
    yield
    del base._ARGS[JobType.PRODUCT_EXPORT]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A running receiver of webhooks."""
    async with receiving() as started:
        yield started


@asynccontextmanager
async def running(dispatcher: Dispatcher | WebhookDispatcher) -> AsyncIterator[None]:
    """Run a dispatcher until the block ends."""
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        await task


async def document(gateway: Gateway, id: UUID | str) -> dict[str, object]:
    """The REST document of a job."""
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        response = await http.get(f"/pcm/jobs/{id}")
    assert response.status_code == 200, response.text
    data: dict[str, object] = response.json()["data"]
    return data


async def test_a_type_added_at_run_time_runs_everywhere_a_job_appears(
    declared: None, idle_gateway: Gateway, idle_client: GraphQLClient, receiver: Receiver
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}, "b": {}, "c": {}})
    await database.write(webhooks.register, [receiver.url])

    # Requested once per key; refused by its own rules.
    requested = await database.write(jobs.request, REQUESTER, Export("all", below=source), "key")
    again = await database.write(jobs.request, REQUESTER, Export("all", below=source), "key")
    assert (again.job.id, again.replayed) == (requested.job.id, True)
    assert requested.job.items == 3
    with pytest.raises(IdempotencyConflict):
        await database.write(jobs.request, REQUESTER, Export("some", below=source), "key")
    with pytest.raises(NotFound):
        await database.write(jobs.request, REQUESTER, Export("all", below=UUID(int=1)))
    failing = (await database.write(jobs.request, REQUESTER, Export("lost"))).job
    cancelled = (await database.write(jobs.request, REQUESTER, Export("never"))).job

    # Cancelled, and found by the hierarchy it reads.
    payload = await idle_client.data(
        "mutation($id: ID!) { cancelJob(input: {jobId: $id}) { "
        "job { status type duplication { name } } errors { ... on UserError { message } } } }",
        id=str(cancelled.id),
    )
    assert payload["cancelJob"] == {
        "job": {"status": "CANCELLED", "type": "PRODUCT_EXPORT", "duplication": None},
        "errors": [],
    }
    listed = await idle_client.data(
        "query($id: ID!) { jobs(filter: {hierarchyId: $id}) { nodes { id } } }", id=str(source)
    )
    assert listed["jobs"]["nodes"] == [{"id": str(requested.job.id)}]

    # Run, watched by a subscriber, delivered to a webhook.
    exporter = Exporter(Dependencies(database))
    deliveries = WebhookDispatcher(
        database, [receiver.url], signing_keys(SECRET), Sender([checked_network("127.0.0.0/8")])
    )
    async with subscriber(idle_gateway.url) as socket:
        updates = await socket.subscribe(JOB_UPDATES, id=str(requested.job.id))
        assert (await anext(updates))["type"] == "SNAPSHOT"
        async with (
            running(Dispatcher(database, {JobType.PRODUCT_EXPORT: exporter}, poll=0.02)),
            running(deliveries),
        ):
            received = [await receiver.next() for _ in range(3)]
            events = await updates.rest()
    messages = {request.job: request.message for request in received}
    assert [event["type"] for event in events if event["type"] != "PROGRESS"] == [
        "STARTED",
        "SUCCEEDED",
    ]
    assert events[-1]["job"]["progress"] == {"completed": 2, "total": 2}

    meta = {
        "x_request_id": "a request",
        "filter": "all",
        "file_locations": ["/files/0.csv", "/files/1.csv"],
    }
    done = await document(idle_gateway, requested.job.id)
    assert (done["type"], done["meta"]) == ("pim-job", meta)
    assert messages[str(requested.job.id)]["data"]["job"] == done
    assert messages[str(failing.id)]["data"]["errors"] == [
        {"code": "NOT_FOUND", "message": "No filter has the id lost."}
    ]
    assert (await document(idle_gateway, cancelled.id))["meta"] == {"x_request_id": "a request"}
    assert exporter.abandoned == [failing.id]

    # Retried with the same arguments.
    retried = await idle_client.data(
        "mutation($id: ID!) { retryJob(input: {jobId: $id}) { job { id retryOf { id } } "
        "errors { ... on UserError { message } } } }",
        id=str(failing.id),
    )
    assert retried["retryJob"]["errors"] == []
    retry = retried["retryJob"]["job"]
    assert retry["retryOf"] == {"id": str(failing.id)}
    rows = await database.read(stored.by_ids, factories.STORE, [UUID(retry["id"])])
    assert stored.args_of(rows[UUID(retry["id"])], Export) == Export("lost")


async def test_a_retry_needs_the_scopes_of_the_type(
    declared: None, guarded_gateway: Gateway
) -> None:
    database = guarded_gateway.database
    job = (await database.write(jobs.request, REQUESTER, Export("lost"))).job
    claimed = await factories.claimed_job(database)
    await database.write(fail, claimed)
    mutation = "mutation($id: ID!) { retryJob(input: {jobId: $id}) { errors { __typename } } }"
    for scopes, errors in (
        ([Scope.JOBS_WRITE], ["Forbidden"]),
        ([Scope.JOBS_WRITE, Scope.HIERARCHIES_READ], []),
    ):
        async with tokens.caller(guarded_gateway, *scopes, store=factories.STORE) as client:
            payload = await client.data(mutation, id=str(job.id))
            assert [error["__typename"] for error in payload["retryJob"]["errors"]] == errors


async def test_a_retry_of_an_unknown_type_needs_the_scope_of_jobs(guarded_gateway: Gateway) -> None:
    database = guarded_gateway.database
    job = await factories.pending_job(database, JobType.PRICE_IMPORT)
    await database.write(fail, await factories.claimed_job(database))
    mutation = (
        "mutation($id: ID!) { retryJob(input: {jobId: $id}) { errors { __typename } replayed } }"
    )
    reader = [Scope.JOBS_READ, Scope.HIERARCHIES_WRITE]
    for scopes, errors in ((reader, ["Forbidden"]), ([Scope.JOBS_WRITE], [])):
        async with tokens.caller(guarded_gateway, *scopes, store=factories.STORE) as client:
            payload = await client.data(mutation, id=str(job.id))
            assert [error["__typename"] for error in payload["retryJob"]["errors"]] == errors


async def test_arguments_that_a_stricter_rule_refuses_are_still_shown(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {})
    job = await factories.pending_duplication(database, source, name="n")
    long = {"source_id": str(source), "name": "n" * 2_000}
    await database.write(lambda tx: tx.changed(sa.update(Job).values(args=long)))
    await factories.claimed_job(database)
    assert (await document(idle_gateway, job.id))["meta"] == {
        "x_request_id": "given",
        "copied_from": str(source),
    }
    shown = await idle_client.data(
        "query($id: ID!) { job(id: $id) { duplication { name includeProducts } } }", id=str(job.id)
    )
    assert shown["job"]["duplication"] == {"name": "n" * 2_000, "includeProducts": False}


def fail(tx: Transaction, claimed: JobRow) -> None:
    """End a claimed job with failure."""
    attempts.fail(tx, claimed, "BROKEN", "Broken.", lambda: None)


async def test_jobs_of_a_withdrawn_type_are_still_shown_and_retried(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    register(Export)
    job = (await database.write(jobs.request, REQUESTER, Export("all"))).job
    del base._ARGS[JobType.PRODUCT_EXPORT]
    await database.write(fail, await factories.claimed_job(database))
    shown = await document(idle_gateway, job.id)
    assert shown["meta"] == {"x_request_id": "a request"}
    retried = await idle_client.data(
        "mutation($id: ID!) { retryJob(input: {jobId: $id}) { job { type } "
        "errors { ... on UserError { message } } } }",
        id=str(job.id),
    )
    assert retried["retryJob"] == {"job": {"type": "PRODUCT_EXPORT"}, "errors": []}


def test_a_new_field_with_a_default_keeps_the_digests_of_earlier_inputs() -> None:
    @dataclass(frozen=True, slots=True)
    class Before(JobArgs):
        job_type: ClassVar[JobType] = JobType.PRODUCT_EXPORT
        filter: str
        parts: int = 2

    @dataclass(frozen=True, slots=True)
    class After(Export):
        columns: list[str] = field(default_factory=list)

    assert digest_of(Before("all")) == digest_of(Export("all")) == digest_of(After("all"))
    assert digest_of(After("all", columns=["sku"])) != digest_of(After("all"))
    assert digest_of(Before("all", 2)) == digest_of(Export("all"))
    assert digest_of(Before("all", 3)) == digest_of(Export("all", 3)) != digest_of(Export("all"))


def test_two_declarations_of_one_type_are_refused() -> None:
    with pytest.raises(TypeError, match="hierarchy-duplicate"):

        @register
        @dataclass(frozen=True, slots=True)
        class Another(JobArgs):
            job_type: ClassVar[JobType] = JobType.HIERARCHY_DUPLICATE
