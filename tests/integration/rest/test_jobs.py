"""Jobs over REST: request, status, cancellation, errors; the same over GraphQL."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.domain.jobs import JobStatus, JobType
from app.main import Gateway
from app.storage.engine.database import Database
from tests import factories
from tests.support.clients import GraphQLClient
from tests.support.rest_client import (
    INSTANT_FORMAT,
    UNKNOWN,
    UUID_FORMAT,
    RestClient,
    errors_of,
    ids_of,
    rest_of,
)
from tests.support.subscriber import JOB_UPDATES, subscriber

JOB = """
    query ($id: ID!) {
        job(id: $id) {
            id type status requestId createdAt startedAt completedAt updatedAt
            errors { nodes { id message } }
            duplication { source { id } result { id name description } name }
        }
    }
"""
KEY = "Idempotency-Key"


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway without a queue runner."""
    async with rest_of(idle_gateway) as client:
        yield client


def duplication_data(**attributes: Any) -> dict[str, Any]:
    """The data of a request for a duplication."""
    return {"type": "hierarchy", "attributes": attributes}


async def source_of(database: Database) -> str:
    """Create a hierarchy with two nodes and a product; return its path."""
    tree: factories.Tree = {"Trees": {"Oaks": {}}}
    id = await factories.hierarchy(
        database, tree, slug="garden", description="Old", products={"Oaks": ["a"]}
    )
    return f"/hierarchies/{id}"


async def test_a_requested_duplication_is_pending(rest: RestClient) -> None:
    path = await source_of(rest.database)
    response = await rest.send("POST", f"{path}/duplicate_job", duplication_data(name="Copy"))
    assert response.status_code == 201
    job = response.json()["data"]
    created = job["attributes"]["created_at"]
    assert UUID_FORMAT.fullmatch(job["id"])
    assert INSTANT_FORMAT.fullmatch(created)
    assert job == {
        "id": job["id"],
        "type": "pim-job",
        "attributes": {
            "started_at": None,
            "completed_at": None,
            "created_at": created,
            "updated_at": created,
            "type": "hierarchy-duplicate",
            "status": "pending",
        },
        "meta": {"x_request_id": response.headers["x-request-id"]},
    }
    assert await rest.get(f"/jobs/{job['id']}") == job
    assert (await rest.list("/jobs"))["data"] == [job]
    assert (await rest.list(f"/jobs/{job['id']}/errors"))["data"] == []


@pytest.mark.parametrize(
    ("attributes", "name", "description"),
    [
        (None, "Garden", "Old"),
        ({}, "Garden", "Old"),
        ({"name": None, "description": None, "include_products": None}, "Garden", "Old"),
        ({"name": "Copy"}, "Copy", "Old"),
        ({"description": "New"}, "Garden", "New"),
        ({"description": ""}, "Garden", None),
        ({"name": "n" * 1000, "description": "d" * 5000}, "n" * 1000, "d" * 5000),
    ],
    ids=["nothing", "no attributes", "nulls", "a name", "a description", "empty", "long"],
)
async def test_omitted_attributes_are_copied_from_the_source(
    attributes: Any, name: str, description: str | None, rest: RestClient
) -> None:
    path = await source_of(rest.database)
    data = None if attributes is None else duplication_data(**attributes)
    id = (await rest.data("POST", f"{path}/duplicate_job", data, status=201))["id"]
    await factories.ran_job(rest.database)
    job = await rest.get(f"/jobs/{id}")
    copy = await rest.get(f"/hierarchies/{job['meta']['hierarchy_id']}")
    described = {} if description is None else {"description": description}
    assert copy["attributes"] == {"name": name, "slug": "garden", "locales": {}, **described}


@pytest.mark.parametrize("included", [None, False, True])
async def test_products_are_copied_only_on_request(included: bool | None, rest: RestClient) -> None:
    path = await source_of(rest.database)
    attributes = {} if included is None else {"include_products": included}
    id = (
        await rest.data("POST", f"{path}/duplicate_job", duplication_data(**attributes), status=201)
    )["id"]
    await factories.ran_job(rest.database)
    copy_id = (await rest.get(f"/jobs/{id}"))["meta"]["hierarchy_id"]
    nodes = (await rest.list(f"/hierarchies/{copy_id}/nodes"))["data"]
    assert [node["attributes"]["name"] for node in nodes] == ["Trees", "Oaks"]
    link = nodes[1]["relationships"]["products"]["links"]["related"]
    assert len((await rest.list(link))["data"]) == bool(included)


