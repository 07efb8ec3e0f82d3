"""Connections: bounds on what a client may send before, within and after a request."""

import asyncio
import json
import logging
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from websockets.frames import Frame, Opcode

from app.api.http import connection_limit, uvicorn_protocols
from app.api.http.uvicorn_protocols import BoundedHttpProtocol
from app.main import Gateway
from app.settings import Settings
from tests import factories
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.raw_http import in_chunks, posted, send_raw

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = json.dumps({"query": "{ __typename }"}).encode()
ANSWER = b'{"data":{"__typename":"Query"},"extensions":{"cost":{"requested":1,"limit":20000}}}'
PATIENCE = 20
CHUNKED = {"Content_Length": "", "Transfer_Encoding": "chunked"}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
async def gateway(new_database: NewDatabase) -> AsyncIterator[Gateway]:
    """One gateway for all clients of this file, which it has to survive."""
    settings = Settings(
        database_url=new_database("sqlite"), port=0, runner=False, max_requests_per_second=0
    )
    async with gateway_of(settings) as running:
        yield running


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[Streams]:
    """Open a connection."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read a response with a Content-Length. Return its status, headers and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, body


def get(*headers: str, version: str = "1.1", path: str = "/healthz") -> bytes:
    """Return a request without a body."""
    lines = (f"GET {path} HTTP/{version}", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode()


# Pipelined requests.


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    chunked = posted(in_chunks(BODY), **CHUNKED)
    with_length = posted(BODY)
    async with connected(gateway) as (reader, writer):
        for round_ in range(20):
            writer.write(GET + with_length + chunked + chunked + GET + with_length)
            bodies = [(await response(reader))[2] for _ in range(6)]
            healthy = bodies[0]
            assert bodies == [healthy, ANSWER, ANSWER, ANSWER, healthy, ANSWER], round_


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 97])
async def test_requests_in_pieces_of_any_size_are_answered(gateway: Gateway, size: int) -> None:
    sent = (GET + posted(BODY) + posted(in_chunks(BODY, 7), **CHUNKED)) * 2
    async with connected(gateway) as (reader, writer):
        answers = asyncio.gather(*[asyncio.create_task(_in_turn(reader, 6))])
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await writer.drain()
            # Another turn, so that the pieces are packets of their own.
            await asyncio.sleep(0)
        ((healthy, *bodies),) = await answers
    assert bodies == [ANSWER, ANSWER, healthy, ANSWER, ANSWER]


async def _in_turn(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    return [(await response(reader))[2] for _ in range(count)]


async def test_what_follows_a_request_is_not_parsed_before_its_response(
    gateway: Gateway,
) -> None:
    """The connection's protocol queues no request."""
    async with connected(gateway) as (reader, writer):
        await response_to(GET, reader, writer)
        (protocol,) = http_connections()
        writer.write(GET * 200)
        for _ in range(200):
            await response(reader)
            assert len(protocol.pipeline) == 0


def http_connections() -> list[BoundedHttpProtocol]:
    """Return the protocols of all open connections."""
    return [
        connection
        for connection in connection_limit.CONNECTIONS._addresses
        if isinstance(connection, BoundedHttpProtocol)
    ]


async def response_to(
    sent: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[int, dict[str, str], bytes]:
    """Send bytes and read a response."""
    writer.write(sent)
    return await response(reader)


# Heads and what is counted like them.


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(get(f"X-Long: {'x' * 70_000}"), 431, id="a header"),
        pytest.param(get(*(f"X-{i}: y" for i in range(201))), 431, id="201 headers"),
        pytest.param(get(path="/?" + "x" * 70_000), 414, id="a URL"),
        pytest.param(b"\r\n" * 40_000, 431, id="blank lines"),
        pytest.param(
            posted(b"0\r\n" + b"X-Trailer: x\r\n" * 10_000, **CHUNKED), 400, id="trailers"
        ),
        pytest.param(
            posted(b"0\r\nX-Trailer: " + b"x" * 70_000, **CHUNKED), 400, id="a long trailer"
        ),
        pytest.param(posted(b"1;" + b"x" * 70_000, **CHUNKED), 400, id="an extension of a chunk"),
        pytest.param(
            posted(b"1;%s\r\nx\r\n" % (b"x" * 1_000) * 100, **CHUNKED), 400, id="extensions"
        ),
    ],
)
async def test_a_head_or_trailers_above_the_limit_in_one_packet_are_refused(
    gateway: Gateway, sent: bytes, status: int
) -> None:
    answer = await send_raw(gateway.url, sent)
    assert answer.status == status
    assert answer.headers["connection"] == "close"


