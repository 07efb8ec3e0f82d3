"""Results over streaming HTTP responses: server-sent events and multipart, as clients read them.

Covers slow, disconnected and excess clients.
"""

import asyncio
import gc
import http.client
import json
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import anyio.to_thread
import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.graphql.transports import sse_multipart
from app.api.graphql.transports.http import EVENT_STREAM, GRAPHQL_JSON, JSON
from app.api.graphql.types.events import EVENTS
from app.api.graphql.types.jobs import JOBS
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.main import Gateway
from app.services import attempts, jobs
from app.services.attempts import Completion
from app.services.jobs import Requester
from app.settings import Settings
from app.storage.engine.transaction import Transaction
from tests import factories
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.subscriber import BEGINNING, JOB_EVENTS, JOB_UPDATES
from tests.support.unexpected_errors import check_masked, check_no_secrets, lose

APOLLO = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'
QUERY = "{ __typename }"
DESCRIBED = """
    subscription ($after: String) { jobEvents(after: $after) {
        cursor job { duplication { description } }
    } }
"""
SOON = 30
"""Seconds within which an unblocked result must arrive."""

# When an operation is cancelled, graphql-core drops the coroutines it has not begun.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine '(Executor|GraphQLCoreConverter):RuntimeWarning"
)


@pytest.fixture
def database_kind() -> str:
    """Streams do not depend on the kind of database."""
    return "sqlite"


@pytest.fixture
def settings(new_database: NewDatabase) -> Settings:
    """SQLite, as the kind of database does not matter here."""
    return Settings(database_url=new_database("sqlite"), port=0, runner=False)


@pytest.fixture
def client(idle_client: GraphQLClient) -> httpx.AsyncClient:
    """An HTTP client of a gateway that runs no jobs."""
    return idle_client.http


@pytest.fixture
async def source(idle_gateway: Gateway) -> UUID:
    """A hierarchy to duplicate."""
    return await factories.hierarchy(idle_gateway.database, {"a": {}})


@dataclass(frozen=True)
class ServerSentEvent:
    """One server-sent event."""

    event: str
    id: str | None
    data: str

    @property
    def answer(self) -> dict[str, Any]:
        """The GraphQL response in `data`."""
        answer: dict[str, Any] = json.loads(self.data)
        return answer

    @property
    def field(self) -> dict[str, Any]:
        """The single field of a response without errors."""
        assert "errors" not in self.answer, self.data
        (value,) = self.answer["data"].values()
        field_value: dict[str, Any] = value
        return field_value