async def test_a_finished_duplication_shows_its_times_and_result(
    gateway: Gateway, client: GraphQLClient
) -> None:
    async with rest_of(gateway) as rest:
        path = await source_of(rest.database)
        id = (await rest.data("POST", f"{path}/duplicate_job", status=201))["id"]
        async with subscriber(gateway.url) as connected:
            await connected.send(
                id="1", type="subscribe", payload={"query": JOB_UPDATES, "variables": {"id": id}}
            )
            while (await connected.receive())["type"] != "complete":
                pass
        job = await rest.get(f"/jobs/{id}")
        attributes = job["attributes"]
        assert attributes["status"] == "success"
        times = [attributes[f"{what}_at"] for what in ("created", "started", "completed")]
        assert times == sorted(times)
        assert all(map(INSTANT_FORMAT.fullmatch, times))
        assert job["meta"]["copied_from"] == path.rsplit("/", 1)[1]
        assert ids_of(await rest.list("/hierarchies"))[0] == job["meta"]["hierarchy_id"]


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (duplication_data(name=""), "name can not be empty"),
        (duplication_data(name=" \t\u200b"), "name can not be empty"),
        (duplication_data(name="n" * 1001), "name: "),
        (duplication_data(name="a\0"), "name: "),
        (duplication_data(name=1), "name: "),
        (duplication_data(description="a\0"), "description: "),
        (duplication_data(description=False), "description: "),
        (duplication_data(include_products="true"), "include_products: "),
        (duplication_data(include_products=1), "include_products: "),
        (duplication_data(slug="a"), "slug: "),
        (duplication_data(idempotency_key="a"), "idempotency_key: "),
        ({"type": "node"}, "type: "),
        ({"attributes": {}}, "type can not be empty"),
        ({"type": None}, "type can not be empty"),
        ([], "data: "),
    ],
    ids=str,
)
async def test_an_invalid_duplication_is_refused(data: Any, detail: str, rest: RestClient) -> None:
    path = await source_of(rest.database)
    error = await rest.refused(422, "POST", f"{path}/duplicate_job", data)
    assert error["detail"].startswith(detail), error


async def test_the_same_idempotency_key_returns_the_same_job(rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    answers = [
        await rest.send("POST", path, duplication_data(name="Copy"), headers={KEY: "a key"})
        for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [
        *(None, "true", "true")
    ]
    assert len({answer.text for answer in answers}) == 1
    # An omitted attribute equals its explicit default.
    explicit = duplication_data(name="Copy", description=None, include_products=False)
    again = await rest.send("POST", path, explicit, headers={KEY: "a key"})
    assert again.json() == answers[0].json()
    # A replay shows the job's current state.
    id = again.json()["data"]["id"]
    await rest.ask("POST", f"/jobs/{id}/cancel")
    again = await rest.send("POST", path, explicit, headers={KEY: "a key"})
    assert again.json()["data"]["attributes"]["status"] == "cancelled"
    assert ids_of(await rest.list("/jobs")) == [id]
    other = await rest.data("POST", path, explicit, status=201, headers={KEY: "another key"})
    assert other["id"] != id


async def test_the_same_idempotency_key_with_another_request_is_refused(rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    elsewhere = f"{await source_of(rest.database)}/duplicate_job"
    await rest.ask("POST", path, duplication_data(name="Copy"), status=201, headers={KEY: "a"})
    for where, data in (
        (path, duplication_data(name="copy")),
        (path, None),
        (path, duplication_data(name="Copy", include_products=True)),
        (elsewhere, duplication_data(name="Copy")),
    ):
        error = await rest.refused(422, "POST", where, data, headers={KEY: "a"})
        assert error["detail"].startswith("Idempotency-Key: ")


@pytest.mark.parametrize("key", ["", "a" * 256, "é"])
async def test_an_invalid_idempotency_key_is_refused(key: str, rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    headers = {KEY.encode(): key.encode()}
    response = await rest.send("POST", path, headers=headers)
    (error,) = errors_of(response, 422)
    assert error["detail"].startswith("Idempotency-Key: ")
    assert (await rest.list("/jobs"))["data"] == []


async def test_rest_and_graphql_share_idempotency_keys(
    rest: RestClient, idle_client: GraphQLClient
) -> None:
    path = await source_of(rest.database)
    created_job = await rest.data(
        "POST",
        f"{path}/duplicate_job",
        duplication_data(name="Copy"),
        status=201,
        headers={KEY: "a"},
    )
    query = """
        mutation ($input: DuplicateHierarchyInput!) {
            duplicateHierarchy(input: $input) { job { id } errors { __typename } }
        }
    """
    arguments = {"hierarchyId": path.rsplit("/", 1)[1], "name": "Copy", "idempotencyKey": "a"}
    answer = (await idle_client.data(query, input=arguments))["duplicateHierarchy"]
    assert answer == {"job": {"id": created_job["id"]}, "errors": []}


async def test_a_pending_job_is_cancelled_once(rest: RestClient) -> None:
    path = await source_of(rest.database)
    created_job = await rest.data("POST", f"{path}/duplicate_job", status=201)
    cancelled = await rest.data("POST", f"/jobs/{created_job['id']}/cancel")
    assert cancelled["attributes"].pop("updated_at") >= created_job["attributes"].pop("updated_at")
    assert cancelled.pop("attributes") == {**created_job.pop("attributes"), "status": "cancelled"}
    assert cancelled == created_job
    error = await rest.refused(422, "POST", f"/jobs/{created_job['id']}/cancel")
    assert error["detail"] == "Only a pending job can be cancelled; this one is cancelled."


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"data": {"type": "x", "attributes": {"status": "success"}}}},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b"a=1", "headers": {"content-type": "text/plain"}},
        {"content": b"\xff\x00"},
    ],
    ids=["JSON", "bad JSON", "text", "bytes"],
)
async def test_the_body_of_a_cancellation_is_ignored(body: Any, rest: RestClient) -> None:
    job = await factories.pending_job(rest.database, JobType.PRICE_IMPORT)
    cancelled = await rest.data("POST", f"/jobs/{job.id}/cancel", **body)
    assert cancelled["attributes"]["status"] == "cancelled"