async def test_a_url_that_never_ends_gets_414(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(b"GET /?" + b"x" * 40_000)
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(b"x" * 40_000)
        assert (await response(reader))[0] == 414


async def test_trailers_do_not_become_headers(gateway: Gateway) -> None:
    chunks = in_chunks(BODY).removesuffix(b"\r\n") + b"X-Request-Id: trailer\r\n\r\n"
    answer = await send_raw(gateway.url, posted(chunks, X_Request_Id="header", **CHUNKED))
    assert answer.headers["x-request-id"] == "header"
    assert answer.body == ANSWER


async def test_a_body_in_chunks_of_one_byte_is_accepted(gateway: Gateway) -> None:
    answer = await send_raw(gateway.url, posted(in_chunks(BODY + b" " * 20_000, 1), **CHUNKED))
    assert answer.body == ANSWER


# Bodies that never end.


async def test_a_body_that_never_ends_closes_the_connection_after_its_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocols, "MAX_BODY_SECONDS", 0.5)
    async with connected(gateway) as (reader, writer):
        # Without the expectation the response ends after the body, or after MAX_DRAIN_SECONDS.
        writer.write(get("Content-Length: 10", "Expect: 100-continue"))
        assert (await response(reader))[0] == 200
        writer.write(b"x")
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        pytest.param("Content-Length: 1", b"x", id="one byte"),
        pytest.param("Transfer-Encoding: chunked", b"0\r\n\r\n", id="last chunk"),
        pytest.param("Transfer-Encoding: chunked", b"0\r\n\r\nGET / HT", id="part of a head"),
    ],
)
async def test_a_body_that_ends_after_its_answer_closes_the_idle_connection(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, framing: str, body: bytes
) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(get(framing, "Expect: 100-continue"))
        assert (await response(reader))[0] == 200
        monkeypatch.setattr(uvicorn_protocols, "MAX_HEAD_SECONDS", 0.1)
        writer.write(body)
        assert await reader.read() == b""


async def test_a_body_that_never_ends_closes_the_connection_of_a_stream(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocols, "MAX_BODY_SECONDS", 0.1)
    monkeypatch.setattr(uvicorn_protocols, "GRACE_SECONDS", 0.1)
    path = "/graphql?query=subscription{jobEvents{cursor}}"
    async with connected(gateway) as (reader, writer):
        writer.write(get("Content-Length: 10", "Accept: text/event-stream", path=path))
        assert b"200 OK" in await reader.read()


LARGE_QUERY = b'{"query":"{ __schema { types { fields { name description } } } }"}'


async def test_a_client_that_reads_no_answer_is_dropped(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_protocols, "MAX_UNREAD_SECONDS", 0.2)
    async with connected(gateway) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        sent = posted(LARGE_QUERY) * 100

        async def flood() -> None:
            while True:
                writer.write(sent)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await flood()


@asynccontextmanager
async def unread(gateway: Gateway) -> AsyncIterator[tuple[BoundedHttpProtocol, Streams]]:
    """Yield a connection with unsent bytes, and its protocol."""
    async with connected(gateway) as (reader, writer):
        await response_to(GET, reader, writer)
        (protocol,) = http_connections()
        protocol.transport.write(b"x" * 16 * 1024**2)
        assert protocol.transport.get_write_buffer_size()
        yield protocol, (reader, writer)


async def test_a_client_is_watched_below_the_low_water_mark_while_bytes_are_unsent(
    gateway: Gateway,
) -> None:
    async with unread(gateway) as (protocol, _):
        assert protocol._unread._timer
        # Called by the transport at the mark.
        protocol.resume_writing()
        assert protocol._unread._timer
        protocol.transport.abort()


async def test_a_client_that_reads_is_kept_though_later_answers_add_to_the_unsent_bytes(
    gateway: Gateway,
) -> None:
    async with unread(gateway) as (protocol, (reader, _)):
        watch = protocol._unread
        before = watch._progress()
        await reader.readexactly(12 * 1024**2)
        protocol.transport.write(b"x" * 32 * 1024**2)
        watch.stop()
        watch._check(before)
        assert not protocol.transport.is_closing()
        assert watch._timer
        protocol.transport.abort()


# Upgrades.

