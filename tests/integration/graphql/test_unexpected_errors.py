"""Unexpected errors show only the request id, and are logged with it."""

import logging
from typing import Any

import pytest

from app.main import Gateway
from tests import factories
from tests.support.clients import GraphQLClient
from tests.support.subscriber import JOB_EVENTS, JOB_UPDATES, subscriber
from tests.support.unexpected_errors import check_masked, check_no_secrets, lose

DUPLICATE = """
    mutation ($id: ID!) {
        duplicateHierarchy(input: {hierarchyId: $id}) { job { id } errors { __typename } }
    }
"""


@pytest.mark.parametrize(
    ("table", "document", "data"),
    [
        ("job", "{ jobs { nodes { id } } }", None),
        ("job", "{ jobs { totalCount } }", None),
        (
            "hierarchy",
            '{ node(id: "00000000-0000-0000-0000-000000000000") { id } }',
            {"node": None},
        ),
        (
            "node",
            "{ jobs { totalCount } hierarchies { nodes { children { totalCount } } } }",
            None,
        ),
        ("lane", "{ __typename duplicationPreview(hierarchyId: $id) { nodeCount } }", "partial"),
    ],
    ids=["a page", "a count", "a lookup", "a batch below rows", "one of two fields"],
)
async def test_a_query_that_breaks_shows_only_the_request_id(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    caplog: pytest.LogCaptureFixture,
    table: str,
    document: str,
    data: Any,
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    await factories.pending_duplication(idle_gateway.database, source)
    if data == "partial":
        document = document.replace("$id", f'"{source}"')
        data = {"__typename": "Query", "duplicationPreview": None}
    await lose(idle_gateway.database, table)
    response = await idle_client.http.post("/graphql", json={"query": document})
    answer = response.json()
    assert answer["data"] == data
    (error,) = answer["errors"]
    check_masked(error, response.headers["x-request-id"], caplog)
    check_no_secrets(response.text)


async def test_the_id_of_a_broken_request_is_the_one_the_client_sent(
    idle_gateway: Gateway, idle_client: GraphQLClient, caplog: pytest.LogCaptureFixture
) -> None:
    await lose(idle_gateway.database, "job")
    response = await idle_client.http.post(
        "/graphql",
        json={"query": "{ jobs { nodes { id } } }"},
        headers={"x-request-id": "mine"},
    )
    assert response.headers["x-request-id"] == "mine"
    (error,) = response.json()["errors"]
    check_masked(error, "mine", caplog)


async def test_a_mutation_that_breaks_shows_only_the_request_id_and_keeps_nothing(
    idle_gateway: Gateway, idle_client: GraphQLClient, caplog: pytest.LogCaptureFixture
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    await lose(idle_gateway.database, "job_event")
    response = await idle_client.http.post(
        "/graphql", json={"query": DUPLICATE, "variables": {"id": str(source)}}
    )
    answer = response.json()
    assert answer["data"] is None
    (error,) = answer["errors"]
    check_masked(error, response.headers["x-request-id"], caplog)
    check_no_secrets(response.text)
    jobs = (await idle_client.data("{ jobs { totalCount } }"))["jobs"]
    assert jobs["totalCount"] == 0


@pytest.mark.parametrize(
    ("table", "document"),
    [("lane", JOB_EVENTS), ("job", JOB_UPDATES)],
    ids=["jobEvents", "jobUpdates"],
)
async def test_a_subscription_that_breaks_before_its_first_event_shows_only_the_request_id(
    idle_gateway: Gateway, caplog: pytest.LogCaptureFixture, table: str, document: str
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    job = await factories.pending_duplication(idle_gateway.database, source)
    await lose(idle_gateway.database, table)
    async with subscriber(idle_gateway.url) as connected:
        variables = {"id": str(job.id)} if document is JOB_UPDATES else {}
        await connected.send(
            id="1", type="subscribe", payload={"query": document, "variables": variables}
        )
        message = await connected.receive()
        request_id = response_id(connected.socket)
    assert message["type"] == "error"
    (error,) = message["payload"]
    check_masked(error, request_id, caplog)
    check_no_secrets(str(message))


def response_id(socket: Any) -> str:
    """The request id in the handshake response of a socket."""
    id: str = socket.response.headers["x-request-id"]
    return id


async def test_a_subscription_that_breaks_between_events_shows_only_the_request_id(
    idle_gateway: Gateway, idle_client: GraphQLClient, caplog: pytest.LogCaptureFixture
) -> None:
    beginning = (await idle_client.data("{ jobQueue { cursor } }"))["jobQueue"]["cursor"]
    source = await factories.hierarchy(idle_gateway.database, {})
    await factories.pending_duplication(idle_gateway.database, source)
    # The start cursor is known without the log; the events after it are not.
    await lose(idle_gateway.database, "job_event")
    async with subscriber(idle_gateway.url) as connected:
        await connected.send(
            id="1",
            type="subscribe",
            payload={"query": JOB_EVENTS, "variables": {"after": beginning}},
        )
        broken, end = await connected.receive(), await connected.receive()
        request_id = response_id(connected.socket)
        assert (broken["type"], end["type"]) == ("next", "complete")
        (error,) = broken["payload"]["errors"]
        check_masked(error, request_id, caplog)
        check_no_secrets(str(broken))

        await connected.send(id="2", type="subscribe", payload={"query": "{ __typename }"})
        alive = await connected.receive()
    assert alive["payload"]["data"] == {"__typename": "Query"}


async def test_an_event_with_a_broken_nested_read_shows_only_the_request_id_and_the_next_follows(
    idle_gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    job = await factories.pending_duplication(idle_gateway.database, source)
    await lose(idle_gateway.database, "node")
    document = """
        subscription ($id: ID!) {
            jobUpdates(id: $id) { job { duplication { source { children { totalCount } } } } }
        }
    """
    async with subscriber(idle_gateway.url) as connected:
        await connected.send(
            id="1",
            type="subscribe",
            payload={"query": document, "variables": {"id": str(job.id)}},
        )
        first = await connected.receive()
        await factories.claimed_job(idle_gateway.database)
        second = await connected.receive()
        request_id = response_id(connected.socket)
    for message in (first, second):
        assert message["type"] == "next"
        (error,) = message["payload"]["errors"]
        check_masked(error, request_id, caplog)
        check_no_secrets(str(message))


async def test_expected_errors_reach_the_client_and_are_not_logged(
    idle_client: GraphQLClient, caplog: pytest.LogCaptureFixture
) -> None:
    for document in ("{ jobs(first: -1) { totalCount } }", "{ nothing }", "{", "mutation { x }"):
        error = await idle_client.refusal(document)
        assert error["message"] != "Internal Server Error"
        assert error["extensions"]["code"] in (
            *("INVALID_INPUT", "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED"),
        )
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
