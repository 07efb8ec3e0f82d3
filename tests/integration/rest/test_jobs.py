"""Jobs over REST: asked for, followed, cancelled, and why they failed; the same over GraphQL."""

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
    """A client of a gateway whose queue nobody runs."""
    async with rest_of(idle_gateway) as client:
        yield client


def asked(**attributes: Any) -> dict[str, Any]:
    """A duplication that is asked for."""
    return {"type": "hierarchy", "attributes": attributes}


async def source_of(database: Database) -> str:
    """A hierarchy with a node and a product."""
    tree: factories.Tree = {"Trees": {"Oaks": {}}}
    id = await factories.hierarchy(
        database, tree, slug="garden", description="Old", products={"Oaks": ["a"]}
    )
    return f"/hierarchies/{id}"


async def test_a_duplication_waits_at_first(rest: RestClient) -> None:
    path = await source_of(rest.database)
    response = await rest.send("POST", f"{path}/duplicate_job", asked(name="Copy"))
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
        ({"name": None, "description": None}, "Garden", "Old"),
        ({"name": "Copy"}, "Copy", "Old"),
        ({"description": "New"}, "Garden", "New"),
        ({"description": ""}, "Garden", None),
        ({"name": "n" * 1000, "description": "d" * 5000}, "n" * 1000, "d" * 5000),
    ],
    ids=["nothing", "no attributes", "nulls", "a name", "a description", "an empty one", "long"],
)
async def test_what_is_not_given_stays_as_in_the_source(
    attributes: Any, name: str, description: str | None, rest: RestClient
) -> None:
    path = await source_of(rest.database)
    data = None if attributes is None else asked(**attributes)
    id = (await rest.data("POST", f"{path}/duplicate_job", data, status=201))["id"]
    await factories.ran_job(rest.database)
    job = await rest.get(f"/jobs/{id}")
    copy = await rest.get(f"/hierarchies/{job['meta']['hierarchy_id']}")
    assert copy["attributes"] == {
        "name": name,
        "description": description,
        "slug": "garden",
        "locales": {},
    }


@pytest.mark.parametrize("included", [None, False, True])
async def test_products_are_copied_where_it_is_asked(
    included: bool | None, rest: RestClient
) -> None:
    path = await source_of(rest.database)
    attributes = {} if included is None else {"include_products": included}
    id = (await rest.data("POST", f"{path}/duplicate_job", asked(**attributes), status=201))["id"]
    await factories.ran_job(rest.database)
    copy_id = (await rest.get(f"/jobs/{id}"))["meta"]["hierarchy_id"]
    nodes = (await rest.list(f"/hierarchies/{copy_id}/nodes"))["data"]
    assert [node["attributes"]["name"] for node in nodes] == ["Trees", "Oaks"]
    link = nodes[1]["relationships"]["products"]["links"]["related"]
    assert len((await rest.list(link))["data"]) == bool(included)


async def test_a_duplication_is_followed_to_its_end(
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
        (asked(name=""), "name can not be empty"),
        (asked(name=" \t\u200b"), "name can not be empty"),
        (asked(name="n" * 1001), "name: "),
        (asked(name="a\0"), "name: "),
        (asked(name=1), "name: "),
        (asked(description="a\0"), "description: "),
        (asked(description=False), "description: "),
        (asked(include_products="true"), "include_products: "),
        (asked(include_products=1), "include_products: "),
        (asked(include_products=None), "include_products can not be empty"),
        (asked(slug="a"), "slug: "),
        (asked(idempotency_key="a"), "idempotency_key: "),
        ({"type": "node"}, "type: "),
        ({"attributes": {}}, "type can not be empty"),
        ({"type": None}, "type can not be empty"),
        ({"type": "hierarchy", "attributes": None}, "attributes can not be empty"),
        ([], "data: "),
    ],
    ids=str,
)
async def test_a_duplication_that_breaks_a_rule_is_refused(
    data: Any, detail: str, rest: RestClient
) -> None:
    path = await source_of(rest.database)
    error = await rest.refused(422, "POST", f"{path}/duplicate_job", data)
    assert error["detail"].startswith(detail), error