H2C = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2_Settings": "AAMAAABkAAQAoAAAAAIAAAAA",
}
EXPECT = {"Expect": "100-continue"}


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.2", "websocket", "x, websocket"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("later", [False, True])
async def test_an_offered_upgrade_is_ignored_and_the_body_is_read(
    gateway: Gateway,
    upgrade: str,
    chunked: bool,
    later: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    offer = {**H2C, "Upgrade": upgrade, **(EXPECT if later else {})}
    sent = posted(in_chunks(BODY), **offer, **CHUNKED) if chunked else posted(BODY, **offer)
    async with connected(gateway) as (reader, writer):
        # A second request proves that the first one had its bytes and no more.
        for _ in range(2):
            head = await sent_head(sent, reader, writer) if later else 0
            status, _, body = await response_to(sent[head:], reader, writer)
            assert (status, body) == (200, ANSWER)
        assert (await response_to(GET, reader, writer))[0] == 200
    assert caplog.records == []


async def sent_head(sent: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Send a head and wait for 100 Continue. Return its length."""
    length = sent.index(b"\r\n\r\n") + 4
    writer.write(sent[:length])
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    return length


async def test_a_body_after_an_offered_upgrade_is_no_request(gateway: Gateway) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sent = posted(smuggled, **H2C, **EXPECT)
    async with connected(gateway) as (reader, writer):
        head = await sent_head(sent, reader, writer)
        writer.write(sent[head:] + get("Connection: close"))
        status, _, body = await response(reader)
        assert (status, b"not JSON" in body) == (400, True)
        assert (await response(reader))[0] == 200
        assert await reader.read() == b""


async def test_a_duplicate_job_with_an_offered_upgrade_keeps_its_name(gateway: Gateway) -> None:
    id = await factories.hierarchy(gateway.database, {}, store="default")
    body = json.dumps({"data": {"type": "hierarchy", "attributes": {"name": "renamed"}}}).encode()
    sent = posted(body, **H2C).replace(b"/graphql", f"/pcm/hierarchies/{id}/duplicate_job".encode())
    answer = await send_raw(gateway.url, sent)
    assert answer.status == 201
    job = json.loads(answer.body)["data"]["id"]
    query = json.dumps({"query": f'{{ job(id: "{job}") {{ duplication {{ name }} }} }}'}).encode()
    named = await send_raw(gateway.url, posted(query))
    assert json.loads(named.body)["data"]["job"]["duplication"] == {"name": "renamed"}


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Transfer-Encoding: gzip"], 400),
        (["Transfer-Encoding: chunked, gzip"], 400),
        ([f"X-{i}: y" for i in range(201)], 431),
    ],
    ids=["gzip", "chunked and gzip", "201 headers"],
)
@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
async def test_an_invalid_head_that_offers_an_upgrade_is_refused(
    gateway: Gateway, upgrade: str, lines: list[str], status: int
) -> None:
    head = get("Connection: Upgrade", f"Upgrade: {upgrade}", *lines, path="/graphql")
    sent = head if status == 431 else head.replace(b"GET", b"POST")
    answer = await send_raw(gateway.url, sent)
    assert answer.status == status
    assert answer.headers["connection"] == "close"


# HTTP/1.0.


def posted_by_1_0(body: bytes, path: str = "/graphql", **headers: str) -> bytes:
    """Return the bytes of a POST of HTTP/1.0."""
    line = f"POST {path} HTTP/1.0".encode()
    return posted(body, **headers).replace(b"POST /graphql HTTP/1.1", line)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/graphql", {}, 200),
        ("/healthz", {}, 405),
        ("/nothing", {}, 404),
        ("/pcm/nothing", {}, 404),
        ("/graphql", {"Content_Type": "text/plain"}, 415),
        ("/graphql", {"Content_Encoding": "gzip"}, 415),
        ("/graphql", {"X_Forwarded_For": "192.0.2.1"}, 403),
        ("/oauth/access_token", {}, 400),
    ],
)
async def test_an_http_1_0_client_gets_a_whole_answer_though_its_body_is_not_read(
    gateway: Gateway, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await send_raw(gateway.url, posted_by_1_0(BODY, path, **headers))
    assert answer.status == status
    assert json.loads(answer.body)


async def test_an_http_1_0_client_gets_no_100_continue(gateway: Gateway) -> None:
    async with connected(gateway) as (reader, writer):
        writer.write(posted_by_1_0(BODY, **EXPECT))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert await reader.read() == ANSWER


@pytest.mark.parametrize(
    ("accept", "start"),
    [("text/event-stream", b":\n\n"), ('multipart/mixed;boundary="-"', b"\r\n--graphql")],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_only_http_1_1_gets_chunks(
    gateway: Gateway, accept: str, start: bytes, version: str
) -> None:
    path = "/graphql?query=subscription{jobEvents{cursor}}"
    async with connected(gateway) as (reader, writer):
        writer.write(get(f"Accept: {accept}", version=version, path=path))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        is_chunked = version == "1.1"
        assert (b"transfer-encoding: chunked" in head) == is_chunked
        assert (b"connection: close" in head) == (not is_chunked)
        await reader.readuntil(start) if is_chunked else None
        if not is_chunked:
            assert await reader.readexactly(len(start)) == start


async def test_an_http_1_0_client_gets_a_whole_stream_and_its_end(gateway: Gateway) -> None:
    path = "/graphql?query={__typename}"
    answer = await send_raw(gateway.url, get("Accept: text/event-stream", version="1.0", path=path))
    assert answer.status == 200
    assert answer.body.startswith(b":\n\nevent: next\ndata: ")
    assert answer.body.endswith(b"event: complete\ndata:\n\n")


# Encodings.


@pytest.mark.parametrize("path", [b"/graphql", b"/pcm/hierarchies", b"/nothing"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "x"])
async def test_a_compressed_body_gets_415(gateway: Gateway, path: bytes, encoding: str) -> None:
    sent = posted(b"\x1f\x8b" + BODY, Content_Encoding=encoding).replace(b"/graphql", path, 1)
    answer = await send_raw(gateway.url, sent)
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "identity"
    document = json.loads(answer.body)
    # A response of another route must not look like one of GraphQL or REST.
    (error,) = [document] if path == b"/nothing" else document["errors"]
    assert encoding in (error.get("message") or error["detail"])


async def test_an_identity_encoding_is_none(gateway: Gateway) -> None:
    answer = await send_raw(gateway.url, posted(BODY, Content_Encoding="identity"))
    assert answer.body == ANSWER


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Encoding: gzip"],
        ["Content-Encoding:"],
        ["Content-Encoding: x", "Content-Length: 0"],
    ],
)
async def test_a_request_without_a_body_has_no_encoding(gateway: Gateway, lines: list[str]) -> None:
    assert (await send_raw(gateway.url, get(*lines))).status == 200


async def test_an_empty_encoding_is_none(gateway: Gateway) -> None:
    sent = posted(BODY, Content_Encoding="-").replace(b"Encoding: -", b"Encoding:")
    assert (await send_raw(gateway.url, sent)).body == ANSWER


# Limits of all connections.


async def test_at_the_limit_an_idle_connection_makes_room_and_is_reported(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_limit, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(connection_limit.CONNECTIONS, "_warned_at", None)
    async with (
        connected(gateway) as (oldest, _),
        connected(gateway) as kept,
        connected(gateway) as kept_too,
    ):
        assert (await response_to(GET, *kept))[0] == 200
        async with connected(gateway) as newest:
            assert (await response_to(GET, *newest))[0] == 200
        assert await oldest.read() == b""
        assert (await response_to(GET, *kept_too))[0] == 200
    (line,) = [record.getMessage() for record in caplog.records]
    assert "all 3 connections are in use" in line


HANDSHAKE = get(
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    *(f"Sec-WebSocket-Key: {'A' * 22}==", "Sec-WebSocket-Protocol: graphql-transport-ws"),
    path="/graphql",
)
INIT = Frame(Opcode.TEXT, b'{"type":"connection_init"}').serialize(mask=True)


async def test_at_the_limit_a_socket_before_its_init_makes_room(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limit, "MAX_CONNECTIONS", 2)
    async with connected(gateway) as (kept, kept_writer), connected(gateway) as (waiting, writer):
        kept_writer.write(HANDSHAKE)
        await kept.readuntil(b"\r\n\r\n")
        kept_writer.write(INIT)
        assert b"connection_ack" in await kept.readuntil(b"}")
        writer.write(HANDSHAKE)
        await waiting.readuntil(b"\r\n\r\n")
        async with connected(gateway) as newest:
            assert (await response_to(GET, *newest))[0] == 200
        assert await waiting.read() == b""
        kept_writer.write(Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True))
        assert b"pong" in await kept.readuntil(b"}")


def test_the_limit_leaves_descriptors_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, connections in ((1024, 960), (256, 192), (64, 32), (10**6, 10_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert connection_limit.max_connections() == connections


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> object:
    """Fail on logged errors: nothing that a client sends is one."""
    yield
    assert [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR] == []
