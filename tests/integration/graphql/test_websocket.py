"""graphql-transport-ws over real sockets: valid messages, close codes, and isolation of sockets."""

import asyncio
import gc
import json
import logging
import resource
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import hypothesis
import orjson
import pytest
from hypothesis import given as forall
from hypothesis import strategies as st
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Origin, Subprotocol

from app.api import app
from app.api.auth.identity import LEEWAY, mint
from app.api.auth.limits import Limits
from app.api.graphql.transports.websocket import MAX_REASON_BYTES, SocketEndpoint
from app.api.http import uvicorn_protocols
from app.api.http.connection_limit import CONNECTIONS
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.main import Gateway
from app.services import jobs
from app.services.feed import TAIL_EVENTS
from app.services.jobs import Requester
from app.settings import Settings
from app.storage.engine.transaction import Transaction
from app.storage.tables import JobRow
from tests import factories
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.subscriber import (
    BEGINNING,
    FOLLOWED,
    JOB_UPDATES,
    PROTOCOL,
    Subscriber,
    subscriber,
)

Report = Callable[[str], None]
GatewayWith = Callable[..., Any]

INIT = '{"type": "connection_init"}'
PATIENCE = 20
"""Seconds within which an expected change must happen, even on a busy machine."""

SECRET = "x" * 32


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail on logged errors: no message of a client is a server error."""
    # Frozen objects are not examined by the collection below, which saves 80 ms.
    gc.freeze()
    yield
    # An exception that a task raised unobserved is logged when the task is collected.
    gc.collect()
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == []


@pytest.fixture(scope="module")
def gateway_with(new_database: NewDatabase) -> GatewayWith:
    """Run a gateway on a new SQLite database with these settings, running no jobs."""

    def running(**values: Any) -> Any:
        # All clients of the tests share one address, so the rate limit is off.
        defaults: dict[str, Any] = {"max_requests_per_second": 0, "runner": False, "port": 0}
        return gateway_of(Settings(database_url=new_database("sqlite"), **{**defaults, **values}))

    return running


@pytest.fixture(scope="module")
async def gateway(gateway_with: GatewayWith) -> AsyncIterator[Gateway]:
    """A gateway shared by all tests of this file: no socket affects another."""
    async with gateway_with() as running:
        yield running


@pytest.fixture
async def job(gateway: Gateway) -> JobRow:
    """A pending job."""
    return await pending_job(gateway)


async def pending_job(gateway: Gateway) -> JobRow:
    """A job that stays pending until a test cancels it."""
    source = await factories.hierarchy(gateway.database, {})
    return await factories.pending_duplication(gateway.database, source)


async def cancel(gateway: Gateway, job: JobRow) -> None:
    await gateway.database.write(jobs.cancel, factories.STORE, job.id)


@asynccontextmanager
async def opened(gateway: Gateway, **options: Any) -> AsyncIterator[ClientConnection]:
    """Open a socket without sending a message."""
    url = gateway.url.replace("http", "ws", 1) + "/graphql"
    options = {"subprotocols": [PROTOCOL], "compression": None, **options}
    async with connect(url, **options) as connected:
        yield connected


async def end_of(connected: ClientConnection) -> tuple[int, str]:
    """The code and reason of a close without messages before it."""
    with pytest.raises(ConnectionClosed) as closed:
        await connected.recv()
    close = closed.value.rcvd
    assert close is not None, (
        "the connection was lost without a close frame, which clients see as 1006"
    )
    return close.code, close.reason


async def round_trip(connected: Subscriber) -> None:
    """Ping the server; the pong must be its next message."""
    await connected.send(type="ping")
    assert await connected.receive() == {"type": "pong"}


async def until(condition: Callable[[], bool], connected: Subscriber) -> None:
    """Wait until `condition` holds, while the server answers pings."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await round_trip(connected)
            # A socket that pings without a pause exceeds the limit on frames.
            await asyncio.sleep(0.005)


def watchers(gateway: Gateway) -> int:
    """The number of subscriptions that follow the log."""
    return sum(tail.watchers for tail in gateway.feed._tails.values())


def subscribe(query: object, id: object = "1", **payload: object) -> str:
    """Encode a subscribe message."""
    message = {"type": "subscribe", "id": id, "payload": {"query": query, **payload}}
    return json.dumps(message)


async def check_close(
    connected: ClientConnection, frame: str | bytes, code: int, words: str, tabled: Report
) -> None:
    """Send a frame; assert the close code and the words of its reason."""
    # The server may close before it has read a whole large message.
    with suppress(ConnectionClosed):
        await connected.send(frame)
    actual, reason = await end_of(connected)
    tabled(f"{actual} {reason}")
    assert actual == code
    assert words in reason
    assert len(reason.encode()) <= MAX_REASON_BYTES


def nested(depth: int) -> str:
    """An object nested `depth` times."""
    return '{"a":' * depth + "1" + "}" * depth


