"""GraphQL over HTTP: content negotiation, status codes, and refusal of hostile requests."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from app.api.graphql.admission.documents import Documents
from app.api.graphql.transports import http as transport
from app.api.graphql.transports.http import EVENT_STREAM, GRAPHQL_JSON, JSON, MULTIPART
from app.api.http import uvicorn_protocols
from app.api.http.middleware import body_limit
from app.main import Gateway
from app.settings import Settings
from tests import factories
from tests.support.clients import GraphQLClient, client_of, http_client
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.raw_http import in_chunks, posted, send_raw

URLENCODED = "application/x-www-form-urlencoded"
QUERY = "{ __typename }"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
APOLLO = "application/graphql-response+json,application/json;q=0.9"
APOLLO_3 = "*/*"
URQL = (
    "application/graphql-response+json, application/graphql+json, application/json, "
    "text/event-stream, multipart/mixed"
)
DUPLICATE = """
    mutation ($id: ID!) {
        duplicateHierarchy(input: {hierarchyId: $id}) { job { id } errors { __typename } }
    }
"""


@pytest.fixture
def settings(new_database: NewDatabase) -> Settings:
    """Settings for a gateway of one test: SQLite, as the kind of database does not matter here."""
    return Settings(database_url=new_database("sqlite"), port=0, runner=False)


@pytest.fixture(scope="module")
async def idle_gateway(new_database: NewDatabase) -> AsyncIterator[Gateway]:
    """One gateway for all requests of this file, which it has to survive."""
    settings = Settings(
        database_url=new_database("sqlite"), port=0, runner=False, max_requests_per_second=0
    )
    async with gateway_of(settings) as running:
        yield running


@pytest.fixture
def client(idle_client: GraphQLClient) -> httpx.AsyncClient:
    """An HTTP client of a gateway that runs no jobs."""
    return idle_client.http


def graphql_body(query: str, **more: Any) -> bytes:
    """Encode an operation as a JSON body."""
    return json.dumps({"query": query, **more}).encode()


def check_refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert one error with this code and no data; return the error."""
    assert response.status_code == status, response.text
    answer = response.json()
    assert answer.keys() == {"errors"}
    (error,) = answer["errors"]
    assert error["message"]
    assert error["extensions"]["code"] == code
    refusal: dict[str, Any] = error
    return refusal


