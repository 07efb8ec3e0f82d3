"""GraphQL over HTTP, edition of September 2026, statement by statement.

Source: spec/GraphQLOverHTTP.md of github.com/graphql/graphql-over-http, at e1e46e7 (2026-08-06).
Each test quotes the statements about servers that it checks. Left out are those that no request can
check: that a schema has a URL, what a server MAY do besides, and 418.

The edition overrules audits of graphql-http 1.22, which follow the draft before it; they are named
in tests/e2e/test_npm_subscription_clients.py.

Two statements of the edition need a decision:

- A partial response to a client that accepts only plain JSON has status 200. The edition treats
  that client "as if the request had specified application/graphql-response+json", but recommends
  its own status 294 only "alongside the application/graphql-response+json media type".
- Its example "Field errors encountered during execution" has status 200. Examples are not
  normative, and the statement on `data` and `errors` is: 294.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from app.api.graphql.admission.documents import Documents
from app.api.graphql.transports import http as transport
from app.api.graphql.transports.http import EVENT_STREAM, GRAPHQL_JSON, JSON
from app.api.http.middleware import body_limit
from app.domain.callers import Scope
from app.main import Gateway
from app.settings import Settings
from tests import factories
from tests.support import tokens
from tests.support.clients import http_client
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.paths import ROOT
from tests.support.raw_http import posted, send_raw

QUERY = "{ __typename }"
COERCED = "query ($first: Int!) { jobs(first: $first) { totalCount } }"
MUTATION = "mutation ($id: ID!) { deleteHierarchy(input: {hierarchyId: $id}) { deletedId } }"
PARTIAL = '{ hierarchy(id: "%s") { children(first: -1) { totalCount } } }'
NO_DATA = "{ jobs(first: -1) { totalCount } }"
UTF_8 = "; charset=utf-8"
AS_JSON = {"content-type": JSON}


@pytest.fixture(scope="module")
async def gateway(new_database: NewDatabase) -> AsyncIterator[Gateway]:
    settings = Settings(
        database_url=new_database("sqlite"), port=0, runner=False, max_requests_per_second=0
    )
    async with gateway_of(settings) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(gateway.url) as connected:
        yield connected


async def post(
    client: httpx.AsyncClient, body: object, accept: str = GRAPHQL_JSON
) -> httpx.Response:
    """Post a JSON body."""
    return await client.post("/graphql", json=body, headers={"accept": accept})


def check_well_formed(response: httpx.Response) -> dict[str, Any]:
    """Assert that the body is a GraphQL response, and return it."""
    answer: dict[str, Any] = response.json()
    assert answer.keys() <= {"data", "errors", "extensions"}
    assert answer.keys() & {"data", "errors"}
    if "errors" in answer:
        assert answer["errors"]
        assert all(isinstance(error["message"], str) for error in answer["errors"])
    if answer.get("data", {}) is None:
        assert "errors" in answer
    return answer


@cache
def documented_statuses() -> Mapping[str, str]:
    """The statuses of error codes, as docs/reference/error-codes.md lists them."""
    page = (ROOT / "docs" / "reference" / "error-codes.md").read_text("utf-8")
    return dict(re.findall(r"^\| `([A-Z_]+)` \| ([\d, ]*) \|", page, re.MULTILINE))


# Serialization format.


@pytest.mark.parametrize("charset", ["", UTF_8])
async def test_utf_8_is_assumed_for_a_request_that_names_no_encoding(
    client: httpx.AsyncClient, charset: str
) -> None:
    """If the media type in a Content-Type or Accept header does not include encoding information
    and matches one of the officially recognized GraphQL media types, then utf-8 MUST be assumed.

    A server MUST support POST requests encoded with the application/json media type encoded with
    UTF-8. For POST requests using an officially recognized GraphQL Content-Type without indicating
    an encoding, the server MUST assume the encoding is utf-8.
    """
    query = '{ node(id: "Käse🧀") { id } }'
    response = await client.post(
        "/graphql",
        content=json.dumps({"query": query}, ensure_ascii=False).encode(),
        headers={"content-type": f"{JSON}{charset}", "accept": f"{GRAPHQL_JSON}{charset}"},
    )
    assert response.status_code == 200
    assert response.json()["data"] == {"node": None}


# Request.


async def test_post_and_get_are_accepted(client: httpx.AsyncClient) -> None:
    """A server MUST accept POST requests, and MAY accept other HTTP methods, such as GET."""
    for response in (
        await post(client, {"query": QUERY}),
        await client.get("/graphql", params={"query": QUERY}),
    ):
        assert response.status_code == 200
        assert check_well_formed(response)["data"] == {"__typename": "Query"}


@pytest.mark.parametrize("name", ["operationName", "variables", "extensions", "documentId"])
async def test_an_empty_optional_parameter_of_a_url_counts_as_absent(
    client: httpx.AsyncClient, name: str
) -> None:
    """Specifying the empty string for optional request parameters is equivalent to not specifying
    them at all."""
    response = await client.get("/graphql", params={"query": QUERY, name: ""})
    assert response.status_code == 200
    assert response.json()["data"] == {"__typename": "Query"}


async def test_variables_and_extensions_of_a_url_are_json(client: httpx.AsyncClient) -> None:
    """Each of the {variables} and {extensions} parameters, if present and not the empty string,
    MUST be encoded as a JSON string."""
    named = {"query": COERCED, "variables": '{"first": 0}', "extensions": '{"a": 1}'}
    assert (await client.get("/graphql", params=named)).status_code == 200
    for name in ("variables", "extensions"):
        for text in ("{", "first=0", "[0]", "0", '"a"', "true"):
            response = await client.get("/graphql", params={**named, name: text})
            assert response.status_code == 422, text


async def test_the_operation_named_null_is_an_operation(client: httpx.AsyncClient) -> None:
    """The {operationName} parameter, if present and not the empty string, represents the name of
    the operation to be executed within the {query} as a string. (operationName=null represents an
    operation with the name "null".)"""
    parameters = {"query": "query null { a: __typename }", "operationName": "null"}
    response = await client.get("/graphql", params=parameters)
    assert response.json()["data"] == {"a": "Query"}
    parameters["query"] = QUERY
    assert (await client.get("/graphql", params=parameters)).status_code == 422


@pytest.mark.parametrize("accept", [GRAPHQL_JSON, JSON, "*/*", EVENT_STREAM])
async def test_a_mutation_by_get_is_halted_with_405(
    client: httpx.AsyncClient, gateway: Gateway, accept: str
) -> None:
    """GET requests MUST NOT be used for executing mutation operations. If the values of {query} and
    {operationName} indicate that a mutation operation is to be executed, the server MUST respond
    with an appropriate 4xx status code and halt execution; status code 405 is RECOMMENDED. (Then
    the Allow header must be included.)"""
    hierarchy = str(await factories.hierarchy(gateway.database, {}))
    parameters = {"query": MUTATION, "variables": json.dumps({"id": hierarchy})}
    response = await client.get("/graphql", params=parameters, headers={"accept": accept})
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert "data" not in check_well_formed(response)
    kept = await post(client, {"query": "{ hierarchies { nodes { id } } }"})
    assert {"id": hierarchy} in kept.json()["data"]["hierarchies"]["nodes"]


async def test_a_post_without_content_type_is_refused(gateway: Gateway) -> None:
    """If the client does not supply a Content-Type header with a POST request, the server SHOULD
    reject the request using the appropriate 4xx status code."""
    body = json.dumps({"query": QUERY}).encode()
    answer = await send_raw(gateway.url, posted(body, Content_Type="", Accept=GRAPHQL_JSON))
    assert answer.status == 415
    assert answer.errors


async def test_unknown_properties_of_a_request_are_ignored(client: httpx.AsyncClient) -> None:
    """Servers receiving a request with additional properties MUST ignore properties they do not
    understand."""
    response = await post(client, {"query": QUERY, "operation": 7, "x": None, "data": []})
    assert response.status_code == 200


@pytest.mark.parametrize("name", ["operationName", "variables", "extensions"])
async def test_a_null_parameter_counts_as_absent(client: httpx.AsyncClient, name: str) -> None:
    """Specifying null for optional request parameters is equivalent to not specifying them."""
    assert (await post(client, {"query": QUERY, name: None})).status_code == 200


# Response.


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (GRAPHQL_JSON, GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}, {JSON};q=0.9", GRAPHQL_JSON),
        (f"{JSON}, {GRAPHQL_JSON};q=0.9", JSON),
        (f"{GRAPHQL_JSON};q=0.1, {JSON};q=0.2", JSON),
        (f"text/html, {GRAPHQL_JSON};q=0.1", GRAPHQL_JSON),
        (JSON, JSON),
    ],
)
async def test_the_accepted_media_type_of_the_highest_priority_is_used(
    client: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    """A server MUST indicate the media type of the response with a Content-Type header, and SHOULD
    indicate the encoding. A server MUST support responses using the
    application/graphql-response+json media type. If an Accept header is provided, the server MUST
    respect the given Accept header and attempt to encode the response in the highest priority media
    type listed that is supported by the server."""
    response = await post(client, {"query": QUERY}, accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{media_type}{UTF_8}"
    if GRAPHQL_JSON in accept:
        response = await post(client, {"query": "{"}, accept)
        assert response.status_code == 400
        assert response.headers["content-type"] == f"{media_type}{UTF_8}"


@pytest.mark.parametrize("accept", [JSON, f"{JSON};q=0.5, text/plain", f"{JSON}, */*;q=0.1"])
async def test_a_legacy_client_gets_the_same_statuses_and_plain_json_only_with_2xx(
    client: httpx.AsyncClient, accept: str
) -> None:
    """If the Accept header does not indicate support for one of the server's preferred media types
    but does indicate support for application/json, as may be the case for a legacy client, the
    request SHOULD be performed following the requirements of this specification as if the request
    had specified Accept: application/graphql-response+json, except any response that produces a 2xx
    status code should replace the Content-Type header with Content-Type: application/json."""
    for query, status in ((QUERY, 200), ("{", 400), ("{ nothing }", 422), (COERCED, 422)):
        response = await post(client, {"query": query}, accept)
        assert response.status_code == status
        media_type = JSON if status == 200 else GRAPHQL_JSON
        assert response.headers["content-type"] == f"{media_type}{UTF_8}"
        check_well_formed(response)


@pytest.mark.parametrize("accept", ["image/png", f"{JSON};q=0", f"{GRAPHQL_JSON};q=0", "text/html"])
async def test_an_accept_without_a_supported_media_type_gets_406(
    client: httpx.AsyncClient, accept: str
) -> None:
    """When the request includes an Accept header and no supported media type is acceptable
    according to that header, the server MUST either respond with a 406 Not Acceptable status code
    and stop processing the request; OR disregard the Accept header. If the Accept header is present
    but does not indicate support for any of the server's supported media types or application/json,
    the server SHOULD respond with 406 Not Acceptable."""
    response = await post(client, {"query": QUERY}, accept)
    assert response.status_code == 406
    assert "data" not in check_well_formed(response)


# Statuses of responses with `data`.


@pytest.mark.parametrize(
    ("query", "has_errors"),
    [(QUERY, False), (PARTIAL, True), (NO_DATA, True)],
    ids=["data", "data and errors", "null and errors"],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_response_with_data_has_status_200_or_294(
    client: httpx.AsyncClient, gateway: Gateway, query: str, has_errors: bool, method: str
) -> None:
    """If the GraphQL response contains the {data} entry and it is not {null}, then the server MUST
    reply with a 2xx status code. If it contains the {data} entry and does not contain the {errors}
    entry, then the server SHOULD reply with a 200 status code. If it contains both the {data} entry
    (even if it is {null}) and the {errors} entry, then the server SHOULD reply with a 294 status
    code."""
    if query == PARTIAL:
        query %= await factories.hierarchy(gateway.database, {})
    sent: dict[str, Any] = (
        {"json": {"query": query}} if method == "POST" else {"params": {"query": query}}
    )
    for accept, partial in ((GRAPHQL_JSON, 294), (JSON, 200), ("*/*", 200)):
        response = await client.request(method, "/graphql", headers={"accept": accept}, **sent)
        answer = check_well_formed(response)
        assert "data" in answer
        assert ("errors" in answer) is has_errors
        assert response.status_code == (partial if has_errors else 200)
        media_type = GRAPHQL_JSON if accept == GRAPHQL_JSON else JSON
        assert response.headers["content-type"] == f"{media_type}{UTF_8}"


# Statuses of responses without `data`.


@dataclass(frozen=True)
class Case:
    """A request whose response has no `data`, and the statement that names its status."""

    statement: str
    status: int
    code: str
    sent: Mapping[str, Any]
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


MALFORMED = (
    "If the request is not a well-formed GraphQL-over-HTTP request, status code 422 SHOULD be used."
)
UNPARSED_JSON = (
    "If the JSON body of the request could not be parsed, status code 400 SHOULD be used."
)
UNPARSED = (
    "If the GraphQL document in the request cannot be parsed, status code 400 SHOULD be used."
)
INVALID = "If the request does not pass GraphQL validation, status code 422 SHOULD be used."
AMBIGUOUS = (
    "If the operation to execute cannot be unambiguously determined, status code 422 SHOULD be "
    "used."
)
UNCOERCED = (
    "If the variable values cannot be coerced to match the operation's variable definitions, "
    "status code 422 SHOULD be used."
)
OTHER_METHOD = "If the request uses an unsupported HTTP method, status code 405 SHOULD be used."
OTHER_TYPE = "If the Content-Type of the request is not supported, status code 415 SHOULD be used."
TOO_LARGE = "If the size of the POST request body was too large, status code 413 SHOULD be used."
NOT_PERMITTED = (
    "If the client is not permitted to issue the GraphQL request, then the server SHOULD reply "
    "with 401, 403 or similar appropriate status code."
)


def cases() -> list[Case]:
    named = "query a { __typename } query b { __typename }"
    malformed: list[object] = [
        *({}, 7, "s", True, {"qeury": QUERY}, {"query": None}, {"query": 7}),
        *({"query": [QUERY]}, {"query": {}}, {"query": QUERY, "operationName": 7}),
        *({"query": QUERY, "variables": [7]}, {"query": QUERY, "variables": "{}"}),
        *({"query": QUERY, "extensions": [7]}, {"query": QUERY, "extensions": "{}"}),
        *({"query": QUERY, "documentId": "short"}, {"query": QUERY, "documentId": "0" * 64}),
        {"query": QUERY, "extensions": {"persistedQuery": []}},
    ]
    in_url = [
        *([], [("query", QUERY), ("query", QUERY)], [("query", QUERY), ("variables", "{")]),
        *([("query", QUERY), ("extensions", "7")], [("operationName", "a")]),
    ]
    costly = "{ hierarchies(first: 100) { nodes { children(first: 100) { nodes { id name } } } } }"
    deep = "{ a " + "{ a " * 30 + "}" * 31
    aliases = " ".join(f"a{n}: __typename" for n in range(100))
    return [
        *(Case(MALFORMED, 422, "BAD_REQUEST", {"json": body}) for body in malformed),
        Case(MALFORMED, 422, "BAD_REQUEST", {"content": b"null"}, headers=AS_JSON),
        Case(MALFORMED, 422, "BATCH_LIMIT_EXCEEDED", {"json": []}),
        Case(MALFORMED, 422, "BATCH_LIMIT_EXCEEDED", {"json": [{"query": QUERY}] * 11}),
        *(
            Case(MALFORMED, 422, "BAD_REQUEST", {"params": urlencode(parameters)}, "GET")
            for parameters in in_url
        ),
        *(
            Case(UNPARSED_JSON, 400, "BAD_REQUEST", {"content": body}, headers=AS_JSON)
            for body in (b"", b"NONSENSE", b'{"query":', b'{"query":"\xff"}', b"{}{}", b"[1,]")
        ),
        *(
            Case(UNPARSED, 400, "GRAPHQL_PARSE_FAILED", {"json": {"query": query}})
            for query in ("", "{", "query (", "nothing", "{ a } }", '{ a(b: ") }')
        ),
        Case(UNPARSED, 400, "GRAPHQL_PARSE_FAILED", {"params": {"query": ""}}, "GET"),
        *(
            Case(INVALID, 422, "GRAPHQL_VALIDATION_FAILED", {"json": {"query": query}})
            for query in (
                *("{ nothing }", "{ jobs }", "{ __typename { x } }", "{ job { id } }"),
                *("query ($a: Nothing) { __typename }", "query ($a: Int) { __typename }"),
                *("{ ...missing }", "fragment F on Query { __typename }" * 2 + QUERY),
            )
        ),
        Case(INVALID, 422, "GRAPHQL_VALIDATION_FAILED", {"params": {"query": "{ x }"}}, "GET"),
        Case(INVALID, 422, "DEPTH_LIMIT_EXCEEDED", {"json": {"query": deep}}),
        Case(INVALID, 422, "ALIAS_LIMIT_EXCEEDED", {"json": {"query": f"{{ {aliases} }}"}}),
        Case(INVALID, 422, "COST_LIMIT_EXCEEDED", {"json": {"query": costly}}),
        Case(INVALID, 422, "TOKEN_LIMIT_EXCEEDED", {"json": {"query": f"{{{' a' * 5000} }}"}}),
        *(
            Case(AMBIGUOUS, 422, "OPERATION_RESOLUTION_FAILURE", {"json": body})
            for body in (
                *({"query": named}, {"query": named, "operationName": "c"}),
                *({"query": QUERY, "operationName": "a"}, {"query": named, "operationName": "A"}),
            )
        ),
        *(
            Case(
                UNCOERCED, 422, "BAD_USER_INPUT", {"json": {"query": COERCED, "variables": values}}
            )
            for values in (
                *({}, {"first": None}, {"first": "1"}, {"first": 1.5}, {"first": 2**40}),
                *({"first": [1]}, {"first": True}),
            )
        ),
        *(
            Case(OTHER_METHOD, 405, "METHOD_NOT_ALLOWED", {"json": {"query": QUERY}}, method)
            for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "QUERY")
        ),
        *(
            Case(
                OTHER_TYPE,
                415,
                "UNSUPPORTED_MEDIA_TYPE",
                {"content": json.dumps({"query": QUERY})},
                headers={"content-type": content_type},
            )
            for content_type in (
                *("text/plain", "application/graphql", "application/x-www-form-urlencoded"),
                *("multipart/form-data; boundary=x", f"{JSON}; charset=utf-16"),
            )
        ),
        Case(
            TOO_LARGE,
            413,
            "BODY_TOO_LARGE",
            {"json": {"query": QUERY, "variables": {"a": "b" * 200_000}}},
        ),
    ]


@pytest.mark.parametrize("accept", [GRAPHQL_JSON, JSON])
async def test_a_response_without_data_has_the_status_of_its_reason(
    client: httpx.AsyncClient, accept: str
) -> None:
    """If the GraphQL response does not contain the {data} entry then the server MUST reply with an
    appropriate 4xx or 5xx status code: each Case quotes which."""
    for case in cases():
        response = await client.request(
            case.method, "/graphql", headers={"accept": accept, **case.headers}, **case.sent
        )
        answer = check_well_formed(response)
        assert "data" not in answer, case
        assert response.status_code == case.status, case
        assert {error["extensions"]["code"] for error in answer["errors"]} == {case.code}, case
        assert str(case.status) in documented_statuses()[case.code], case
        assert response.headers["content-type"] == f"{GRAPHQL_JSON}{UTF_8}", case
        if case.status == 405:
            assert response.headers["allow"] == "GET, POST"


async def test_an_unauthenticated_client_gets_401_and_one_without_scope_403(
    guarded_gateway: Gateway,
) -> None:
    """If the client is not permitted to issue the GraphQL request, then the server SHOULD reply
    with 401, 403 or similar appropriate status code."""
    reader = tokens.bearing(tokens.token(Scope.JOBS_READ))
    async with http_client(guarded_gateway.url) as client:
        for headers, status in (({}, 401), (reader, 403)):
            for accept in (GRAPHQL_JSON, JSON):
                response = await client.post(
                    "/graphql",
                    json={"query": "{ hierarchies { totalCount } }"},
                    headers={"accept": accept, **headers},
                )
                assert response.status_code == status
                assert "data" not in check_well_formed(response)


async def test_a_request_that_does_not_arrive_in_time_gets_408(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the client did not produce a request within the time that the server was prepared to wait,
    status code 408 SHOULD be used."""
    monkeypatch.setattr(transport, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(body_limit, "MAX_DRAIN_SECONDS", 0.1)
    answer = await send_raw(gateway.url, posted(b'{"query":', Content_Length="1000", Accept=JSON))
    assert answer.status == 408
    assert answer.errors


async def test_a_fault_of_the_server_gets_5xx(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server is the reason for failure, the appropriate 5xx status code should be used."""

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Documents, "admit", broken)
    for accept in (GRAPHQL_JSON, JSON):
        response = await post(client, {"query": QUERY}, accept)
        assert response.status_code == 500
        assert response.headers["content-type"] == f"{GRAPHQL_JSON}{UTF_8}"
        assert "data" not in check_well_formed(response)