INVALID_MESSAGES = [
    pytest.param("[]", 4400, "object", id="[]"),
    pytest.param("null", 4400, "object", id="null"),
    pytest.param("123", 4400, "object", id="123"),
    pytest.param('"s"', 4400, "object", id='"s"'),
    pytest.param("true", 4400, "object", id="true"),
    pytest.param("{}", 4400, "type", id="{}"),
    pytest.param('{"type": 1}', 4400, "type", id="type 1"),
    pytest.param('{"type": null}', 4400, "type", id="type null"),
    pytest.param('{"type": []}', 4400, "type", id="type []"),
    pytest.param('{"type": {}}', 4400, "type", id="type {}"),
    pytest.param('{"type": ""}', 4400, "type", id="type empty"),
    pytest.param('{"type": "nope"}', 4400, "'nope'", id="type nope"),
    pytest.param('{"type": "start", "id": "1"}', 4400, "'start'", id="type of the legacy protocol"),
    pytest.param('{"type": "Ping"}', 4400, "'Ping'", id="type in capitals"),
    pytest.param('{"type": "connection_ack"}', 4400, "connection_ack", id="connection_ack"),
    pytest.param('{"type": "next", "id": "1", "payload": {}}', 4400, "next", id="next"),
    pytest.param('{"type": "error", "id": "1", "payload": []}', 4400, "error", id="error"),
    pytest.param(json.dumps({"type": "ä" * 1000}), 4400, "type", id="type of 2,000 bytes"),
    pytest.param(json.dumps({"type": "\U0001f600" * 1000}), 4400, "type", id="type of 1,000 emoji"),
    pytest.param(json.dumps({"type": "\u0085" * 1000}), 4400, "type", id="type of 1,000 controls"),
    pytest.param("hello", 4400, "JSON", id="no JSON"),
    pytest.param("", 4400, "JSON", id="empty text"),
    pytest.param("NaN", 4400, "JSON", id="NaN"),
    pytest.param('{"type": "ping", "payload": {"a": Infinity}}', 4400, "JSON", id="Infinity"),
    pytest.param('{"type": "ping", "payload": {"a": 1e999}}', 4400, "JSON", id="1e999"),
    pytest.param(INIT + INIT, 4400, "JSON", id="two messages in one"),
    pytest.param('{"type": "\\ud800"}', 4400, "JSON", id="half a surrogate pair"),
    pytest.param("[" * 65_000 + "]" * 65_000, 4400, "JSON", id="65,000 nested brackets"),
    pytest.param("[" * 200_000, 1009, "131072", id="200,000 nested brackets"),
    pytest.param(f'{{"type": "{"x" * 128 * 1024}"}}', 1009, "131072", id="over 128 KiB"),
    pytest.param("x" * 5 * 1024 * 1024, 1009, "131072", id="5 MiB"),
    pytest.param(INIT.encode(), 4400, "text", id="binary frame"),
    pytest.param(b"", 4400, "text", id="empty binary frame"),
    pytest.param('{"type": "ping", "payload": 1}', 4400, "payload", id="ping payload 1"),
    pytest.param('{"type": "ping", "payload": "s"}', 4400, "payload", id='ping payload "s"'),
    pytest.param('{"type": "ping", "payload": []}', 4400, "payload", id="ping payload []"),
    pytest.param('{"type": "ping", "payload": 0}', 4400, "payload", id="ping payload 0"),
    pytest.param('{"type": "ping", "payload": false}', 4400, "payload", id="ping payload false"),
    pytest.param(
        f'{{"type": "ping", "payload": {nested(300)}}}', 4400, "payload", id="ping payload 300 deep"
    ),
    pytest.param('{"type": "pong", "payload": 1}', 4400, "payload", id="pong payload 1"),
    pytest.param('{"type": "pong", "payload": "s"}', 4400, "payload", id='pong payload "s"'),
    pytest.param('{"type": "pong", "payload": []}', 4400, "payload", id="pong payload []"),
    pytest.param('{"type": "complete"}', 4400, "id", id="complete without id"),
    pytest.param('{"type": "complete", "id": 1}', 4400, "id", id="complete id 1"),
    pytest.param('{"type": "complete", "id": null}', 4400, "id", id="complete id null"),
    pytest.param('{"type": "complete", "id": ""}', 4400, "id", id="complete id empty"),
    pytest.param('{"type": "complete", "id": []}', 4400, "id", id="complete id []"),
]

INVALID_SUBSCRIBES = [
    pytest.param('{"type": "subscribe", "payload": {"query": "{a}"}}', "id", id="id missing"),
    pytest.param(subscribe("{ __typename }", 1), "id", id="id 1"),
    pytest.param(subscribe("{ __typename }", None), "id", id="id null"),
    pytest.param(subscribe("{ __typename }", ""), "id", id="id empty"),
    pytest.param(subscribe("{ __typename }", []), "id", id="id []"),
    pytest.param('{"type": "subscribe", "id": "1"}', "object", id="payload missing"),
    pytest.param('{"type": "subscribe", "id": "1", "payload": null}', "object", id="payload null"),
    pytest.param('{"type": "subscribe", "id": "1", "payload": 1}', "object", id="payload 1"),
    pytest.param('{"type": "subscribe", "id": "1", "payload": []}', "object", id="payload []"),
    pytest.param('{"type": "subscribe", "id": "1", "payload": {}}', "query", id="query missing"),
    pytest.param(subscribe(1), "query", id="query 1"),
    pytest.param(subscribe(None), "query", id="query null"),
    pytest.param(subscribe({}), "query", id="query {}"),
    pytest.param(subscribe("{a}", variables=[]), "variables", id="variables []"),
    pytest.param(subscribe("{a}", variables=1), "variables", id="variables 1"),
    pytest.param(subscribe("{a}", variables="s"), "variables", id='variables "s"'),
    pytest.param(subscribe("{a}", variables=False), "variables", id="variables false"),
    pytest.param(subscribe("{a}", operationName=1), "operationName", id="operationName 1"),
    pytest.param(subscribe("{a}", operationName=[]), "operationName", id="operationName []"),
    pytest.param(subscribe("{a}", extensions=1), "extensions", id="extensions 1"),
    pytest.param(subscribe("{a}", extensions=[]), "extensions", id="extensions []"),
]


@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        *INVALID_MESSAGES,
        pytest.param('{"type": "connection_init", "payload": 1}', 4400, "payload", id="init 1"),
        pytest.param('{"type": "connection_init", "payload": "s"}', 4400, "payload", id='init "s"'),
        pytest.param('{"type": "connection_init", "payload": []}', 4400, "payload", id="init []"),
        pytest.param(subscribe("{ __typename }"), 4401, "Unauthorized", id="subscribe"),
    ],
)
async def test_before_init_an_invalid_message_closes_the_socket_with_a_reason(
    frame: str | bytes, code: int, words: str, gateway: Gateway, tabled: Report
) -> None:
    async with opened(gateway) as connected:
        await check_close(connected, frame, code, words, tabled)