async def test_the_same_key_gives_the_same_job(rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    answers = [
        await rest.send("POST", path, asked(name="Copy"), headers={KEY: "a key"}) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [
        *(None, "true", "true")
    ]
    assert len({answer.text for answer in answers}) == 1
    # What is not said and what is said to be as it is by itself are the same.
    said = asked(name="Copy", description=None, include_products=False)
    again = await rest.send("POST", path, said, headers={KEY: "a key"})
    assert again.json() == answers[0].json()
    # The job is shown as it is by now.
    id = again.json()["data"]["id"]
    await rest.ask("POST", f"/jobs/{id}/cancel")
    again = await rest.send("POST", path, said, headers={KEY: "a key"})
    assert again.json()["data"]["attributes"]["status"] == "cancelled"
    assert ids_of(await rest.list("/jobs")) == [id]
    other = await rest.data("POST", path, said, status=201, headers={KEY: "another key"})
    assert other["id"] != id


async def test_the_same_key_with_another_request_is_refused(rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    elsewhere = f"{await source_of(rest.database)}/duplicate_job"
    await rest.ask("POST", path, asked(name="Copy"), status=201, headers={KEY: "a"})
    for where, data in (
        (path, asked(name="copy")),
        (path, None),
        (path, asked(name="Copy", include_products=True)),
        (elsewhere, asked(name="Copy")),
    ):
        error = await rest.refused(422, "POST", where, data, headers={KEY: "a"})
        assert error["detail"].startswith("Idempotency-Key: ")


@pytest.mark.parametrize("key", ["", "a" * 256, "é"])
async def test_a_key_that_is_none_is_refused(key: str, rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    headers = {KEY.encode(): key.encode()}
    response = await rest.send("POST", path, headers=headers)
    (error,) = errors_of(response, 422)
    assert error["detail"].startswith("Idempotency-Key: ")
    assert (await rest.list("/jobs"))["data"] == []


async def test_a_key_is_one_over_both_doors(rest: RestClient, idle_client: GraphQLClient) -> None:
    path = await source_of(rest.database)
    made = await rest.data(
        "POST", f"{path}/duplicate_job", asked(name="Copy"), status=201, headers={KEY: "a"}
    )
    query = """
        mutation ($input: DuplicateHierarchyInput!) {
            duplicateHierarchy(input: $input) { job { id } errors { __typename } }
        }
    """
    wanted = {"hierarchyId": path.rsplit("/", 1)[1], "name": "Copy", "idempotencyKey": "a"}
    answer = (await idle_client.data(query, input=wanted))["duplicateHierarchy"]
    assert answer == {"job": {"id": made["id"]}, "errors": []}


async def test_a_pending_job_is_cancelled_once(rest: RestClient) -> None:
    path = await source_of(rest.database)
    made = await rest.data("POST", f"{path}/duplicate_job", status=201)
    cancelled = await rest.data("POST", f"/jobs/{made['id']}/cancel")
    assert cancelled["attributes"].pop("updated_at") >= made["attributes"].pop("updated_at")
    assert cancelled.pop("attributes") == {**made.pop("attributes"), "status": "cancelled"}
    assert cancelled == made
    error = await rest.refused(422, "POST", f"/jobs/{made['id']}/cancel")
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
async def test_the_body_of_a_cancellation_is_passed_over(body: Any, rest: RestClient) -> None:
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


async def test_a_failed_job_tells_why(rest: RestClient, idle_client: GraphQLClient) -> None:
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
        data = asked(name=name)
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


async def test_the_id_of_a_request_is_that_of_its_job(rest: RestClient) -> None:
    path = f"{await source_of(rest.database)}/duplicate_job"
    for sent, kept in (("mine.1:a-b_c", True), ("a" * 128, True), ("a" * 129, False), ("é", False)):
        response = await rest.send("POST", path, headers={b"x-request-id": sent.encode()})
        told = response.headers["x-request-id"]
        assert (told == sent) == kept
        assert response.json()["data"]["meta"]["x_request_id"] == told
        assert kept or UUID_FORMAT.fullmatch(told)
