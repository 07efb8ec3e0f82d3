"""The examples of the two reference documents equal live answers, for every listed status."""

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.jobs import JobStatus, JobType
from app.main import Gateway
from app.services import jobs
from app.services.jobs import Requester
from app.storage import lanes
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from tests import factories
from tests.support.reference_documents import CANCEL, DUPLICATE, ReferenceDocument, load
from tests.support.rest_client import (
    INSTANT_FORMAT,
    UNKNOWN,
    UUID_FORMAT,
    RestClient,
    errors_of,
    node,
    references,
    rest_of,
)
from tests.support.unexpected_errors import check_no_secrets, lose

NAMELESS = re.compile(r"\w+ can not be empty")
"""Matches the messages that `<XYZ> can not be empty` stands for."""

NEVER_YET = {"file_locations", "filter"}
"""Keys of job types that no handler runs yet."""


@pytest.fixture(scope="module")
def references_by_name() -> dict[str, ReferenceDocument]:
    """Both documents."""
    return {name: load(name) for name in (CANCEL, DUPLICATE)}


@pytest.fixture
def cancel(references_by_name: dict[str, ReferenceDocument]) -> ReferenceDocument:
    """The document about the cancellation of a job."""
    return references_by_name[CANCEL]


@pytest.fixture
def duplicate(references_by_name: dict[str, ReferenceDocument]) -> ReferenceDocument:
    """The document about the duplication of a hierarchy."""
    return references_by_name[DUPLICATE]


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway that runs no queue."""
    async with rest_of(idle_gateway) as client:
        yield client


def check_equal(example: Any, live: Any) -> None:
    """Check for equal keys, types and values at every level; of ids and instants only the format
    is compared."""
    match example:
        case dict():
            assert live.keys() == example.keys()
            for key, value in example.items():
                check_equal(value, live[key])
        case list():
            assert len(live) == len(example)
            for example_item, live_item in zip(example, live, strict=True):
                check_equal(example_item, live_item)
        case str() if UUID_FORMAT.fullmatch(example):
            assert UUID_FORMAT.fullmatch(live)
        case str() if INSTANT_FORMAT.fullmatch(example):
            assert INSTANT_FORMAT.fullmatch(live)
        case str() if "<XYZ>" in example:
            assert NAMELESS.fullmatch(live)
        case _:
            assert live == example


def check_possible(possible: Any, live: Any, seen: set[str]) -> None:
    """Check that every key of an answer is in the document, with a value of the same type.

    Times may be null. The keys are added to `seen`.
    """
    match possible:
        case dict():
            assert live.keys() <= possible.keys()
            seen.update(live)
            for key, value in live.items():
                if value is None:
                    assert key in ("started_at", "completed_at")
                else:
                    check_possible(possible[key], value, seen)
        case list():
            assert isinstance(live, list)
            for item in live:
                check_possible(possible[0], item, seen)
        case _:
            assert type(live) is type(possible)


async def imported(database: Database) -> UUID:
    """Enqueue an import in a request whose id is a UUID, as in the document. Return its id."""

    def queued(tx: Transaction) -> UUID:
        lane = lanes.lock(tx, factories.STORE)
        requester = Requester(factories.STORE, str(uuid4()))
        return jobs.enqueue(tx, lane, requester, JobType.PRODUCT_IMPORT, items=0).id

    return await database.write(queued)


async def refusal(
    client: RestClient, reference: ReferenceDocument, status: int, *request: Any
) -> Any:
    """Send a request whose refusal equals the document's example. Return the response."""
    response = await client.send(*request)
    errors_of(response, status)
    check_equal(reference.by_status[status].example, response.json())
    check_possible(reference.by_status[status].possible, response.json(), set())
    return response


def test_each_document_shows_two_payloads_per_listed_status(
    references_by_name: dict[str, ReferenceDocument],
) -> None:
    statuses = {name: [*document.by_status] for name, document in references_by_name.items()}
    assert statuses == {CANCEL: [200, 400, 404, 422, 500], DUPLICATE: [201, 404, 422, 500]}


def test_types_and_statuses_are_those_of_the_documents(
    references_by_name: dict[str, ReferenceDocument],
) -> None:
    for reference in references_by_name.values():
        assert reference.values_with("hierarchy-duplicate") == set(JobType)
        assert reference.values_with("cancelled") == set(JobStatus)
        assert reference.values_with("pim-job") == {"pim-job"}


async def test_200_a_cancelled_job(cancel: ReferenceDocument, rest: RestClient) -> None:
    id = await imported(rest.database)
    shown = cancel.by_status[200]
    answer = await rest.ask("POST", f"/jobs/{id}/cancel")
    check_equal(shown.example, answer)
    check_possible(shown.possible, answer, set())
    # Later reads return the same document.
    assert await rest.ask("GET", f"/jobs/{id}") == answer


async def test_201_a_duplication_that_is_queued(
    duplicate: ReferenceDocument, rest: RestClient
) -> None:
    source = await factories.hierarchy(rest.database, {"a": {}})
    shown = duplicate.by_status[201]
    path = f"/hierarchies/{source}/duplicate_job"
    full = {"type": "hierarchy", "attributes": {"name": "b", "description": "c"}}
    for data in (full, {"type": "hierarchy"}, None):
        response = await rest.send("POST", path, data)
        assert response.status_code == 201
        check_equal(shown.example, response.json())
        check_possible(shown.possible, response.json(), set())
        assert response.json()["data"]["meta"]["x_request_id"] == response.headers["x-request-id"]