@pytest.mark.parametrize(("frame", "words"), INVALID_SUBSCRIBES)
async def test_before_init_a_malformed_subscribe_gets_4400_instead_of_4401(
    frame: str, words: str, gateway: Gateway, tabled: Report
) -> None:
    # Like the reference server, which parses a message before it checks for the init.
    async with opened(gateway) as connected:
        await check_close(connected, frame, 4400, words, tabled)


@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        *INVALID_MESSAGES,
        pytest.param(INIT, 4429, "Too many initialisation requests", id="second init"),
        pytest.param(
            '{"type": "connection_init", "payload": 1}', 4400, "payload", id="second init 1"
        ),
    ],
)
async def test_after_init_an_invalid_message_closes_the_socket_with_a_reason(
    frame: str | bytes, code: int, words: str, gateway: Gateway, tabled: Report
) -> None:
    async with subscriber(gateway.url) as connected:
        await check_close(connected.socket, frame, code, words, tabled)


@pytest.mark.parametrize(("frame", "words"), INVALID_SUBSCRIBES)
async def test_a_malformed_subscribe_closes_the_socket_with_a_reason(
    frame: str, words: str, gateway: Gateway, tabled: Report
) -> None:
    async with subscriber(gateway.url) as connected:
        await check_close(connected.socket, frame, 4400, words, tabled)


@pytest.mark.parametrize("acknowledged", [False, True])
async def test_text_that_is_not_utf_8_is_refused_by_the_websocket_layer(
    acknowledged: bool, gateway: Gateway, tabled: Report
) -> None:
    async with opened(gateway) as connected:
        if acknowledged:
            await connected.send(INIT)
            await connected.recv()
        await connected.send(b"\xff\xfe", text=True)
        code, reason = await end_of(connected)
    tabled(f"{code} {reason}")
    assert code == 1007
    assert "UTF-8" in reason


async def test_the_id_of_a_running_operation_closes_the_socket_with_4409(
    gateway: Gateway, job: JobRow, tabled: Report
) -> None:
    async with subscriber(gateway.url) as connected:
        await anext(await connected.subscribe(JOB_UPDATES, id=str(job.id)))
        message = subscribe("{ __typename }", "1")
        await check_close(
            connected.socket, message, 4409, "Subscriber for 1 already exists", tabled
        )


async def test_a_long_duplicate_id_is_truncated_to_the_size_of_a_close_frame(
    gateway: Gateway, job: JobRow, tabled: Report
) -> None:
    async with subscriber(gateway.url) as connected:
        message = subscribe(JOB_UPDATES, "ä" * 1000, variables={"id": str(job.id)})
        await connected.socket.send(message)
        await connected.receive()
        await check_close(connected.socket, message, 4409, "Subscriber for ää", tabled)


async def test_a_socket_without_init_in_time_is_closed_even_if_it_sends_pings(
    gateway_with: GatewayWith, monkeypatch: pytest.MonkeyPatch, tabled: Report
) -> None:
    monkeypatch.setattr(app, "SocketEndpoint", partial(SocketEndpoint, init_seconds=0.5))
    async with gateway_with() as hasty, subscriber(hasty.url) as in_time:
        async with opened(hasty) as silent, opened(hasty) as chatty:
            await chatty.send('{"type": "ping"}')
            assert await chatty.recv() == '{"type":"pong"}'
            for late in (silent, chatty):
                code, reason = await end_of(late)
                tabled(f"{code} {reason}")
                assert (code, reason) == (4408, "Connection initialisation timeout")
        await round_trip(in_time)


@pytest.mark.parametrize(
    "first",
    [
        '{"type": "connection_init"}',
        '{"type": "connection_init", "payload": null}',
        '{"type": "connection_init", "payload": {"anything": [1]}, "more": true}',
    ],
)
async def test_init_is_acknowledged_with_any_payload(first: str, gateway: Gateway) -> None:
    async with opened(gateway) as connected:
        await connected.send(first)
        assert await connected.recv() == '{"type":"connection_ack"}'


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize(
    "payload", [{"a": [1, None, "ä\U0001f600"]}, {"payload": {"payload": {}}}, {}]
)
async def test_a_ping_is_answered_by_a_pong_with_the_same_payload(
    payload: Mapping[str, object], acknowledged: bool, gateway: Gateway
) -> None:
    async with opened(gateway) as connected:
        if acknowledged:
            await connected.send(INIT)
            await connected.recv()
        await connected.send(json.dumps({"type": "ping", "payload": payload}))
        assert orjson.loads(await connected.recv()) == {"type": "pong", "payload": payload}


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize(
    "ignored",
    [
        '{"type": "pong"}',
        '{"type": "pong", "payload": null}',
        '{"type": "pong", "payload": {"a": 1}}',
        '{"type": "complete", "id": "unknown"}',
        '{"type": "complete", "id": "unknown", "more": [1]}',
    ],
)
async def test_a_pong_and_the_end_of_an_unknown_operation_are_ignored(
    ignored: str, acknowledged: bool, gateway: Gateway
) -> None:
    async with opened(gateway) as connected:
        if acknowledged:
            await connected.send(INIT)
            await connected.recv()
        await connected.send(ignored)
        for ping in ('{"type": "ping"}', '{"type": "ping", "payload": null}'):
            await connected.send(ping)
            assert await connected.recv() == '{"type":"pong"}'


async def test_a_message_of_the_largest_size_is_accepted(gateway: Gateway) -> None:
    async with subscriber(gateway.url) as connected:
        message = '{"type": "ping"}'
        await connected.socket.send(message + " " * (Limits().max_body_bytes - len(message)))
        assert await connected.receive() == {"type": "pong"}