class EventSource:
    """A stream of server-sent events, read as the HTML standard has it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.aiter_lines()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(":")
            if not line and fields:
                return ServerSentEvent(fields["event"], fields.get("id"), fields.get("data", ""))
            if name:
                fields[name] = value.removeprefix(" ")
            elif line:
                self.comments += 1
        raise StopAsyncIteration

    async def take(self, number: int) -> list[ServerSentEvent]:
        """The next `number` events."""
        return [await anext(self) for _ in range(number)]


@asynccontextmanager
async def streamed_response(
    client: httpx.AsyncClient,
    query: str,
    *,
    accept: str = EVENT_STREAM,
    get: bool = False,
    headers: Mapping[str, str | bytes] | None = None,
    **variables: Any,
) -> AsyncIterator[httpx.Response]:
    """Open a streamed response, abandoned at the end of the block if it has not ended."""
    parameters: dict[str, Any] = {"json": {"query": query, "variables": variables}}
    if get:
        parameters = {"params": {"query": query, "variables": json.dumps(variables)}}
    all_headers: dict[str, Any] = {"accept": accept, **(headers or {})}
    method = "GET" if get else "POST"
    async with client.stream(method, "/graphql", headers=all_headers, **parameters) as response:
        yield response


@asynccontextmanager
async def event_source(
    client: httpx.AsyncClient, query: str, **more: Any
) -> AsyncIterator[EventSource]:
    """Open a stream of server-sent events for an operation."""
    async with streamed_response(client, query, **more) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].split(";")[0] == EVENT_STREAM
        assert response.headers["cache-control"] == "no-store"
        yield EventSource(response)


async def succeeded(gateway: Gateway) -> None:
    """Start the next job and end it with success."""
    claimed = await factories.claimed_job(gateway.database)
    await gateway.database.write(attempts.succeed, claimed, lambda: Completion(1))


async def described(gateway: Gateway, source: UUID, number: int, description: str) -> None:
    """Enqueue `number` jobs with this description, in batches of 100."""

    def queued(tx: Transaction) -> None:
        for _ in range(100):
            jobs.request(
                tx,
                Requester(factories.STORE, request_id="given"),
                Duplication(source, description=description),
            )

    for _ in range(number // 100):
        await gateway.database.write(queued)


# Server-sent events.


@pytest.mark.parametrize(
    ("accept", "get"),
    [
        pytest.param(EVENT_STREAM, False, id="a POST"),
        pytest.param(EVENT_STREAM, True, id="EventSource's GET"),
        pytest.param("*/*", False, id="curl's POST"),
        pytest.param("*/*", True, id="curl's GET"),
        pytest.param(f"{EVENT_STREAM}, {JSON};q=0.5", False, id="preferred to JSON"),
        pytest.param("TEXT/Event-Stream", False, id="upper case"),
    ],
)
async def test_job_updates_arrive_as_server_sent_events_from_snapshot_to_end(
    accept: str, get: bool, idle_gateway: Gateway, client: httpx.AsyncClient, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    async with event_source(client, JOB_UPDATES, accept=accept, get=get, id=str(job.id)) as updates:
        events = [await anext(updates)]
        await succeeded(idle_gateway)
        events += [sent async for sent in updates]

    *results, end = events
    assert [sent.event for sent in results] == ["next"] * len(results)
    assert [sent.field["type"] for sent in results] == ["SNAPSHOT", "STARTED", "SUCCEEDED"]
    assert [sent.id for sent in results] == [sent.field["cursor"] for sent in results]
    assert end == ServerSentEvent("complete", None, "")


@pytest.mark.parametrize("accept", [EVENT_STREAM, f"{EVENT_STREAM}, {JSON};q=0.5"])
async def test_the_result_of_a_query_is_one_event(accept: str, client: httpx.AsyncClient) -> None:
    async with event_source(client, QUERY, accept=accept) as stream:
        only, end = [sent async for sent in stream]
    assert (only.event, only.id) == ("next", None)
    assert only.answer["data"] == {"__typename": "Query"}
    assert end == ServerSentEvent("complete", None, "")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription ($id: ID!) { jobUpdates(id: $id) { cursor } }", "BAD_USER_INPUT"),
    ],
)
async def test_the_errors_of_an_invalid_operation_are_one_event(
    document: str, code: str, client: httpx.AsyncClient
) -> None:
    for get in (False, True):
        async with event_source(client, document, get=get) as stream:
            only, end = [sent async for sent in stream]
        assert only.answer.keys() == {"errors"}
        assert only.answer["errors"][0]["extensions"]["code"] == code
        assert (only.event, end.event) == ("next", "complete")


async def test_a_malformed_request_gets_its_status_instead_of_a_stream(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/graphql", json={}, headers={"accept": EVENT_STREAM})
    assert response.status_code == 422
    assert response.headers["content-type"] == f"{JSON}; charset=utf-8"
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_a_subscription_without_a_streaming_media_type_gets_406(
    client: httpx.AsyncClient,
) -> None:
    operation = {"query": "subscription { jobEvents { cursor } }"}
    for accept in (JSON, f"application/graphql-response+json, {JSON};q=0.9", "application/*"):
        response = await client.post("/graphql", json=operation, headers={"accept": accept})
        assert response.status_code == 406
        (error,) = response.json()["errors"]
        assert error["extensions"]["code"] == "NOT_ACCEPTABLE"
        assert EVENT_STREAM in error["message"]


async def test_a_reconnecting_client_misses_and_repeats_no_event(
    idle_gateway: Gateway, client: httpx.AsyncClient, source: UUID, seed: int
) -> None:
    events = 60
    chance = random.Random(seed)

    async def enqueue() -> None:
        for _ in range(events):
            await factories.pending_duplication(idle_gateway.database, source)

    enqueuing = asyncio.create_task(enqueue())
    cursors: list[str] = []
    while len(cursors) < events:
        headers = {"last-event-id": cursors[-1]} if cursors else {}
        # Like EventSource: the same request again, with the id of the last event.
        async with event_source(client, JOB_EVENTS, after=BEGINNING, headers=headers) as stream:
            count = min(chance.randint(1, 9), events - len(cursors))
            for sent in await stream.take(count):
                assert sent.id == sent.field["cursor"]
                cursors.append(sent.field["cursor"])
    await enqueuing
    assert cursors == [EVENTS.encode((seq,)) for seq in range(1, events + 1)]


async def test_job_updates_resume_after_the_last_event_id_up_to_the_end(
    idle_gateway: Gateway, client: httpx.AsyncClient, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    async with event_source(client, JOB_UPDATES, id=str(job.id)) as updates:
        snapshot = await anext(updates)
    await succeeded(idle_gateway)

    cursor, story = snapshot.id, []
    assert cursor is not None
    for _ in range(3):
        headers = {"last-event-id": cursor}
        async with event_source(client, JOB_UPDATES, headers=headers, id=str(job.id)) as updates:
            sent = await anext(updates)
        story.append(sent.field["type"] if sent.event == "next" else sent.event)
        cursor = sent.id or cursor
    assert story == ["STARTED", "SUCCEEDED", "complete"]


@pytest.mark.parametrize(
    ("cursor", "code"),
    [
        pytest.param(b"nonsense", "INVALID_INPUT", id="not a cursor"),
        pytest.param(b"\xe4", "INVALID_INPUT", id="not text"),
        pytest.param(JOBS.encode((1,)).encode(), "INVALID_INPUT", id="of another list"),
        pytest.param(b"W1tbW1tb", "INVALID_INPUT", id="brackets"),
        pytest.param(EVENTS.encode((2,)).encode(), "CURSOR_INVALID", id="ahead of the log"),
        pytest.param(EVENTS.encode((2**63 - 1,)).encode(), "CURSOR_INVALID", id="far ahead"),
    ],
)
async def test_an_unusable_last_event_id_is_an_error(
    cursor: bytes, code: str, client: httpx.AsyncClient, idle_gateway: Gateway, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    headers: dict[str, str | bytes] = {"last-event-id": cursor}
    for document, variables in ((JOB_EVENTS, {}), (JOB_UPDATES, {"id": str(job.id)})):
        async with event_source(client, document, headers=headers, **variables) as stream:
            only, end = [sent async for sent in stream]
        assert (only.event, end.event) == ("next", "complete")
        (error,) = only.answer["errors"]
        assert error["extensions"] == {"code": code, "argument": ["after"]}


async def test_an_empty_last_event_id_is_ignored(
    idle_gateway: Gateway, client: httpx.AsyncClient, source: UUID
) -> None:
    await factories.pending_duplication(idle_gateway.database, source)
    headers = {"last-event-id": ""}
    async with event_source(client, JOB_EVENTS, headers=headers, after=BEGINNING) as stream:
        assert (await anext(stream)).field["type"] == "CREATED"


async def test_an_idle_stream_sends_keepalives(
    idle_gateway: Gateway,
    client: httpx.AsyncClient,
    source: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse_multipart, "KEEPALIVE_SECONDS", 0.05)
    job = await factories.pending_duplication(idle_gateway.database, source)
    async with event_source(client, JOB_EVENTS) as stream:
        async with streamed_response(client, JOB_EVENTS, accept=APOLLO) as multipart:
            received, pieces = b"", multipart.aiter_bytes()
            while received.count(b"{}") < 2:
                received += await anext(pieces)
        # This stream was idle for the same time.
        await idle_gateway.database.write(jobs.cancel, factories.STORE, job.id)
        assert (await anext(stream)).field["type"] == "CANCELLED"
        assert stream.comments >= 2


# Multipart.


def payloads(response: httpx.Response, body: bytes) -> list[Any]:
    """Decode the parts of a complete multipart response."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + body, policy=policy.HTTP)
    assert message.is_multipart()
    assert message.defects == []
    parts = []
    for part in message.iter_parts():
        assert part.defects == []
        assert part.get_content_type() == JSON
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        parts.append(json.loads(payload))
    return parts