# Content negotiation.


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        pytest.param(None, JSON, id="none"),
        pytest.param("", JSON, id="empty"),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        ("APPLICATION/JSON", JSON),
        ("application/json; charset=utf-8", JSON),
        (GRAPHQL_JSON, GRAPHQL_JSON),
        (GRAPHQL_JSON.upper(), GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}; charset=utf-8", GRAPHQL_JSON),
        (f"{JSON}, {GRAPHQL_JSON}", GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}, {JSON}", GRAPHQL_JSON),
        (f"{GRAPHQL_JSON};q=0.5, {JSON}", JSON),
        (f"{GRAPHQL_JSON}, {JSON};q=0.9", GRAPHQL_JSON),
        (f"{GRAPHQL_JSON};q=0, */*", JSON),
        (f"{JSON};q=0, {GRAPHQL_JSON}", GRAPHQL_JSON),
        (f"{JSON}, text/html;q=0.9", JSON),
        (f"image/png, {JSON};q=0.1", JSON),
        pytest.param(APOLLO, GRAPHQL_JSON, id="Apollo Client"),
        pytest.param(APOLLO_3, JSON, id="Apollo Client 3"),
        pytest.param(URQL, GRAPHQL_JSON, id="urql"),
        pytest.param(BROWSER, JSON, id="a browser's POST"),
    ],
)
async def test_an_answer_comes_in_the_media_type_that_accept_prefers(
    accept: str | None, answered: str, client: httpx.AsyncClient
) -> None:
    if accept is None:
        del client.headers["accept"]
    response = await client.post(
        "/graphql", json={"query": QUERY}, headers={} if accept is None else {"accept": accept}
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{answered}; charset=utf-8"
    assert response.headers["vary"] == "Accept"
    assert response.json()["data"] == {"__typename": "Query"}


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "text/html",
        f"{JSON};q=0",
        f"{JSON};q=0, {GRAPHQL_JSON};q=0",
        MULTIPART,
        "json",
        "a/b/c",
        "/",
        ";q=1",
        "application/json/json",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unsatisfiable_accept_gets_406_as_json(
    accept: str, method: str, client: httpx.AsyncClient
) -> None:
    operation: dict[str, Any] = (
        {"json": {"query": QUERY}} if method == "POST" else {"params": {"query": QUERY}}
    )
    response = await client.request(method, "/graphql", headers={"accept": accept}, **operation)
    check_refused(response, 406, "NOT_ACCEPTABLE")
    assert response.headers["content-type"] == f"{JSON}; charset=utf-8"


@pytest.mark.parametrize("more", ["a", ";", "a/b/c", "text/html;q=x", ",", "*/*;q=nan"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_partly_malformed_accept_is_no_server_error(
    more: str, method: str, client: httpx.AsyncClient
) -> None:
    for accept in (f"text/html, {more}", f"{more}, text/html", f"{more}, {JSON}"):
        response = await client.request(method, "/graphql", headers={"accept": accept})
        assert response.status_code < 500, accept


async def test_an_accept_above_the_limit_accepts_any_media_type(client: httpx.AsyncClient) -> None:
    accept = GRAPHQL_JSON + ", a/b" * transport.MAX_MEDIA_TYPES_LENGTH
    response = await client.post("/graphql", json={"query": QUERY}, headers={"accept": accept})
    assert response.headers["content-type"] == f"{JSON}; charset=utf-8"
    assert response.json()["data"] == {"__typename": "Query"}


# Statuses.


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        pytest.param(
            {"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED", id="a validation error"
        ),
        pytest.param(
            {"query": "query a { __typename }", "operationName": "b"},
            "OPERATION_RESOLUTION_FAILURE",
            id="an unknown operation",
        ),
        pytest.param(
            {"query": QUERY, "operationName": "b"},
            "OPERATION_RESOLUTION_FAILURE",
            id="a name for an operation without one",
        ),
        pytest.param(
            {"query": "query a { __typename } query b { __typename }"},
            "OPERATION_RESOLUTION_FAILURE",
            id="two operations and no name",
        ),
        pytest.param(
            {
                "query": "query ($first: Int) { jobs(first: $first) { totalCount } }",
                "variables": {"first": "many"},
            },
            "BAD_USER_INPUT",
            id="a variable of another type",
        ),
        pytest.param(
            {"query": "query ($id: ID!) { node(id: $id) { id } }"},
            "BAD_USER_INPUT",
            id="a variable that is missing",
        ),
        pytest.param(
            {"query": "{ a " + "{ a " * 30 + "}" * 31}, "DEPTH_LIMIT_EXCEEDED", id="too deep"
        ),
        pytest.param(
            {"query": "{" + " __typename" * 5000 + "}"}, "TOKEN_LIMIT_EXCEEDED", id="too long"
        ),
        pytest.param(
            {
                "query": "{ hierarchies(first: 100) { nodes "
                "{ children(first: 100) { nodes { id name slug } } } } }"
            },
            "COST_LIMIT_EXCEEDED",
            id="too costly",
        ),
    ],
)
async def test_an_invalid_operation_gets_422_also_as_plain_json(
    payload: dict[str, Any], code: str, client: httpx.AsyncClient
) -> None:
    for media_type in (GRAPHQL_JSON, JSON):
        response = await client.post("/graphql", json=payload, headers={"accept": media_type})
        check_refused(response, 422, code)


async def test_an_error_during_execution_gets_294_or_as_plain_json_200(
    client: httpx.AsyncClient,
) -> None:
    payload = {"query": '{ __typename node(id: "nothing") { id } jobs(first: -1) { totalCount } }'}
    for media_type, status in ((GRAPHQL_JSON, 294), (JSON, 200)):
        response = await client.post("/graphql", json=payload, headers={"accept": media_type})
        assert response.status_code == status
        answer = response.json()
        assert answer["data"] is None
        assert answer["errors"][0]["extensions"]["code"] == "INVALID_INPUT"


async def test_one_of_several_operations_is_run_by_its_name(client: httpx.AsyncClient) -> None:
    document = "query a { a: __typename } query b { b: __typename }"
    for name in ("a", "b"):
        response = await client.post("/graphql", json={"query": document, "operationName": name})
        assert response.json()["data"] == {name: "Query"}


async def test_null_and_unknown_parameters_are_ignored(
    client: httpx.AsyncClient,
) -> None:
    parameters = {"operationName": None, "variables": None, "extensions": None, "documentId": None}
    response = await client.post(
        "/graphql", json={**parameters, "query": QUERY, "id": 7, "nope": []}
    )
    assert response.json()["data"] == {"__typename": "Query"}


# Methods.


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
async def test_other_methods_get_405_with_the_allowed_methods(
    method: str, client: httpx.AsyncClient
) -> None:
    response = await client.request(method, "/graphql", headers={"accept": "*/*"})
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"
    assert response.headers["content-type"] == f"{JSON}; charset=utf-8"
    if method != "HEAD":
        check_refused(response, 405, "METHOD_NOT_ALLOWED")


async def test_a_query_may_be_sent_by_get(client: httpx.AsyncClient) -> None:
    response = await client.get(
        "/graphql",
        params={
            "query": "query a { __typename } query b($id: ID!) { node(id: $id) { id } }",
            "operationName": "b",
            "variables": '{"id": "none"}',
            "extensions": '{"anything": 1}',
            "and": "more",
        },
    )
    assert response.status_code == 200
    assert response.json()["data"] == {"node": None}


async def test_a_mutation_by_get_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, idle_gateway: Gateway
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    parameters = {
        "query": DUPLICATE + "query harmless { __typename }",
        "variables": json.dumps({"id": str(source)}),
    }
    named = {**parameters, "query": parameters["query"].replace("mutation", "mutation harmful")}
    for media_type in (JSON, GRAPHQL_JSON, EVENT_STREAM, "*/*"):
        response = await client.get(
            "/graphql",
            params={**named, "operationName": "harmful"},
            headers={"accept": media_type},
        )
        check_refused(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "POST"
    counted = await client.post("/graphql", json={"query": "{ jobs { totalCount } }"})
    assert counted.json()["data"]["jobs"]["totalCount"] == 0


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param([], id="no parameters"),
        pytest.param([("query", QUERY), ("variables", "{")], id="broken variables"),
        pytest.param([("query", QUERY), ("variables", "1")], id="variables that are a number"),
        pytest.param([("query", QUERY), ("variables", "[]")], id="variables that are a list"),
        pytest.param([("query", QUERY), ("variables", "[" * 4000)], id="nested variables"),
        pytest.param([("query", QUERY), ("extensions", "nope")], id="broken extensions"),
        pytest.param([("query", QUERY), ("extensions", '"s"')], id="extensions that are a string"),
        pytest.param([("query", QUERY), ("query", QUERY)], id="two queries"),
        pytest.param(
            [("query", QUERY), ("variables", "{}"), ("variables", "{}")], id="variables twice"
        ),
        pytest.param([("query", QUERY), ("x", "1"), ("x", "1")], id="another parameter twice"),
    ],
)
async def test_ambiguous_or_malformed_url_parameters_are_refused(
    parameters: list[tuple[str, str]], client: httpx.AsyncClient
) -> None:
    response = await client.get("/graphql", params=urlencode(parameters))
    check_refused(response, 422, "BAD_REQUEST")


async def test_undecodable_bytes_in_a_url_are_refused(idle_gateway: Gateway) -> None:
    for query in ("%FF%FE", "%ED%A0%80", "%00", "{%00}", "%", "{a%"):
        answer = await send_raw(
            idle_gateway.url,
            f"GET /graphql?query={query} HTTP/1.1\r\nHost: localhost\r\n"
            f"Accept: {GRAPHQL_JSON}\r\n\r\n".encode(),
        )
        assert answer.status == 400, query
        assert answer.errors


# Bodies.


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/plain; application/json",
        URLENCODED,
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/graphql+json",
        "application/json-patch+json",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "*/*",
        "json",
        "application/json/json",
        "application",
    ],
)
async def test_a_body_not_declared_as_json_in_utf_8_is_refused(
    content_type: str, client: httpx.AsyncClient
) -> None:
    response = await client.post(
        "/graphql",
        content=graphql_body(QUERY),
        headers={"content-type": content_type} if content_type else {},
    )
    check_refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert response.headers["content-type"] == f"{JSON}; charset=utf-8"