async def test_a_fragmented_message_is_one_message(gateway: Gateway) -> None:
    async with subscriber(gateway.url) as connected:
        await connected.socket.send(iter('{"type": "ping", "payload": {"ä": 1}}'))
        assert await connected.receive() == {"type": "pong", "payload": {"ä": 1}}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        pytest.param({"query": "{"}, "GRAPHQL_PARSE_FAILED", id="a syntax error"),
        pytest.param({"query": ""}, "GRAPHQL_PARSE_FAILED", id="an empty document"),
        pytest.param({"query": "{a" * 900}, "GRAPHQL_PARSE_FAILED", id="a deeply nested document"),
        pytest.param({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED", id="an unknown field"),
        pytest.param(
            {"query": "{" + "".join(f" a{n}: __typename" for n in range(31)) + "}"},
            "ALIAS_LIMIT_EXCEEDED",
            id="a limit",
        ),
        pytest.param(
            {"query": "query A { __typename } query B { __typename }"},
            "OPERATION_RESOLUTION_FAILURE",
            id="several operations without a name",
        ),
        pytest.param(
            {"query": "query A { __typename }", "operationName": "B"},
            "OPERATION_RESOLUTION_FAILURE",
            id="an unknown operation",
        ),
        pytest.param(
            {"query": "query ($id: ID!) { job(id: $id) { id } }"},
            "BAD_USER_INPUT",
            id="a missing variable",
        ),
        pytest.param(
            {
                "query": "query ($id: ID!) { job(id: $id) { id } }",
                "variables": {"id": orjson.loads(nested(900))},
            },
            "BAD_USER_INPUT",
            id="a deeply nested variable",
        ),
        pytest.param(
            {"query": "{ __typename }", "extensions": {"persistedQuery": {"sha256Hash": "0" * 64}}},
            "BAD_REQUEST",
            id="a hash of another document",
        ),
    ],
)
async def test_a_refused_operation_ends_no_other_and_its_id_is_free_at_once(
    payload: Mapping[str, object], code: str, gateway: Gateway, job: JobRow, tabled: Report
) -> None:
    async with subscriber(gateway.url) as connected:
        updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))
        assert (await anext(updates))["type"] == "SNAPSHOT"

        message = json.dumps({"type": "subscribe", "id": "mine", "payload": payload})
        for _ in range(2):
            await connected.socket.send(message)
            refused = await connected.receive()
            assert (refused["type"], refused["id"]) == ("error", "mine")
            assert {error["extensions"]["code"] for error in refused["payload"]} == {code}
            assert all(error["message"] for error in refused["payload"])
        tabled(f"error {refused['payload'][0]['message']}")
        await connected.socket.send(subscribe("{ __typename }", "mine"))
        answered = [await connected.receive(), await connected.receive()]
        assert [reply["type"] for reply in answered] == ["next", "complete"]

        await cancel(gateway, job)
        assert [event["type"] for event in await updates.rest()] == ["CANCELLED"]


async def test_a_query_and_a_mutation_are_answered_once_and_completed(gateway: Gateway) -> None:
    source = await factories.hierarchy(gateway.database, {})
    duplicate = """
        mutation ($id: ID!) {
            duplicateHierarchy(input: {hierarchyId: $id}) {
                job { status } errors { __typename }
            }
        }
    """
    async with subscriber(gateway.url) as connected:
        for id, query, data in (
            ("q", "{ __typename }", {"__typename": "Query"}),
            (
                "m",
                duplicate,
                {"duplicateHierarchy": {"job": {"status": "PENDING"}, "errors": []}},
            ),
        ):
            await connected.socket.send(subscribe(query, id, variables={"id": str(source)}))
            answer, end = await connected.receive(), await connected.receive()
            assert (answer["type"], answer["id"], answer["payload"]["data"]) == ("next", id, data)
            assert "errors" not in answer["payload"]
            assert end == {"type": "complete", "id": id}


async def test_a_client_that_completes_ends_its_subscription_in_the_server_and_frees_the_id(
    gateway: Gateway, job: JobRow
) -> None:
    assert watchers(gateway) == 0
    async with subscriber(gateway.url) as connected:
        updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))
        await anext(updates)
        assert watchers(gateway) == 1

        await updates.stop()
        await connected.socket.send(subscribe("{ __typename }", "1"))
        answered = [await connected.receive(), await connected.receive()]
        assert [(reply["id"], reply["type"]) for reply in answered] == [
            ("1", "next"),
            ("1", "complete"),
        ]

        await until(lambda: watchers(gateway) == 0, connected)
        await cancel(gateway, job)
        await round_trip(connected)


async def test_a_subscription_ends_in_the_server_with_its_socket(
    gateway: Gateway, job: JobRow
) -> None:
    async with subscriber(gateway.url) as closing, subscriber(gateway.url) as connected:
        for client in (closing, connected):
            await anext(await client.subscribe(JOB_UPDATES, id=str(job.id)))
        await closing.socket.close()
        await until(lambda: watchers(gateway) == 1, connected)


async def test_a_client_that_disconnects_at_any_point_leaves_no_subscription(
    gateway: Gateway, job: JobRow
) -> None:
    follow = {"variables": {"id": str(job.id)}}
    nowhere = {"variables": {"id": "nowhere"}}
    sequences = [
        # A close waits for the end of running operations.
        [subscribe(JOB_UPDATES, **follow), "[]"],
        [subscribe(JOB_UPDATES, str(n), **nowhere) for n in range(20)],
        [subscribe("{", str(n)) for n in range(20)],
        [subscribe("{ jobs { nodes { id } } }", str(n)) for n in range(20)],
        ['{"type": "ping"}', "[]"],
        [INIT],
    ]
    async with subscriber(gateway.url) as connected:
        for messages in sequences:
            for _ in range(3):
                async with subscriber(gateway.url) as vanishing:
                    for message in messages:
                        await vanishing.socket.send(message)
                    vanishing.socket.transport.abort()
        await until(lambda: watchers(gateway) == 0, connected)
        async with subscriber(gateway.url) as another:
            await round_trip(another)


