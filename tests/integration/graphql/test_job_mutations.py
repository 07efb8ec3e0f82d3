"""duplicateHierarchy and cancelJob over HTTP."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.domain.hierarchies import node_id
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.main import Gateway
from app.services import jobs
from app.services.jobs import Requested, Requester
from app.storage.engine.database import Database
from tests import factories
from tests.support.authoring import everything, hidden_hierarchy
from tests.support.clients import GraphQLClient
from tests.support.clock import Clock

DUPLICATE = """
    mutation ($input: DuplicateHierarchyInput!) {
        duplicateHierarchy(input: $input) {
            job { id }
            replayed
            errors {
                __typename
                ... on UserError { message path }
                ... on IdempotencyConflict { job { id } }
            }
        }
    }
"""
CANCEL = """
    mutation ($id: ID!) {
        cancelJob(input: {jobId: $id}) {
            job { id status version canCancel queuePosition startedAt completedAt }
            errors {
                __typename
                ... on UserError { message path }
                ... on JobNotCancellable { status }
            }
        }
    }
"""
JOB = """
    query ($id: ID!) {
        job(id: $id) {
            status
            version
            duplication { result { name description nodes { nodes { products { totalCount } } } } }
        }
    }
"""


async def duplicate(client: GraphQLClient, **input: Any) -> dict[str, Any]:
    payload: dict[str, Any] = (await client.data(DUPLICATE, input=input))["duplicateHierarchy"]
    return payload


async def refused_duplication(client: GraphQLClient, **input: Any) -> dict[str, Any]:
    payload = await duplicate(client, **input)
    assert payload["job"] is None
    assert payload["replayed"] is False
    (error,) = payload["errors"]
    refusal: dict[str, Any] = error
    return refusal


async def cancel(client: GraphQLClient, id: object) -> dict[str, Any]:
    payload: dict[str, Any] = (await client.data(CANCEL, id=str(id)))["cancelJob"]
    return payload


async def copy_of(gateway: Gateway, client: GraphQLClient, **input: Any) -> dict[str, Any]:
    """Duplicate a hierarchy over HTTP, run the job and return the copy."""
    payload = await duplicate(client, **input)
    await factories.ran_job(gateway.database)
    job = (await client.data(JOB, id=payload["job"]["id"]))["job"]
    assert job["status"] == "SUCCESS"
    copy: dict[str, Any] = job["duplication"]["result"]
    return copy


async def test_a_queued_duplication_has_the_input_options(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {"Roses": {}})
    await factories.pending_duplication(idle_gateway.database, source)
    document = """
        mutation ($input: DuplicateHierarchyInput!) {
            duplicateHierarchy(input: $input) {
                job {
                    type status startedAt completedAt requestId requestedBy version canCancel
                    queuePosition progress { completed }
                    duplication {
                        sourceId name description includeProducts
                        source { id }
                        result { id }
                    }
                }
                replayed
                errors { __typename }
            }
        }
    """
    input = {
        "hierarchyId": str(source),
        "name": "Another garden",
        "description": "For winter",
        "includeProducts": True,
        "idempotencyKey": "k",
    }
    response = await idle_client.http.post(
        "/graphql",
        json={"query": document, "variables": {"input": input}},
        headers={"x-request-id": "the-request"},
    )
    assert response.headers["x-request-id"] == "the-request"
    assert response.json()["data"] == {
        "duplicateHierarchy": {
            "job": {
                "type": "HIERARCHY_DUPLICATE",
                "status": "PENDING",
                "startedAt": None,
                "completedAt": None,
                "requestId": "the-request",
                "requestedBy": None,
                "version": 1,
                "canCancel": True,
                "queuePosition": 2,
                "progress": None,
                "duplication": {
                    "sourceId": str(source),
                    "name": "Another garden",
                    "description": "For winter",
                    "includeProducts": True,
                    "source": {"id": str(source)},
                    "result": None,
                },
            },
            "replayed": False,
            "errors": [],
        }
    }


@pytest.mark.parametrize(
    ("options", "name", "description"),
    [
        ({}, "Garden", "All that grows"),
        ({"name": None, "description": None}, "Garden", "All that grows"),
        ({"description": ""}, "Garden", None),
        ({"name": "Park", "description": "Trees only"}, "Park", "Trees only"),
        ({"name": "  Park "}, "  Park ", "All that grows"),
    ],
)
async def test_null_keeps_the_attributes_of_the_source_and_an_empty_description_clears_it(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    options: dict[str, Any],
    name: str,
    description: str | None,
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {}, description="All that grows")
    copy = await copy_of(idle_gateway, idle_client, hierarchyId=str(source), **options)
    assert (copy["name"], copy["description"]) == (name, description)


@pytest.mark.parametrize(("options", "copied"), [({}, 0), ({"includeProducts": True}, 2)])
async def test_products_are_copied_only_with_include_products(
    idle_gateway: Gateway, idle_client: GraphQLClient, options: dict[str, Any], copied: int
) -> None:
    source = await factories.hierarchy(
        idle_gateway.database, {"Roses": {}}, products={"Roses": ["red", "white"]}
    )
    copy = await copy_of(idle_gateway, idle_client, hierarchyId=str(source), **options)
    (node,) = copy["nodes"]["nodes"]
    assert node["products"]["totalCount"] == copied


@pytest.mark.parametrize("name", ["n" * 1000, "🌱" * 1000, "0"], ids=["ascii", "astral", "short"])
async def test_a_name_may_have_1000_characters(
    idle_gateway: Gateway, idle_client: GraphQLClient, name: str
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    copy = await copy_of(idle_gateway, idle_client, hierarchyId=str(source), name=name)
    assert copy["name"] == name


@pytest.mark.parametrize(
    "name", ["n" * 1001, "", " ", "\t\n", "\u2003"], ids=["long", "empty", "space", "tab", "em"]
)
async def test_a_blank_or_too_long_name_is_refused_with_the_path_of_the_field(
    idle_gateway: Gateway, idle_client: GraphQLClient, name: str
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    before = await everything(idle_gateway.database)
    refusal = await refused_duplication(idle_client, hierarchyId=str(source), name=name)
    assert refusal["__typename"] == "InvalidInput"
    assert refusal["path"] == ["input", "name"]
    assert ("1000" if len(name) > 1000 else "empty") in refusal["message"]
    assert await everything(idle_gateway.database) == before


@pytest.mark.parametrize("field", ["name", "description"])
async def test_a_nul_character_is_refused_with_the_path_of_the_field(
    idle_gateway: Gateway, idle_client: GraphQLClient, field: str
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    input = {"hierarchyId": str(source), field: "a\0b"}
    refusal = await refused_duplication(idle_client, **input)
    assert refusal["__typename"] == "InvalidInput"
    assert refusal["path"] == ["input", field]


@pytest.mark.parametrize(
    "id", ["unknown", "malformed", "of a node", "of another store", "of a hidden hierarchy"]
)
async def test_an_unreadable_hierarchy_cannot_be_duplicated(
    idle_gateway: Gateway, idle_client: GraphQLClient, id: str
) -> None:
    database = idle_gateway.database
    if id == "unknown":
        id = str(uuid4())
    elif id == "of a node":
        id = str(node_id(await factories.hierarchy(database, {"Roses": {}}), 1))
    elif id == "of another store":
        id = str(await factories.hierarchy(database, {}, store="other"))
    elif id == "of a hidden hierarchy":
        id = str(await factories.hierarchy(database, {}))
        id = str(await hidden_hierarchy(database))
    before = await everything(idle_gateway.database)
    refusal = await refused_duplication(idle_client, hierarchyId=id)
    assert refusal["__typename"] == "NotFound"
    assert refusal["path"] == ["input", "hierarchyId"]
    assert id in refusal["message"]
    assert await everything(idle_gateway.database) == before


async def test_a_key_reused_with_the_same_input_returns_the_same_job(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    input = {"hierarchyId": str(source), "idempotencyKey": "k" * 255}
    first = await duplicate(idle_client, **input)
    assert first["replayed"] is False
    stored = await everything(idle_gateway.database)
    again = await duplicate(idle_client, **input)
    assert again == {"job": first["job"], "replayed": True, "errors": []}
    nulls = {"name": None, "description": None, "includeProducts": False}
    assert await duplicate(idle_client, **input, **nulls) == again
    assert await everything(idle_gateway.database) == stored

    await factories.ran_job(idle_gateway.database)
    await factories.deleted(idle_gateway.database, source)
    assert await duplicate(idle_client, **input) == again


async def test_requests_without_a_key_or_with_different_keys_create_separate_jobs(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = str(await factories.hierarchy(idle_gateway.database, {}))
    keys: list[dict[str, Any]] = [
        {},
        {},
        {"idempotencyKey": None},
        {"idempotencyKey": "a"},
        {"idempotencyKey": "b"},
    ]
    payloads = [await duplicate(idle_client, hierarchyId=source, **key) for key in keys]
    assert len({payload["job"]["id"] for payload in payloads}) == len(keys)
    assert not any(payload["replayed"] for payload in payloads)


async def test_concurrent_requests_with_one_key_create_one_job(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = str(await factories.hierarchy(idle_gateway.database, {}))
    payloads = await asyncio.gather(
        *(duplicate(idle_client, hierarchyId=source, idempotencyKey="k") for _ in range(10))
    )
    assert len({payload["job"]["id"] for payload in payloads}) == 1
    assert sorted(payload["replayed"] for payload in payloads) == [False] + [True] * 9


@pytest.mark.parametrize(
    "other",
    [{"name": "Park"}, {"description": ""}, {"includeProducts": True}, {"hierarchyId": "another"}],
)
async def test_a_key_reused_with_another_input_is_a_conflict(
    idle_gateway: Gateway, idle_client: GraphQLClient, other: dict[str, Any]
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    if "hierarchyId" in other:
        other = {"hierarchyId": str(await factories.hierarchy(idle_gateway.database, {}))}
    input = {"hierarchyId": str(source), "idempotencyKey": "k"}
    created = await duplicate(idle_client, **input)
    before = await everything(idle_gateway.database)
    refusal = await refused_duplication(idle_client, **(input | other))
    assert refusal["__typename"] == "IdempotencyConflict"
    assert refusal["path"] == ["input", "idempotencyKey"]
    assert refusal["job"] == created["job"]
    assert await everything(idle_gateway.database) == before


@pytest.mark.parametrize("key", ["", "k" * 256, "ké", "a\nb"], ids=["empty", "long", "é", "line"])
async def test_an_invalid_key_is_refused(
    idle_gateway: Gateway, idle_client: GraphQLClient, key: str
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    before = await everything(idle_gateway.database)
    refusal = await refused_duplication(idle_client, hierarchyId=str(source), idempotencyKey=key)
    assert refusal["__typename"] == "InvalidInput"
    assert refusal["path"] == ["input", "idempotencyKey"]
    assert await everything(idle_gateway.database) == before


async def test_a_key_identifies_its_job_for_24_hours(
    clocked_database: Database, clock: Clock
) -> None:
    source = await factories.hierarchy(clocked_database, {})

    async def request(**options: Any) -> Requested:
        return await clocked_database.write(
            jobs.request,
            Requester(factories.STORE, "a request"),
            Duplication(source, **options),
            "k",
        )

    first = await request()
    clock.now += timedelta(hours=24) - timedelta(milliseconds=1)
    assert await request() == Requested(first.job, replayed=True)
    clock.now += timedelta(milliseconds=1)
    second = await request(name="Park")
    assert not second.replayed
    assert second.job.id != first.job.id

    clock.now += timedelta(hours=23)
    assert (await request(name="Park")).job.id == second.job.id


async def test_equal_keys_of_different_stores_are_independent(database: Database) -> None:
    job_ids = set()
    for store in (factories.STORE, "other"):
        source = await factories.hierarchy(database, {}, store=store)
        requester, duplication = Requester(store, "a request"), Duplication(source)
        requested = await database.write(jobs.request, requester, duplication, "k")
        assert not requested.replayed
        job_ids.add(requested.job.id)
    assert len(job_ids) == 2


async def test_a_pending_job_is_cancelled_once(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    job = await factories.pending_duplication(idle_gateway.database, source)
    cancelled = {
        "id": str(job.id),
        "status": "CANCELLED",
        "version": 2,
        "canCancel": False,
        "queuePosition": None,
        "startedAt": None,
        "completedAt": None,
    }
    assert await cancel(idle_client, job.id) == {"job": cancelled, "errors": []}

    before = await everything(idle_gateway.database)
    payload = await cancel(idle_client, job.id)
    assert payload["job"] == cancelled
    (refusal,) = payload["errors"]
    assert refusal == {
        "__typename": "JobNotCancellable",
        "message": "Only a pending job can be cancelled; this one is cancelled.",
        "path": ["input", "jobId"],
        "status": "CANCELLED",
    }
    assert await everything(idle_gateway.database) == before


async def test_of_concurrent_cancellations_exactly_one_succeeds(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    job = await factories.pending_duplication(idle_gateway.database, source)
    payloads = await asyncio.gather(*(cancel(idle_client, job.id) for _ in range(10)))
    assert sorted(len(payload["errors"]) for payload in payloads) == [0] + [1] * 9
    assert {payload["job"]["version"] for payload in payloads} == {2}


@pytest.mark.parametrize("status", ["STARTED", "SUCCESS", "FAILED"])
async def test_a_started_job_is_not_cancelled_and_the_refusal_has_its_status(
    idle_gateway: Gateway, idle_client: GraphQLClient, status: str
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {})
    job = await factories.pending_duplication(database, source)
    if status == "STARTED":
        await factories.claimed_job(database)
    else:
        if status == "FAILED":
            await factories.deleted(database, source)
        await factories.ran_job(database)
    before = await everything(idle_gateway.database)
    payload = await cancel(idle_client, job.id)
    (refusal,) = payload["errors"]
    assert refusal["__typename"] == "JobNotCancellable"
    assert refusal["status"] == payload["job"]["status"] == status
    assert status.lower() in refusal["message"]
    assert await everything(idle_gateway.database) == before


@pytest.mark.parametrize("id", ["unknown", "malformed", "of another store", "of no job"])
async def test_an_unreadable_job_cannot_be_cancelled(
    idle_gateway: Gateway, idle_client: GraphQLClient, id: str
) -> None:
    database = idle_gateway.database
    if id == "unknown":
        id = str(uuid4())
    elif id == "of another store":
        source = await factories.hierarchy(database, {}, store="other")
        id = str((await factories.pending_duplication(database, source, store="other")).id)
    elif id == "of no job":
        id = str(await factories.hierarchy(database, {}))
    before = await everything(idle_gateway.database)
    payload = await cancel(idle_client, id)
    assert payload["job"] is None
    (refusal,) = payload["errors"]
    assert refusal["__typename"] == "NotFound"
    assert refusal["path"] == ["input", "jobId"]
    assert id in refusal["message"]
    assert await everything(idle_gateway.database) == before


async def test_each_mutation_of_a_request_returns_the_state_as_it_left_it(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    ahead = await factories.pending_duplication(idle_gateway.database, source)
    document = """
        mutation ($source: ID!, $ahead: ID!) {
            first: duplicateHierarchy(input: {hierarchyId: $source, idempotencyKey: "k"}) {
                ...Queued
            }
            cancelJob(input: {jobId: $ahead}) { job { status } errors { __typename } }
            again: duplicateHierarchy(input: {hierarchyId: $source, idempotencyKey: "k"}) {
                ...Queued
            }
        }
        fragment Queued on DuplicateHierarchyPayload {
            job {
                queuePosition
                duplication { source { jobs { nodes { status } totalCount } } }
            }
        }
    """
    data = await idle_client.data(document, source=str(source), ahead=str(ahead.id))
    assert data["cancelJob"] == {"job": {"status": "CANCELLED"}, "errors": []}

    def shown(alias: str) -> tuple[int, list[str]]:
        job = data[alias]["job"]
        nodes = job["duplication"]["source"]["jobs"]["nodes"]
        return job["queuePosition"], [node["status"] for node in nodes]

    assert shown("first") == (2, ["PENDING", "PENDING"])
    assert shown("again") == (1, ["PENDING", "CANCELLED"])