async def test_400_an_unreadable_filter(cancel: ReferenceDocument, rest: RestClient) -> None:
    id = await imported(rest.database)
    for request in (("GET", "/jobs?filter=garbage"), ("POST", f"/jobs/{id}/cancel?filter=garbage")):
        await refusal(rest, cancel, 400, *request)
    job = await rest.get(f"/jobs/{id}")
    assert job["attributes"]["status"] == "pending"


async def test_404_an_unknown_job_or_hierarchy(
    cancel: ReferenceDocument, duplicate: ReferenceDocument, rest: RestClient
) -> None:
    for id in (UNKNOWN, "no-uuid"):
        await refusal(rest, cancel, 404, "POST", f"/jobs/{id}/cancel")
        await refusal(rest, duplicate, 404, "POST", f"/hierarchies/{id}/duplicate_job")


async def test_422_an_empty_name_or_body(
    cancel: ReferenceDocument, duplicate: ReferenceDocument, rest: RestClient
) -> None:
    source = await factories.hierarchy(rest.database, {})
    path = f"/hierarchies/{source}/duplicate_job"
    for name in ("", " ", "\u200b"):
        blank = {"type": "hierarchy", "attributes": {"name": name}}
        for reference in (cancel, duplicate):
            await refusal(rest, reference, 422, "POST", path, blank)
    nothing: tuple[Any, ...] = ({}, {"type": ""}, {"attributes": {}})
    for data in nothing:
        await refusal(rest, duplicate, 422, "POST", path, data)


async def test_422_a_job_that_is_no_longer_pending(
    cancel: ReferenceDocument, rest: RestClient
) -> None:
    id = await imported(rest.database)
    await rest.ask("POST", f"/jobs/{id}/cancel")
    response = await rest.send("POST", f"/jobs/{id}/cancel")
    (error,) = errors_of(response, 422)
    (example,) = cancel.by_status[422].example["errors"]
    assert error.keys() == example.keys()
    assert {**error, "detail": None} == {**example, "detail": None}


@pytest.mark.parametrize("name", [CANCEL, DUPLICATE])
async def test_500_an_unexpected_error(
    name: str, references_by_name: dict[str, ReferenceDocument], rest: RestClient
) -> None:
    source = await factories.hierarchy(rest.database, {})
    id = await imported(rest.database)
    path = f"/jobs/{id}/cancel" if name == CANCEL else f"/hierarchies/{source}/duplicate_job"
    await lose(rest.database, "job")
    response = await refusal(rest, references_by_name[name], 500, "POST", path)
    (error,) = response.json()["errors"]
    assert error["request_id"] == response.headers["x-request-id"]
    check_no_secrets(response.text)


async def test_missing_ids_are_reported_as_in_the_documents(
    cancel: ReferenceDocument, rest: RestClient
) -> None:
    source = await factories.hierarchy(rest.database, {})
    created = await rest.data("POST", f"/hierarchies/{source}/nodes", node("a"), status=201)
    path = f"/hierarchies/{source}/nodes/{created['id']}/relationships/products"
    response = await rest.send("POST", path, references([UNKNOWN]))
    errors_of(response, 404)
    seen: set[str] = set()
    check_possible(cancel.by_status[404].possible, response.json(), seen)
    assert "missing_ids" in seen


async def test_jobs_of_every_type_and_status_have_only_documented_keys(
    cancel: ReferenceDocument, duplicate: ReferenceDocument, rest: RestClient
) -> None:
    source = await factories.hierarchy(rest.database, {"a": {}}, products={"a": ["b"]})
    done = await factories.pending_duplication(rest.database, source, include_products=True)
    await factories.ran_job(rest.database)
    lost = await factories.hierarchy(rest.database, {})
    await factories.pending_duplication(rest.database, lost)
    await factories.deleted(rest.database, lost)
    await factories.ran_job(rest.database)
    await factories.pending_duplication(rest.database, source)
    await factories.claimed_job(rest.database)
    for type in JobType:
        await factories.pending_job(rest.database, type)
    await rest.ask("POST", f"/jobs/{await imported(rest.database)}/cancel")

    listed = (await rest.list("/jobs"))["data"]
    assert {job["attributes"]["status"] for job in listed} == set(JobStatus)
    assert {job["attributes"]["type"] for job in listed} == set(JobType)
    seen: set[str] = set()
    for job in listed:
        answer = await rest.ask("GET", f"/jobs/{job['id']}")
        assert answer["data"] == job
        for possible in (cancel.by_status[200].possible, duplicate.by_status[201].possible):
            check_possible(possible, answer, seen)
    possible = cancel.by_status[200].possible
    everywhere = {"data", *possible["data"], *possible["data"]["attributes"]}
    assert seen == (everywhere | possible["data"]["meta"].keys()) - NEVER_YET

    job = await rest.get(f"/jobs/{done.id}")
    assert job["meta"]["copied_from"] == str(source)
    copy = await rest.get(f"/hierarchies/{job['meta']['hierarchy_id']}")
    assert copy["attributes"]["name"] == "Garden"


async def test_errors_have_only_documented_keys(
    cancel: ReferenceDocument, rest: RestClient
) -> None:
    possible = cancel.by_status[500].possible
    for request, status in (
        (("GET", "/nowhere"), 404),
        (("PATCH", "/jobs"), 405),
        (("POST", "/hierarchies", {"type": "hierarchy", "attributes": {"x": 1}}), 422),
        (("GET", "/jobs?sort=x"), 400),
    ):
        response = await rest.send(*request)
        errors_of(response, status)
        check_possible(possible, response.json(), set())