@pytest.mark.parametrize(
    "offered",
    [
        pytest.param([], id="none"),
        pytest.param(["graphql-ws"], id="the legacy protocol"),
        pytest.param(["mqtt"], id="another protocol"),
        pytest.param(["GraphQL-transport-WS"], id="in capitals"),
    ],
)
async def test_a_socket_that_does_not_offer_the_protocol_is_closed_with_4406(
    offered: list[str], gateway: Gateway, tabled: Report
) -> None:
    protocols = [Subprotocol(name) for name in offered] or None
    async with opened(gateway, subprotocols=protocols) as connected:
        assert connected.subprotocol is None
        code, reason = await end_of(connected)
    tabled(f"{code} {reason}")
    assert (code, reason) == (4406, "Subprotocol not acceptable")


async def test_the_protocol_is_chosen_among_others_and_nothing_is_compressed(
    gateway: Gateway,
) -> None:
    offered = [Subprotocol("graphql-ws"), PROTOCOL]
    async with opened(gateway, subprotocols=offered, compression="deflate") as connected:
        assert connected.subprotocol == PROTOCOL
        assert connected.protocol.extensions == []


FOREIGN = [
    pytest.param("https://evil.example", id="foreign"),
    pytest.param("null", id="null"),
    pytest.param("", id="empty"),
    pytest.param("http://127.0.0.1:1", id="another port"),
    pytest.param("http://127.0.0.1", id="no port"),
    pytest.param("http://localhost:{port}", id="another name of the same machine"),
    pytest.param("http://127.0.0.1:{port}.evil.example", id="own origin as a prefix"),
    pytest.param("http://evil@127.0.0.1:{port}", id="with a user"),
    pytest.param("file://", id="file"),
    pytest.param("http://[", id="malformed"),
    pytest.param("https://shop.example.evil.example", id="allowed origin as a prefix"),
    pytest.param("http://shop.example", id="allowed host with another scheme"),
]


@pytest.fixture(scope="module")
async def shop_gateway(gateway_with: GatewayWith) -> AsyncIterator[Gateway]:
    """A gateway that allows the origin of a shop."""
    async with gateway_with(origins=frozenset({"https://shop.example"})) as running:
        yield running


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_of_another_origin_gets_no_socket(
    origin: str, shop_gateway: Gateway, tabled: Report
) -> None:
    named = Origin(origin.format(port=urlsplit(shop_gateway.url).port))
    with pytest.raises(InvalidStatus) as refused:
        async with opened(shop_gateway, additional_headers={"Origin": named}):
            pass
    tabled(f"HTTP {refused.value.response.status_code}")
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "origin", [None, "{url}", "https://shop.example"], ids=["a program", "own page", "allowed"]
)
async def test_programs_own_pages_and_allowed_pages_get_a_socket(
    origin: str | None, shop_gateway: Gateway
) -> None:
    named = Origin(origin.format(url=shop_gateway.url)) if origin else None
    async with subscriber(shop_gateway.url, origin=named) as connected:
        await round_trip(connected)


async def test_a_page_under_a_foreign_host_name_of_this_machine_gets_no_socket(
    gateway: Gateway,
) -> None:
    port = urlsplit(gateway.url).port
    foreign_host = f"evil.example:{port}"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"ws://{foreign_host}/graphql",
            host="127.0.0.1",
            port=port,
            origin=Origin(f"http://{foreign_host}"),
            subprotocols=[PROTOCOL],
        ):
            pass
    assert refused.value.response.status_code == 400


async def test_a_client_with_too_many_sockets_may_try_again_once_one_is_closed(
    gateway_with: GatewayWith, tabled: Report
) -> None:
    async with gateway_with(max_streams_per_client=2) as narrow, subscriber(narrow.url) as first:
        async with subscriber(narrow.url):
            for _ in range(3):
                async with opened(narrow) as refused:
                    code, reason = await end_of(refused)
                assert code == 1013
                assert "2" in reason
        tabled(f"{code} {reason}")

        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(ConnectionClosed):
                    async with subscriber(narrow.url) as second:
                        await round_trip(second)
                    break
        await round_trip(first)


async def test_only_the_operation_above_the_limit_is_refused(
    gateway_with: GatewayWith, tabled: Report
) -> None:
    async with (
        gateway_with(max_operations_per_socket=2) as narrow,
        subscriber(narrow.url) as client,
    ):
        job = await pending_job(narrow)
        running = [await client.subscribe(JOB_UPDATES, id=str(job.id)) for _ in range(2)]
        for updates in running:
            await anext(updates)

        await client.socket.send(subscribe("{ __typename }", "mine"))
        refused = await client.receive()
        assert (refused["type"], refused["id"]) == ("error", "mine")
        (error,) = refused["payload"]
        tabled(f"error {error}")
        extensions = {"code": "OPERATION_LIMIT_EXCEEDED", "limit": 2, "found": 3}
        assert error["extensions"] == extensions

        await running[0].stop()
        await client.socket.send(subscribe("{ __typename }", "mine"))
        assert [(await client.receive())["type"] for _ in range(2)] == ["next", "complete"]
        await cancel(narrow, job)
        assert [event["type"] for event in await running[1].rest()] == ["CANCELLED"]


def frames(*messages: str) -> bytes:
    """Encode the messages as masked frames."""
    return b"".join(
        Frame(Opcode.TEXT, message.encode()).serialize(mask=True) for message in messages
    )