async def test_job_updates_arrive_as_parts_from_snapshot_to_end(
    idle_gateway: Gateway, client: httpx.AsyncClient, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    async with streamed_response(client, JOB_UPDATES, accept=APOLLO, id=str(job.id)) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("multipart/mixed")
        body = b""
        async for piece in response.aiter_bytes():
            if not body:
                await succeeded(idle_gateway)
            body += piece

    parts = [part for part in payloads(response, body) if part != {}]
    assert all(part.keys() == {"payload"} for part in parts)
    types = [part["payload"]["data"]["jobUpdates"]["type"] for part in parts]
    assert types == ["SNAPSHOT", "STARTED", "SUCCEEDED"]
    assert body.endswith(b"\r\n--graphql--\r\n")


async def test_a_part_is_sent_with_its_closing_delimiter(
    idle_gateway: Gateway,
    client: httpx.AsyncClient,
    source: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Apollo Client considers a part complete once the next delimiter arrives, which must not
    # require a keepalive.
    monkeypatch.setattr(sse_multipart, "KEEPALIVE_SECONDS", 3600)
    job = await factories.pending_duplication(idle_gateway.database, source)
    async with streamed_response(client, JOB_UPDATES, accept=APOLLO, id=str(job.id)) as response:
        received, pieces = b"", response.aiter_bytes()
        async with asyncio.timeout(SOON):
            while not received.endswith(b"\r\n--graphql") or b"SNAPSHOT" not in received:
                received += await anext(pieces)


async def test_queries_and_invalid_operations_are_no_stream_for_apollo(
    client: httpx.AsyncClient,
) -> None:
    for document, status, media_type in (
        (QUERY, 200, JSON),
        ("subscription { nothing }", 422, GRAPHQL_JSON),
    ):
        response = await client.post(
            "/graphql", json={"query": document}, headers={"accept": APOLLO}
        )
        assert response.status_code == status
        assert response.headers["content-type"] == f"{media_type}; charset=utf-8"


async def test_an_error_of_a_subscription_is_a_part(client: httpx.AsyncClient) -> None:
    async with streamed_response(client, JOB_UPDATES, accept=APOLLO, id="nothing") as response:
        body = await response.aread()
    (part,) = [part for part in payloads(response, body) if part != {}]
    (error,) = part["payload"]["errors"]
    assert error["extensions"]["code"] == "NOT_FOUND"


# Disconnected, excess and slow clients.


@pytest.mark.parametrize("accept", [EVENT_STREAM, APOLLO])
async def test_a_disconnect_ends_the_subscription(
    accept: str, idle_gateway: Gateway, client: httpx.AsyncClient, source: UUID
) -> None:
    await factories.pending_duplication(idle_gateway.database, source)
    async with streamed_response(client, JOB_EVENTS, accept=accept, after=BEGINNING) as response:
        received, pieces = b"", response.aiter_bytes()
        while b"CREATED" not in received:
            received += await anext(pieces)
        (tail,) = idle_gateway.feed._tails.values()
        assert tail.reader is not None
    await asyncio.wait([tail.reader], timeout=SOON)
    assert idle_gateway.feed._tails == {}


async def test_a_client_at_its_stream_limit_may_open_another_after_closing_one(
    settings: Settings,
) -> None:
    few = settings.model_copy(update={"max_streams_per_client": 2, "max_requests_per_second": 0})
    async with gateway_of(few) as gateway, client_of(gateway) as opened:
        client = opened.http
        source = await factories.hierarchy(gateway.database, {})
        await factories.pending_duplication(gateway.database, source)
        async with event_source(client, JOB_EVENTS, after=BEGINNING) as first:
            await anext(first)
            async with streamed_response(client, JOB_EVENTS, accept=APOLLO) as second:
                assert second.status_code == 200
                for accept, answered in ((EVENT_STREAM, JSON), (APOLLO, GRAPHQL_JSON)):
                    async with streamed_response(client, JOB_EVENTS, accept=accept) as third:
                        assert third.status_code == 429
                        assert int(third.headers["retry-after"]) >= 1
                        assert third.headers["content-type"] == f"{answered}; charset=utf-8"
                        (error,) = json.loads(await third.aread())["errors"]
                    assert error["extensions"] == {
                        "code": "STREAM_LIMIT_EXCEEDED",
                        "limit": 2,
                        "found": 3,
                    }
                assert (await client.post("/graphql", json={"query": QUERY})).status_code == 200
            # The server takes a while to notice the disconnect.
            status = 429
            while status == 429:
                async with streamed_response(client, JOB_EVENTS, accept=APOLLO) as third:
                    status = third.status_code
            assert status == 200


async def test_a_completed_stream_frees_its_slot(settings: Settings) -> None:
    single = settings.model_copy(update={"max_streams_per_client": 1})
    async with gateway_of(single) as gateway, client_of(gateway) as client:
        for document in (QUERY, "{ nothing }", 'subscription { jobUpdates(id: "x") { cursor } }'):
            async with event_source(client.http, document) as stream:
                assert (await stream.take(2))[-1].event == "complete"
                assert [sent async for sent in stream] == []


def unsent() -> list[int]:
    """Bytes per client that wait outside of the system's socket buffers."""
    return [
        protocol.transport.get_write_buffer_size()
        for protocol in gc.get_objects()
        # `isinstance` would raise ReferenceError on a dead weak proxy of another test.
        if issubclass(type(protocol), HttpToolsProtocol) and not protocol.transport.is_closing()
    ]


@pytest.mark.long
async def test_a_stalled_reader_delays_no_other_client_costs_no_memory_and_misses_nothing(
    idle_gateway: Gateway,
    client: httpx.AsyncClient,
    source: UUID,
    report: Callable[[str], None],
) -> None:
    events, description = 2_000, "x" * 5_000
    every_cursor = [EVENTS.encode((seq,)) for seq in range(1, events + 1)]
    address = urlsplit(idle_gateway.url)
    body = json.dumps({"query": DESCRIBED, "variables": {"after": BEGINNING}})
    with socket.socket() as stalled:
        stalled.settimeout(60)
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((address.hostname, address.port))
        stalled.sendall(
            f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nAccept: {EVENT_STREAM}\r\n"
            f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        enqueuing = asyncio.create_task(described(idle_gateway, source, events, description))
        async with event_source(client, DESCRIBED, after=BEGINNING) as stream:
            delivered = [sent.id for sent in await stream.take(events)]
        await enqueuing
        assert delivered == every_cursor
        max_unsent = max(unsent())
        sent = events * len(description)
        report(f"{max_unsent:,} bytes buffered for the stalled reader, of {sent:,} and more")
        assert 0 < max_unsent < 64 * 1024 + 2 * len(description)

        def read_on() -> list[str]:
            cursors: list[str] = []
            with http.client.HTTPResponse(stalled) as response:
                response.begin()
                while len(cursors) < events:
                    line = response.readline()
                    assert line, f"the stream ended after {len(cursors)} events"
                    if line.startswith(b"id: "):
                        cursors.append(line[4:-1].decode())
            return cursors

        assert await anyio.to_thread.run_sync(read_on) == every_cursor


async def test_a_stopping_server_ends_streams_without_completion_and_error_logs(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway_of(settings) as gateway, client_of(gateway) as client:
        source = await factories.hierarchy(gateway.database, {})
        await factories.pending_duplication(gateway.database, source)
        for accept in (EVENT_STREAM, APOLLO):
            async with streamed_response(
                client.http, JOB_EVENTS, accept=accept, after=BEGINNING
            ) as response:
                received, pieces = b"", response.aiter_bytes()
                while b"CREATED" not in received:
                    received += await anext(pieces)
                if accept == APOLLO:
                    gateway.stop()
                    received += b"".join([piece async for piece in pieces])
                    assert not received.endswith(b"--graphql--\r\n")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# Bugs.


async def test_an_error_between_events_shows_only_the_request_id(
    idle_gateway: Gateway,
    client: httpx.AsyncClient,
    source: UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await factories.pending_duplication(idle_gateway.database, source)
    # The start cursor is known without the log; the events after it are not.
    await lose(idle_gateway.database, "job_event")
    headers = {"x-request-id": "mine"}
    async with event_source(client, JOB_EVENTS, after=BEGINNING, headers=headers) as stream:
        broken, end = [sent async for sent in stream]
    assert stream.response.headers["x-request-id"] == "mine"
    assert (broken.event, end.event) == ("next", "complete")
    (error,) = broken.answer["errors"]
    check_masked(error, "mine", caplog)
    check_no_secrets(broken.data)


@pytest.mark.parametrize("table", ["lane", "job"])
async def test_an_error_before_the_first_event_shows_only_the_request_id(
    table: str,
    idle_gateway: Gateway,
    client: httpx.AsyncClient,
    source: UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    await lose(idle_gateway.database, table)
    document = JOB_EVENTS if table == "lane" else JOB_UPDATES
    variables: dict[str, Any] = {} if table == "lane" else {"id": str(job.id)}
    for accept in (EVENT_STREAM, APOLLO):
        caplog.clear()
        async with streamed_response(client, document, accept=accept, **variables) as response:
            body = (await response.aread()).decode()
        if accept == APOLLO:
            (part,) = [part for part in payloads(response, body.encode()) if part != {}]
            answer = part["payload"]
        else:
            (data, _) = [line for line in body.splitlines() if line.startswith("data:")]
            answer = json.loads(data.removeprefix("data: "))
        (error,) = answer["errors"]
        check_masked(error, response.headers["x-request-id"], caplog)
        check_no_secrets(body)