async def test_a_job_that_is_not_pending_is_not_cancelled(rest: RestClient) -> None:
    path = await source_of(rest.database)
    ids = [(await rest.data("POST", f"{path}/duplicate_job", status=201))["id"] for _ in range(2)]
    await factories.ran_job(rest.database)
    await factories.claimed_job(rest.database)
    for id, status in zip(ids, (JobStatus.SUCCESS, JobStatus.STARTED), strict=True):
        error = await rest.refused(422, "POST", f"/jobs/{id}/cancel")
        assert error["detail"].endswith(f"this one is {status}.")


async def test_a_failed_job_lists_its_errors(rest: RestClient, idle_client: GraphQLClient) -> None:
    path = await source_of(rest.database)
    id = (await rest.data("POST", f"{path}/duplicate_job", status=201))["id"]
    await rest.ask("DELETE", path, status=204)
    await factories.ran_job(rest.database)
    job = await rest.get(f"/jobs/{id}")
    assert job["attributes"]["status"] == "failed"
    assert job["attributes"]["completed_at"]
    assert "hierarchy_id" not in job["meta"]
    page = await rest.list(f"/jobs/{id}/errors")
    (error,) = page["data"]
    assert UUID_FORMAT.fullmatch(error["id"])
    message = f"No hierarchy has the id {path.rsplit('/', 1)[1]}."
    assert error == {
        "id": error["id"],
        "type": "pim-job-error",
        "attributes": {"message": message},
    }
    assert page["meta"]["results"]["total"] == 1
    seen = (await idle_client.data(JOB, id=id))["job"]
    assert seen["errors"]["nodes"] == [{"id": error["id"], "message": message}]


async def test_jobs_are_the_same_over_graphql(rest: RestClient, idle_client: GraphQLClient) -> None:
    path = await source_of(rest.database)
    ids = []
    for name in ("done", "running", "waiting", "cancelled"):
        data = duplication_data(name=name)
        ids.append((await rest.data("POST", f"{path}/duplicate_job", data, status=201))["id"])
    await rest.ask("POST", f"/jobs/{ids[3]}/cancel")
    await factories.ran_job(rest.database)
    await factories.claimed_job(rest.database)
    for id, name in zip(ids, ("done", "running", "waiting", "cancelled"), strict=True):
        job = await rest.get(f"/jobs/{id}")
        seen = (await idle_client.data(JOB, id=id))["job"]
        attributes, meta = job["attributes"], job["meta"]
        assert seen["id"] == id
        assert seen["requestId"] == meta["x_request_id"]
        for key, field in (
            *(("created_at", "createdAt"), ("started_at", "startedAt")),
            *(("completed_at", "completedAt"), ("updated_at", "updatedAt")),
        ):
            assert seen[field] == attributes[key]
        assert seen["type"].lower().replace("_", "-") == attributes["type"]
        assert seen["duplication"]["name"] == name
        started = attributes["started_at"] is not None
        assert meta.keys() - {"x_request_id"} == (
            {"copied_from", "hierarchy_id"}
            if name == "done"
            else ({"copied_from"} if started else set())
        )
        if started:
            assert seen["duplication"]["source"]["id"] == meta["copied_from"]
        if name == "done":
            assert seen["duplication"]["result"]["id"] == meta["hierarchy_id"]


@pytest.mark.parametrize("id", [UNKNOWN, "x", "%00", "1", "🌱"])
async def test_an_unknown_job_is_not_found(id: str, rest: RestClient) -> None:
    for method, path in (("GET", ""), ("GET", "/errors"), ("POST", "/cancel")):
        response = await rest.send(method, f"/jobs/{id}{path}")
        assert errors_of(response, 404) == [{"status": "404", "title": "Not Found"}]


async def test_a_job_keeps_the_id_of_its_request(rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    sent_ids = (("mine.1:a-b_c", True), ("a" * 128, True), ("a" * 129, False), ("é", False))
    for sent, is_kept in sent_ids:
        response = await rest.send("POST", path, headers={b"x-request-id": sent.encode()})
        request_id = response.headers["x-request-id"]
        assert (request_id == sent) == is_kept
        assert response.json()["data"]["meta"]["x_request_id"] == request_id
        assert is_kept or UUID_FORMAT.fullmatch(request_id)