async def raw_socket(
    gateway: Gateway, sock: socket.socket | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket whose client answers no pings."""
    address = urlsplit(gateway.url)
    where = {"sock": sock} if sock else {"host": address.hostname, "port": address.port}
    reader, writer = await asyncio.open_connection(limit=1024, **where)
    lines = (
        "GET /graphql HTTP/1.1",
        f"Host: {address.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {'A' * 22}==",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {PROTOCOL}",
    )
    writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    assert b"101 Switching Protocols" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_a_peer_that_answers_no_pings_is_dropped_and_others_are_not(
    gateway_with: GatewayWith, tabled: Report
) -> None:
    async with (
        gateway_with(socket_ping_seconds=1) as impatient,
        subscriber(impatient.url) as healthy,
    ):
        job = await pending_job(impatient)
        reader, writer = await raw_socket(impatient)
        began = time.monotonic()
        writer.write(frames(INIT, subscribe(JOB_UPDATES, variables={"id": str(job.id)})))
        async with asyncio.timeout(PATIENCE):
            received = await reader.read()
        tabled(f"dropped after {time.monotonic() - began:.1f} s")
        writer.close()
        assert b"SNAPSHOT" in received
        assert received.endswith(b"keepalive ping timeout")
        await until(lambda: watchers(impatient) == 0, healthy)


LARGE = """
subscription($after: String) {
  jobEvents(after: $after) { cursor type job { id duplication { description } } }
}
"""


def memory() -> int:
    """Resident bytes of this process, gateway included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def many_jobs(gateway: Gateway, source: UUID, number: int, description: str) -> list[UUID]:
    """Request `number` jobs at once, each with an event that carries `description`."""

    def request(tx: Transaction) -> list[UUID]:
        requester = Requester(factories.STORE, request_id="given")
        duplication = Duplication(source, description=description)
        return [jobs.request(tx, requester, duplication).job.id for _ in range(number)]

    return await gateway.database.write(request)


def narrow_connection(gateway: Gateway) -> socket.socket:
    """A connection with a small receive buffer."""
    address = urlsplit(gateway.url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((address.hostname, address.port))
    return narrow


async def test_a_peer_that_stops_reading_is_dropped_with_its_buffered_events(
    gateway_with: GatewayWith,
) -> None:
    async with (
        gateway_with(socket_ping_seconds=1) as impatient,
        subscriber(impatient.url) as healthy,
    ):
        source = await factories.hierarchy(impatient.database, {})
        await many_jobs(impatient, source, 100, "x" * 100_000)
        _, stuck = await raw_socket(impatient, narrow_connection(impatient))
        # Like a stopped process or a sleeping machine, whose kernel still acknowledges packets.
        stuck.transport.pause_reading()  # type: ignore[attr-defined]
        stuck.write(frames(INIT, subscribe(LARGE, variables={"after": BEGINNING})))
        await until(lambda: watchers(impatient) == 1, healthy)
        try:
            await until(lambda: watchers(impatient) == 0, healthy)
        finally:
            stuck.transport.abort()


async def test_a_peer_that_floods_pings_and_reads_no_pongs_is_dropped(
    gateway_with: GatewayWith, tabled: Report
) -> None:
    pings = Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 1000
    sent = 0
    async with gateway_with(socket_ping_seconds=1) as gateway:
        _, deaf = await raw_socket(gateway, narrow_connection(gateway))
        deaf.transport.pause_reading()  # type: ignore[attr-defined]
        before = memory()

        async def flood() -> None:
            nonlocal sent
            while True:
                deaf.write(pings)
                await deaf.drain()
                sent += len(pings)

        try:
            with pytest.raises(ConnectionError):
                # The flood ends when the peer is dropped.
                await asyncio.wait_for(flood(), PATIENCE)
        finally:
            grown = memory() - before
            deaf.transport.abort()
    tabled(f"{sent / 1e6:.1f} MB of pings, memory grew by {grown / 1e6:.1f} MB")
    assert grown < 10e6


EMPTY_PING = Frame(Opcode.PING, b"").serialize(mask=True)
EMPTY_PONG = Frame(Opcode.PONG, b"").serialize(mask=True)
FIRST_FRAGMENT = Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True)
NEXT_FRAGMENT = Frame(Opcode.CONT, b"x", fin=False).serialize(mask=True)
AT_ONCE = uvicorn_protocols.MAX_FRAMES_AT_ONCE


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        pytest.param(b"", EMPTY_PING, id="empty pings"),
        pytest.param(b"", EMPTY_PONG, id="empty pongs"),
        pytest.param(b"", frames('{"type":"ping"}'), id="ping messages"),
        pytest.param(b"", frames('{"type":"pong"}'), id="pong messages"),
        pytest.param(FIRST_FRAGMENT, NEXT_FRAGMENT, id="small fragments"),
    ],
)
async def test_more_frames_than_the_limit_close_the_socket_with_1008(
    first: bytes, repeated: bytes, acknowledged: bool, gateway: Gateway
) -> None:
    reader, writer = await raw_socket(gateway)
    if acknowledged:
        writer.write(frames(INIT))
        await reader.readuntil(b"connection_ack")
    # Twice the limit: the server may take a second to read them.
    writer.write(first + repeated * 2 * AT_ONCE)
    async with asyncio.timeout(PATIENCE):
        received = bytearray()
        while b"Too many messages" not in received:
            data = await reader.read(4096)
            assert data, bytes(received[-100:])
            received += data
    writer.close()
    assert received.endswith(b"\x88\x13\x03\xf0Too many messages")


async def test_frames_within_the_limit_are_answered_in_order(gateway: Gateway) -> None:
    reader, writer = await raw_socket(gateway)
    count = AT_ONCE // 2 - 1
    numbered = [f'{{"type":"ping","payload":{{"n":{n}}}}}' for n in range(count)]
    writer.write(EMPTY_PONG * count + frames(*numbered))
    async with asyncio.timeout(PATIENCE):
        for n in range(count):
            assert b'"n":%d}' % n in await reader.readuntil(b"}}")
    writer.close()