@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        "Application/JSON",
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json; odata=verbose",
        "application/json;",
    ],
)
async def test_a_body_declared_as_json_in_utf_8_is_accepted(
    content_type: str, client: httpx.AsyncClient
) -> None:
    response = await client.post(
        "/graphql", content=graphql_body(QUERY), headers={"content-type": content_type}
    )
    assert response.status_code == 200, response.text


@dataclass(frozen=True)
class Hostile:
    """A malformed or abusive request, and the status it must get."""

    name: str
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    half_closed: bool = False
    """The client closes its side of the connection after the body."""
    of_http: bool = False
    """The request is not valid HTTP, so no JSON error can answer it."""

    def sent(self, accept: str) -> bytes:
        """Encode the request."""
        return posted(self.body, **{"Accept": accept, **self.headers})


FIVE_MB = 5 * 1024**2
NESTED = 200_000
CHUNKED = {"Content_Length": "", "Transfer_Encoding": "chunked"}
LIKE = "query ($name: StringFilter) { hierarchies(filter: {name: $name}) { totalCount } }"
FIRST = "query ($first: Int) { jobs(first: $first) { totalCount } }"
SINCE = "{ jobs(filter: {createdAt: {gte: %s}}) { totalCount } }"


def hostile_bodies() -> Iterator[Hostile]:
    for text in ("null", "123", '"s"', "[]", "true", "{}"):
        yield Hostile(text, 422, text.encode())
    yield Hostile('{"query":""}', 400, b'{"query":""}')
    for value in ("null", "1", '["a"]', "{}", "true"):
        yield Hostile(f'{{"query":{value}}}', 422, b'{"query":%s}' % value.encode())
    for key, values in {
        "variables": ('"{}"', "[]", "1", "true"),
        "extensions": ('"{}"', "[]", "1"),
        "operationName": ("1", "[]", "{}", "true"),
        "documentId": ("1", "{}", '"short"'),
    }.items():
        for value in values:
            body = b'{"query":"{ __typename }","%s":%s}' % (key.encode(), value.encode())
            yield Hostile(f"{key}: {value}", 422, body)
    for value in ("1", "[]", '{"sha256Hash":1}', '{"sha256Hash":"short"}'):
        body = b'{"query":"{ __typename }","extensions":{"persistedQuery":%s}}' % value.encode()
        yield Hostile(f"persistedQuery: {value}", 422, body)
    yield Hostile("empty", 400, b"")
    yield Hostile("white space", 400, b" \r\n\t")
    yield Hostile("truncated", 400, b'{"query":"{ __typena')
    yield Hostile("two values", 400, graphql_body(QUERY) * 2)
    yield Hostile("invalid UTF-8", 400, b'{"query":"{ \xff\xfe }"}')
    yield Hostile("invalid UTF-8 outside of strings", 400, b"\x80")
    yield Hostile("overlong UTF-8", 400, b'{"query":"{ \xc0\xaf }"}')
    yield Hostile("a surrogate in UTF-8", 400, b'{"query":"{ \xed\xa0\x80 }"}')
    yield Hostile(
        "UTF-16 with a byte order mark", 400, graphql_body(QUERY).decode().encode("utf-16")
    )
    yield Hostile(
        "UTF-16 without a byte order mark", 400, graphql_body(QUERY).decode().encode("utf-16-le")
    )
    yield Hostile("UTF-32", 400, graphql_body(QUERY).decode().encode("utf-32"))
    yield Hostile("UTF-8 with a byte order mark", 400, b"\xef\xbb\xbf" + graphql_body(QUERY))
    yield Hostile("half a surrogate pair in the query", 400, b'{"query":"{ \\ud800 }"}')
    half = b'{"query":"%s","variables":{"name":{"eq":"\\udc00"}}}' % LIKE.encode()
    yield Hostile("half a surrogate pair in variables", 400, half)
    written = graphql_body('{ node(id: "\\uD800") { id } }')
    yield Hostile("half a surrogate pair as GraphQL", 400, written)
    written = graphql_body('{ node(id: "\\u{110000}") { id } }')
    yield Hostile("an invalid code point", 400, written)
    yield Hostile("NUL outside of strings", 400, b"\0" + graphql_body(QUERY))
    yield Hostile("NUL in a string", 400, b'{"query":"{ \0 }"}')
    yield Hostile("NUL in the query", 400, graphql_body("{ \0 }"))
    yield Hostile("only NULs", 400, b"\0" * 1000)
    for number in ("NaN", "Infinity", "-Infinity", "1e400", "0x1", "1_000", "01", "+1"):
        body = b'{"query":"%s","variables":{"first":%s}}' % (FIRST.encode(), number.encode())
        yield Hostile(f"the number {number}", 400, body)
    # orjson refuses integers of too many digits, as JSON that it cannot read.
    for name, number, status in (
        ("10^30", "1" + "0" * 30, 422),
        ("100,000 digits", "9" * 100_000, 400),
    ):
        body = b'{"query":"%s","variables":{"first":%s}}' % (FIRST.encode(), number.encode())
        yield Hostile(f"a number of {name}", status, body)
        yield Hostile(
            f"a number of {name} in the query",
            422,
            graphql_body(f"{{ jobs(first: {number}) {{ totalCount }} }}"),
        )
        yield Hostile(f"a date of {name} in the query", 422, graphql_body(SINCE % number))
    yield Hostile("1e400 in the query", 422, graphql_body("{ jobs(first: 1e400) { totalCount } }"))
    # As many as fit into a body, and more.
    for many in (60_000, NESTED):
        fits = 400 if many < NESTED else 413
        yield Hostile(f"{many:,} brackets", fits, b"[" * many)
        pairs = many // 2 if fits == 400 else many
        yield Hostile(f"{pairs:,} pairs of brackets", fits, b"[" * pairs + b"]" * pairs)
        yield Hostile(f"{many:,} braces in the query", fits, graphql_body("{a" * (many // 2)))
        yield Hostile(f"{many:,} brackets in the query", fits, graphql_body("{a(a:" + "[" * many))
        deep = b'{"query":"{ __typename }","variables":{"a":' + b"[" * many
        yield Hostile(f"{many:,} brackets in variables", fits, deep)
    deep = b'{"query":"%s","variables":{"name":%s}}'
    for many in (100, 1_000):
        nested = b'{"in":' * many + b"1" + b"}" * many
        yield Hostile(f"{many:,} closed objects in variables", 422, deep % (LIKE.encode(), nested))
    for name, unit in {
        "lists": ("{ jobs(first: ", "[", "1", "]", ") { totalCount } }"),
        "objects": ("{ jobs(filter: ", "{a:", "1", "}", ") { totalCount } }"),
        "selections": ("{", "a{", "b", "}", "}"),
        "fragments": ("{", "... {", "b", "}", "}"),
        "types": ("query ($a: ", "[", "Int", "]", ") { __typename }"),
    }.items():
        before, opened, inside, closed, after = unit
        # Deeper ones cannot be parsed.
        for many, status in ((150, 422), (300, 400), (480, 400)):
            document = before + opened * many + inside + closed * many + after
            yield Hostile(f"{many} {name} in the query", status, graphql_body(document))
    twice = " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(120))
    doubling = graphql_body(f"{{ ...f0 }} {twice} fragment f120 on Query {{ __typename }}")
    yield Hostile("fragments that double 120 times", 422, doubling)
    large = graphql_body(QUERY) + b" " * FIVE_MB
    yield Hostile("5 MB", 413, large)
    yield Hostile("5 MB in chunks", 413, in_chunks(large), CHUNKED)
    yield Hostile("5 MB in chunks of a byte", 413, in_chunks(large[:300_000], 1), CHUNKED)
    yield Hostile("5 MB of a form", 413, large, {"Content_Type": URLENCODED})
    yield Hostile(
        "5 MB of a form in chunks", 415, in_chunks(large), {**CHUNKED, "Content_Type": URLENCODED}
    )
    yield Hostile("5 MB for an unavailable media type", 413, large, {"Accept": "image/png"})
    yield Hostile("5 MB and Connection: close", 413, large, {"Connection": "close"})
    yield Hostile(
        "5 MB in chunks and Connection: close",
        413,
        in_chunks(large),
        {**CHUNKED, "Connection": "close"},
    )
    full = graphql_body(QUERY) + b" " * 130_000
    yield Hostile(
        "a form and Connection: close",
        415,
        full,
        {"Connection": "close", "Content_Type": URLENCODED},
    )
    form = {**CHUNKED, "Connection": "close", "Content_Type": URLENCODED}
    yield Hostile("5 MB of a form in chunks and Connection: close", 415, in_chunks(large), form)
    yield Hostile(
        "compressed", 415, b"\x1f\x8b" + graphql_body(QUERY), {"Content_Encoding": "gzip"}
    )
    yield Hostile(
        "a body shorter than its Content-Length", 400, graphql_body(QUERY)[:-1], half_closed=True
    )
    shorter = {"Content_Length": "5"}
    yield Hostile(
        "a body longer than its Content-Length", 400, graphql_body(QUERY), shorter, of_http=True
    )
    for length in ("many", "-1", "1.5", "0x10", "99999999999999999999999", "1, 2"):
        body = graphql_body(QUERY)
        yield Hostile(
            f"Content-Length: {length}", 400, body, {"Content_Length": length}, of_http=True
        )
    yield Hostile("malformed chunks", 400, b"zz\r\nnothing\r\n", CHUNKED, of_http=True)


@pytest.mark.parametrize("hostile", [*hostile_bodies()], ids=lambda hostile: hostile.name)
async def test_a_hostile_body_is_refused(
    hostile: Hostile,
    idle_gateway: Gateway,
    tabled: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await send_raw(
        idle_gateway.url, hostile.sent(GRAPHQL_JSON), half_closed=hostile.half_closed
    )
    tabled(f"-> {answer.status}")
    assert answer.status == hostile.status
    if not hostile.of_http:
        assert answer.errors
        assert "json" in answer.headers["content-type"]
    plain = await send_raw(idle_gateway.url, hostile.sent(JSON), half_closed=hostile.half_closed)
    assert plain.status == hostile.status
    if not hostile.of_http:
        assert plain.errors
    served = await send_raw(idle_gateway.url, posted(graphql_body(QUERY)))
    assert served.status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("many", [10_000, NESTED])
async def test_deep_nesting_within_the_body_limit_is_refused(
    many: int, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    roomy = settings.model_copy(update={"max_body_bytes": 4 * 1024**2, "max_tokens": 10**6})
    async with gateway_of(roomy) as gateway:
        for body in (
            b"[" * many,
            b"[" * many + b"]" * many,
            b'{"query":"{ __typename }","variables":' + b'{"a":' * many + b"1" + b"}" * many + b"}",
            graphql_body("{a" * many + "}" * many),
            graphql_body("{a(a:" + "[" * many + "]" * many + ")}"),
        ):
            answer = await send_raw(gateway.url, posted(body, Accept=GRAPHQL_JSON))
            assert answer.status in (400, 422)
            assert answer.errors
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_the_last_of_two_equal_keys_counts(client: httpx.AsyncClient) -> None:
    body = b'{"query":"{ nothing }","query":"{ __typename }"}'
    response = await client.post("/graphql", content=body, headers={"content-type": JSON})
    assert response.json()["data"] == {"__typename": "Query"}


async def test_a_large_body_that_never_arrives_is_refused(
    idle_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_limit, "MAX_DRAIN_SECONDS", 0.1)
    answer = await send_raw(idle_gateway.url, posted(b"{", Content_Length=str(10**12)))
    assert answer.status == 413
    assert answer.errors[0]["extensions"]["found"] == 10**12


async def test_expect_100_continue_for_a_large_body_is_refused(idle_gateway: Gateway) -> None:
    head = posted(b"", Content_Length=str(FIVE_MB), Expect="100-continue")
    answer = await send_raw(idle_gateway.url, head)
    assert answer.status == 413
    assert answer.errors[0]["extensions"]["code"] == "BODY_TOO_LARGE"


async def test_a_client_that_disconnects_within_a_body_causes_no_error(
    idle_gateway: Gateway, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(idle_gateway.url)
    for sent in (
        posted(b'{"query":', Content_Length="1000"),
        posted(b"5\r\n{    \r\n", **CHUNKED),
        posted(b"{" * 1000, Content_Length=str(FIVE_MB)),
    ):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await client.post("/graphql", json={"query": QUERY})).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "head",
    [b"X-Long: " + b"x" * 500_000, b"".join(b"X-%d: y\r\n" % number for number in range(50_000))],
    ids=["one header", "many headers"],
)
async def test_an_endless_head_is_refused(
    idle_gateway: Gateway, client: httpx.AsyncClient, head: bytes
) -> None:
    address = urlsplit(idle_gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"GET /graphql HTTP/1.1\r\nHost: localhost\r\n" + head)
    # The head never ends; the server reads a bounded part of it.
    assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    assert (await client.post("/graphql", json={"query": QUERY})).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /graphql HTTP/1.1\r\nHost: localhost\r\n"])
@pytest.mark.parametrize("first", [True, False], ids=["first request", "after another"])
async def test_an_incomplete_head_closes_the_connection(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, sent: bytes, first: bool
) -> None:
    if first:
        monkeypatch.setattr(uvicorn_protocols, "MAX_HEAD_SECONDS", 0.3)
    async with gateway_of(settings) as gateway:
        address = urlsplit(gateway.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        if not first:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"}")
            monkeypatch.setattr(uvicorn_protocols, "MAX_HEAD_SECONDS", 0.3)
        writer.write(sent)
        # This limit spares connections idle between requests; uvicorn closes those after 5 s.
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_never_arrives_gets_408(
    idle_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(body_limit, "MAX_DRAIN_SECONDS", 0.1)
    answer = await send_raw(idle_gateway.url, posted(b'{"query":', Content_Length="1000"))
    assert answer.status == 408
    assert answer.errors[0]["extensions"]["code"] == "REQUEST_TIMEOUT"


async def test_a_long_complete_head_and_its_body_are_accepted(
    idle_gateway: Gateway,
) -> None:
    body = graphql_body(QUERY) + b" " * 100_000
    answer = await send_raw(idle_gateway.url, posted(body, X_Long="x" * 50_000))
    assert answer.status == 200


async def test_a_bug_outside_of_execution_gets_500_with_only_the_request_id(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Documents, "admit", broken)
    async with gateway_of(settings) as gateway, http_client(gateway.url) as http:
        answer = await http.post("/graphql", json={"query": QUERY}, headers={"x-request-id": "r"})
    assert answer.status_code == 500
    assert answer.json() == {
        "errors": [
            {
                "message": "Internal Server Error",
                "extensions": {"code": "INTERNAL_SERVER_ERROR", "requestId": "r"},
            }
        ]
    }
    assert answer.headers["x-request-id"] == "r"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "request r failed" in caplog.text


# Batches.


async def test_a_batch_is_answered_in_order_with_errors_per_operation(
    client: httpx.AsyncClient,
) -> None:
    batch: list[Any] = [
        {"query": "{ a: __typename }"},
        {"query": "{"},
        {"query": "{ nothing }"},
        {"query": "{ jobs(first: -1) { totalCount } }"},
        17,
        {"variables": {}},
        [],
        {"query": "subscription { jobEvents { cursor } }"},
        {"query": "{ b: __typename }"},
    ]
    response = await client.post("/graphql", json=batch)
    assert response.status_code == 200
    first, *broken, last = response.json()
    assert first["data"] == {"a": "Query"}
    assert last["data"] == {"b": "Query"}
    assert [answer["errors"][0]["extensions"]["code"] for answer in broken] == [
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "INVALID_INPUT",
        *["BAD_REQUEST"] * 4,
    ]


async def test_a_batch_above_the_limit_is_refused_as_a_whole(
    client: httpx.AsyncClient, idle_gateway: Gateway
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    mutation = {"query": DUPLICATE, "variables": {"id": str(source)}}
    error = check_refused(
        await client.post("/graphql", json=[mutation] * 11), 422, "BATCH_LIMIT_EXCEEDED"
    )
    assert error["extensions"] == {"code": "BATCH_LIMIT_EXCEEDED", "limit": 10, "found": 11}
    counted = await client.post("/graphql", json=[{"query": "{ jobs { totalCount } }"}] * 10)
    assert [answer["data"]["jobs"]["totalCount"] for answer in counted.json()] == [0] * 10


async def test_batches_can_be_disabled(settings: Settings) -> None:
    alone = settings.model_copy(update={"max_batch": 0})
    async with gateway_of(alone) as gateway, client_of(gateway) as client:
        response = await client.http.post("/graphql", json=[{"query": QUERY}])
        check_refused(response, 422, "BATCH_LIMIT_EXCEEDED")


async def test_the_cost_limit_applies_to_a_whole_batch(settings: Settings) -> None:
    cheap = settings.model_copy(update={"max_cost": 10})
    two, four = (
        "{ " + " ".join(f"a{n}: __typename" for n in range(many)) + " }" for many in (2, 4)
    )
    async with gateway_of(cheap) as gateway, client_of(gateway) as client:
        batch = [{"query": query} for query in (four, four, four, two)]
        first, second, third, fourth = (await client.http.post("/graphql", json=batch)).json()
    assert "errors" not in first
    assert "errors" not in second
    (error,) = third["errors"]
    assert error["extensions"] == {"code": "COST_LIMIT_EXCEEDED", "limit": 10, "found": 12}
    # A refused operation adds no cost.
    assert "errors" not in fourth


# A browser's page.


async def test_a_browser_without_a_query_gets_the_playground(client: httpx.AsyncClient) -> None:
    browser = {"accept": BROWSER}
    page = await client.get("/graphql", headers=browser)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "Accept" in page.headers["vary"]

    for response in (
        await client.get("/graphql", params={"query": QUERY}, headers=browser),
        await client.post("/graphql", json={"query": QUERY}, headers=browser),
    ):
        assert response.json()["data"] == {"__typename": "Query"}
    for accept in ("*/*", JSON, GRAPHQL_JSON, f"{JSON}, text/html;q=0.9"):
        check_refused(await client.get("/graphql", headers={"accept": accept}), 422, "BAD_REQUEST")


async def test_without_a_playground_a_browser_gets_json_errors(settings: Settings) -> None:
    bare = settings.model_copy(update={"playground": False})
    async with gateway_of(bare) as gateway, client_of(gateway) as client:
        check_refused(
            await client.http.get("/graphql", headers={"accept": BROWSER}), 422, "BAD_REQUEST"
        )
        check_refused(
            await client.http.get("/graphql", headers={"accept": "text/html"}),
            406,
            "NOT_ACCEPTABLE",
        )
        assert (await client.http.get("/playground/")).status_code == 404


# Headers of every response.


async def test_every_response_has_the_security_headers(
    client: httpx.AsyncClient, idle_gateway: Gateway
) -> None:
    page = await client.get("/graphql", headers={"accept": "text/html"})
    (script, *_) = [part.split('"')[0] for part in page.text.split('src="')[1:]]
    answers = {
        "200": await client.post("/graphql", json={"query": QUERY}),
        "400": await client.post("/graphql", json={"query": "{"}),
        "422": await client.post("/graphql", json={}),
        "404": await client.get("/nothing"),
        "404 below the playground": await client.get("/playground/nothing"),
        "405": await client.put("/graphql"),
        "405 elsewhere": await client.post("/healthz"),
        "406": await client.get("/graphql", headers={"accept": "image/png"}),
        "413": await client.post("/graphql", content=b" " * 200_000),
        "415": await client.post("/graphql", content=b"{}"),
        "page": page,
        "script": await client.get(f"/{script.lstrip('/')}"),
        "healthz": await client.get("/healthz"),
        "readyz": await client.get("/readyz"),
        "front": await client.get("/"),
        "host": await client.get("/graphql", headers={"host": "evil.example"}),
        "stream": await client.post(
            "/graphql", json={"query": QUERY}, headers={"accept": EVENT_STREAM}
        ),
    }
    for name, answer in answers.items():
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff", name
        assert headers["x-frame-options"] == "DENY", name
        assert headers["referrer-policy"] == "no-referrer", name
        assert headers["cross-origin-resource-policy"] == "same-origin", name
        assert "default-src 'none'" in headers["content-security-policy"], name
        assert "frame-ancestors 'none'" in headers["content-security-policy"], name
        assert headers["x-request-id"], name
        assert not [key for key in headers if key.startswith("access-control-")], name
    for name in ("200", "400", "404", "413", "healthz", "stream"):
        assert answers[name].headers["cache-control"] == "no-store", name


@pytest.mark.parametrize("id", ["mine", "a.b_c:d-e", "x" * 128, "01J9-7"])
async def test_a_valid_request_id_is_kept(id: str, client: httpx.AsyncClient) -> None:
    for path in ("/graphql", "/healthz", "/nothing"):
        assert (await client.get(path, headers={"x-request-id": id})).headers["x-request-id"] == id


@pytest.mark.parametrize("id", ["", "x" * 129, "a b", "a\tb", "<script>", "a;b", "a,b", "\xe4"])
async def test_an_invalid_request_id_is_replaced(id: str, client: httpx.AsyncClient) -> None:
    sent = {b"x-request-id": id.encode("latin-1")}
    answered = (await client.get("/healthz", headers=sent)).headers["x-request-id"]
    assert answered != id
    assert len(answered) == 36


# Pages of other origins.

SHOP, EVIL = "https://shop.example", "https://evil.example"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


async def test_other_origins_get_no_cors_headers_by_default(
    client: httpx.AsyncClient,
) -> None:
    preflight = await client.options("/graphql", headers={"origin": SHOP, **PREFLIGHT})
    assert preflight.status_code == 405
    answer = await client.post("/graphql", json={"query": QUERY}, headers={"origin": SHOP})
    for response in (preflight, answer):
        assert not [key for key in response.headers if key.startswith("access-control-")]


async def test_only_allowed_origins_get_cors_headers_on_every_response(
    settings: Settings,
) -> None:
    guarded = settings.model_copy(
        update={
            "origins": frozenset({SHOP}),
            "jwt_secret": Settings(jwt_secret="a secret of this test and no other").jwt_secret,
            # Two requests, then none for a minute.
            "max_requests_per_second": 0.01,
        }
    )
    async with gateway_of(guarded) as gateway, client_of(gateway) as opened:
        client = opened.http

        async def responses(origin: str) -> dict[int, httpx.Response]:
            answers = [
                await client.post("/graphql", content=b" " * 200_000, headers={"origin": origin}),
                *[
                    await client.post("/graphql", json={"query": QUERY}, headers={"origin": origin})
                    for _ in range(2)
                ],
                await client.put("/graphql", headers={"origin": origin}),
                await client.get("/graphql", headers={"origin": origin, "accept": "image/png"}),
                await client.get("/healthz", headers={"origin": origin}),
                await client.options("/graphql", headers={"origin": origin, **PREFLIGHT}),
            ]
            return {answer.status_code: answer for answer in answers}

        allowed, foreign = await responses(SHOP), await responses(EVIL)

    assert allowed.keys() == {413, 401, 429, 405, 406, 200}
    for status, answer in allowed.items():
        assert answer.headers["access-control-allow-origin"] == SHOP, status
        assert "Origin" in answer.headers["vary"], status
        assert "access-control-allow-credentials" not in answer.headers, status
    for status, answer in foreign.items():
        assert "access-control-allow-origin" not in answer.headers, status


@pytest.fixture(scope="module")
async def shop_client(new_database: NewDatabase) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that allows pages of one origin, and one header of their own."""
    settings = Settings(
        database_url=new_database("sqlite"),
        port=0,
        runner=False,
        origins=frozenset({SHOP}),
        cors_headers=frozenset({"X-Team"}),
    )
    async with gateway_of(settings) as gateway, http_client(gateway.url) as connected:
        yield connected


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param("apollo-require-preflight,content-type", id="Apollo Client's uploads"),
        pytest.param(
            "apollographql-client-name,apollographql-client-version", id="Apollo Client's awareness"
        ),
        pytest.param(
            "apollographql-library-name,apollographql-library-version", id="Apollo Client 4"
        ),
        pytest.param("x-apollo-operation-id,x-apollo-operation-name", id="Apollo iOS and Kotlin"),
        pytest.param("graphql-require-preflight", id="GraphQL over HTTP"),
        pytest.param("x-graphql-yoga-csrf", id="GraphQL Yoga"),
        pytest.param("graphql-client-name,graphql-client-version", id="Hive"),
        pytest.param("traceparent,tracestate,baggage", id="OpenTelemetry"),
        pytest.param("b3,x-b3-traceid,x-b3-spanid,x-b3-sampled", id="B3"),
        pytest.param("sentry-trace,baggage", id="Sentry"),
        pytest.param(
            "x-datadog-trace-id,x-datadog-parent-id,x-datadog-origin,x-datadog-sampling-priority",
            id="Datadog",
        ),
        pytest.param("newrelic,traceparent,tracestate", id="New Relic"),
        pytest.param("elastic-apm-traceparent", id="Elastic"),
        pytest.param("x-amzn-trace-id", id="AWS"),
        pytest.param("request-id,request-context", id="Application Insights"),
        pytest.param("x-requested-with,x-xsrf-token", id="axios"),
        pytest.param("cache-control,pragma,if-none-match", id="caches"),
        pytest.param("x-request-id,idempotency-key,last-event-id,authorization", id="our own"),
        pytest.param(
            "authorization,x-moltin-sdk-language,x-moltin-sdk-version,x-moltin-currency,"
            "x-moltin-language,x-moltin-settings-page_length",
            id="the vendor's SDK",
        ),
        pytest.param(
            "ep-channel,ep-context-tag,ep-account-management-authentication-token,"
            "ep-inventories-multi-location",
            id="the vendor's shopper SDK",
        ),
        pytest.param("x-team,X-TEAM", id="the setting"),
    ],
)
async def test_a_preflight_with_headers_of_widespread_clients_is_allowed(
    headers: str, shop_client: httpx.AsyncClient
) -> None:
    for path in ("/graphql", "/pcm/jobs"):
        preflight = await shop_client.options(
            path,
            headers={
                "origin": SHOP,
                "access-control-request-method": "POST",
                "access-control-request-headers": headers,
            },
        )
        assert preflight.status_code == 200, preflight.text
        assert preflight.headers["access-control-allow-origin"] == SHOP
        allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
        assert {header.lower() for header in headers.split(",")} <= set(allowed)


async def test_a_preflight_of_another_origin_or_with_an_unknown_header_is_refused(
    shop_client: httpx.AsyncClient,
) -> None:
    for origin, header in ((EVIL, "x-team"), (SHOP, "x-other")):
        preflight = await shop_client.options(
            "/graphql",
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": header,
            },
        )
        assert preflight.status_code == 400