async def test_large_fragments_do_not_count(gateway: Gateway) -> None:
    blank = b" " * uvicorn_protocols.MIN_FRAGMENT_BYTES
    parts = gateway.settings.max_body_bytes // len(blank) - 1
    sent = b"".join(
        [
            Frame(Opcode.TEXT, b'{"type":"ping"}', fin=False).serialize(mask=True),
            *[Frame(Opcode.CONT, blank, fin=False).serialize(mask=True)] * parts,
            Frame(Opcode.CONT, b"").serialize(mask=True),
        ]
    )
    reader, writer = await raw_socket(gateway)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2 * AT_ONCE // parts):
            writer.write(sent)
            assert b"pong" in await reader.readuntil(b"}")
    writer.close()


async def test_other_clients_are_served_during_a_flood(gateway: Gateway) -> None:
    """The event loop turns between slices: answers arrive while a flood is parsed."""
    _, writer = await raw_socket(gateway)
    async with subscriber(gateway.url) as other:
        writer.write(frames('{"type":"ping"}') * (AT_ONCE - 1))
        for _ in range(20):
            await round_trip(other)
    writer.close()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param(f"X-Long: {'x' * 9_000}", b"431", id="a header of 9 KB"),
        pytest.param("\r\n".join(f"X-{n}: y" for n in range(150)), b"431", id="150 headers"),
        pytest.param("Content-Length: 5", b"400", id="a body"),
    ],
)
async def test_a_handshake_that_cannot_be_parsed_is_refused(
    header: str, status: bytes, gateway: Gateway
) -> None:
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    lines = (
        *("GET /graphql HTTP/1.1", f"Host: {address.netloc}", "Upgrade: websocket"),
        *("Connection: Upgrade", f"Sec-WebSocket-Key: {'A' * 22}=="),
        *("Sec-WebSocket-Version: 13", header, "", ""),
    )
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
    writer.close()


async def test_a_flood_of_pings_does_not_delay_the_init_timeout(
    gateway_with: GatewayWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SocketEndpoint", partial(SocketEndpoint, init_seconds=0.2))
    monkeypatch.setattr(uvicorn_protocols, "MAX_FRAMES_PER_SECOND", 10**9)
    async with gateway_with() as hasty:
        reader, writer = await raw_socket(hasty)
        flood = frames('{"type":"ping"}') * 1_000
        received = b""
        async with asyncio.timeout(PATIENCE):
            while b"Connection initialisation timeout" not in received:
                writer.write(flood)
                data = await reader.read(2**16)
                assert data
                received = received[-100:] + data
        writer.close()


async def test_a_closed_socket_leaves_no_cyclic_garbage(gateway: Gateway) -> None:
    async with subscriber(gateway.url) as connected:
        (protocol,) = [
            weakref.ref(connection)
            for connection in CONNECTIONS._addresses
            if isinstance(connection, uvicorn_protocols.BoundedWebSocketProtocol)
        ]
        await round_trip(connected)
    gc.disable()
    try:
        async with asyncio.timeout(PATIENCE):
            while protocol() is not None:  # noqa: ASYNC110, nothing announces it
                await asyncio.sleep(0)
    finally:
        gc.enable()


@pytest.mark.long
async def test_a_reader_stalled_for_thousands_of_events_delays_no_other_and_misses_nothing(
    gateway_with: GatewayWith, tabled: Report
) -> None:
    rounds, batch, description = 100, 20, "x" * 20_000
    unread = rounds * batch * len(description)
    async with (
        gateway_with() as gateway,
        subscriber(gateway.url) as other,
        subscriber(
            gateway.url, sock=(narrow := narrow_connection(gateway)), max_queue=1
        ) as stalled,
    ):
        source = await factories.hierarchy(gateway.database, {})
        slow = await stalled.subscribe(LARGE, after=BEGINNING)
        followed = await other.subscribe(FOLLOWED, after=BEGINNING)
        created: list[str] = []
        slowest_round = slowest_query = 0.0
        for number in range(rounds):
            if number == rounds // 2:
                # By now the database's cache and every other bounded buffer are full.
                halfway = memory()
            ids = await many_jobs(gateway, source, batch, description)
            began = time.monotonic()
            received = [event["job"]["id"] for event in await followed.take(batch)]
            slowest_round = max(slowest_round, time.monotonic() - began)
            assert received == [str(id) for id in ids]
            created += received

            began = time.monotonic()
            await other.socket.send(subscribe("{ jobs(first: 1) { totalCount } }", "q"))
            answer, end = await other.receive(), await other.receive()
            slowest_query = max(slowest_query, time.monotonic() - began)
            assert answer["payload"]["data"]["jobs"]["totalCount"] == (number + 1) * batch
            assert end == {"type": "complete", "id": "q"}
        grown = memory() - halfway

        (tail,) = gateway.feed._tails.values()
        assert len(tail.recent) == TAIL_EVENTS
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024**2)
        caught_up = [await anext(slow) for _ in created]

    tabled(
        f"{len(created)} events of {unread / 1e6:.0f} MB unread, memory grew by "
        f"{grown / 1e6:.0f} MB in the second half; another subscriber received {batch} events "
        f"within {slowest_round:.2f} s, a query took {slowest_query * 1000:.0f} ms at most"
    )
    assert [event["job"]["id"] for event in caught_up] == created
    assert {event["job"]["duplication"]["description"] for event in caught_up} == {description}
    assert grown < unread / 4


NAMES = ["connection_init", "ping", "pong", "subscribe", "complete", "next", "connection_ack"]
DOCUMENTS = [
    "{ __typename }",
    "{",
    "subscription { jobEvents { cursor } }",
    "query ($id: ID!) { job(id: $id) { id } }",
]
ANY_TEXT = st.text(st.characters(), max_size=20)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(ANY_TEXT, inside, max_size=4),
    max_leaves=10,
)
LIKE_MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(NAMES) | ANY_JSON},
    optional={
        "id": ANY_TEXT | ANY_JSON,
        "payload": ANY_JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "query": st.sampled_from(DOCUMENTS) | ANY_JSON,
                "variables": st.dictionaries(st.just("id") | ANY_TEXT, ANY_JSON) | ANY_JSON,
                "operationName": ANY_JSON,
                "extensions": st.dictionaries(st.just("persistedQuery"), ANY_JSON) | ANY_JSON,
                "Authorization": ANY_JSON,
            },
        ),
    },
)


@hypothesis.settings(max_examples=200, deadline=None)
@forall(message=LIKE_MESSAGES | ANY_JSON, acknowledged=st.booleans())
async def test_any_json_message_leaves_the_socket_open_or_closed_with_a_protocol_code(
    message: object, acknowledged: bool, gateway: Gateway
) -> None:
    async with opened(gateway) as connected:
        if acknowledged:
            await connected.send(INIT)
            await connected.recv()
        await connected.send(json.dumps(message))
        await connected.send('{"type": "ping", "payload": {"last": true}}')
        answer: dict[str, Any] = {}
        with suppress(ConnectionClosed):
            while answer.get("payload") != {"last": True}:
                answer = orjson.loads(await connected.recv())
        if answer.get("payload") != {"last": True}:
            assert connected.close_code in (4400, 4401, 4403, 4429)
            assert 1 <= len((connected.close_reason or "").encode()) <= MAX_REASON_BYTES
    async with subscriber(gateway.url) as another:
        await round_trip(another)


@pytest.fixture(scope="module")
async def guarded(gateway_with: GatewayWith) -> AsyncIterator[Gateway]:
    """A gateway that requires tokens."""
    async with gateway_with(jwt_secret=SecretStr(SECRET)) as running:
        yield running


def bearer(lifetime: timedelta = timedelta(hours=1), secret: str = SECRET) -> str:
    """An Authorization header for the store of the tests' jobs."""
    token = mint(
        secret,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject="tester",
        store=factories.STORE,
        lifetime=lifetime,
    )
    return f"Bearer {token}"


def init(**payload: object) -> str:
    """Encode a connection_init message."""
    return json.dumps({"type": "connection_init", "payload": payload})


@pytest.mark.parametrize(
    ("headers", "first", "code", "words"),
    [
        pytest.param({}, INIT, 4403, "bearer token", id="no token"),
        pytest.param({}, init(token="x"), 4403, "bearer token", id="a token by another name"),
        pytest.param({}, init(Authorization="Bearer x"), 4403, "not valid", id="no JWT"),
        pytest.param({}, init(Authorization="x"), 4403, "Bearer", id="without the word Bearer"),
        pytest.param({}, init(Authorization=""), 4403, "Bearer", id="empty"),
        pytest.param(
            {}, init(Authorization=bearer(secret="y" * 32)), 4403, "not valid", id="another secret"
        ),
        pytest.param(
            {},
            init(Authorization=bearer(timedelta(minutes=-5))),
            4403,
            "expired",
            id="long expired",
        ),
        pytest.param({"Authorization": "Bearer x"}, INIT, 4403, "not valid", id="a bad header"),
        pytest.param({}, init(Authorization=1), 4400, "string", id="a number"),
        pytest.param({}, init(Authorization=["Bearer x"]), 4400, "string", id="a list"),
        pytest.param({}, init(authorization={}), 4400, "string", id="an object"),
        pytest.param(
            {"Authorization": bearer()},
            subscribe("{ __typename }"),
            4401,
            "Unauthorized",
            id="subscribe before init",
        ),
    ],
)
async def test_a_socket_without_a_valid_token_is_closed(
    headers: Mapping[str, str],
    first: str,
    code: int,
    words: str,
    guarded: Gateway,
    tabled: Report,
) -> None:
    async with opened(guarded, additional_headers=headers) as connected:
        await check_close(connected, first, code, words, tabled)


@pytest.mark.parametrize(
    ("headers", "first"),
    [
        pytest.param({}, init(Authorization=bearer()), id="in connection_init"),
        pytest.param({}, init(authorization=bearer()), id="in small letters"),
        pytest.param({"Authorization": bearer()}, INIT, id="in the header"),
        pytest.param(
            {"Authorization": "Bearer x"}, init(Authorization=bearer()), id="in both, init wins"
        ),
    ],
)
async def test_a_socket_with_a_token_serves_its_store(
    headers: Mapping[str, str], first: str, guarded: Gateway
) -> None:
    async with opened(guarded, additional_headers=headers) as connected:
        await connected.send(first)
        assert await connected.recv() == '{"type":"connection_ack"}'
        await connected.send(subscribe("{ jobs { totalCount } }"))
        answer = orjson.loads(await connected.recv())
        assert answer["type"] == "next"
        assert "errors" not in answer["payload"]


async def test_a_socket_is_closed_when_its_token_expires_even_with_a_running_operation(
    guarded: Gateway, tabled: Report
) -> None:
    job = await pending_job(guarded)
    async with opened(guarded) as connected:
        # An expired token that the clock leeway admits for 4 s more.
        authorization = bearer(timedelta(seconds=4) - LEEWAY)
        began = time.time()
        await connected.send(init(Authorization=authorization))
        assert await connected.recv() == '{"type":"connection_ack"}'
        await connected.send(subscribe(JOB_UPDATES, variables={"id": str(job.id)}))
        assert "SNAPSHOT" in str(await connected.recv())
        async with asyncio.timeout(PATIENCE):
            code, reason = await end_of(connected)
        lasted = time.time() - began
    tabled(f"{code} {reason}, after {lasted:.1f} s")
    assert (code, reason) == (4403, "The token has expired")
    async with opened(guarded, additional_headers={"Authorization": bearer()}) as another:
        await another.send(INIT)
        await another.recv()
        async with asyncio.timeout(PATIENCE):
            while watchers(guarded):
                await another.send('{"type": "ping"}')
                await another.recv()
                await asyncio.sleep(0.005)
