"""Authentication, store isolation, limits, routes and failures of all REST endpoints.

A request without permission ends in a refusal and changes nothing.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.api.auth import throttle
from app.api.rest import context, product_nodes
from app.domain.callers import EVERY_SCOPE, Scope
from app.domain.hierarchies import node_id
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.settings import Settings
from app.wiring import migrate
from tests import factories
from tests.support import postgres
from tests.support.authoring import everything
from tests.support.databases import NewDatabase, postgresql_is_long
from tests.support.gateway import gateway_of
from tests.support.raw_http import in_chunks, send_raw
from tests.support.rest_client import (
    UNKNOWN,
    RestClient,
    errors_of,
    hierarchy,
    node,
    reference,
    rest_of,
)
from tests.support.tokens import BAD_TOKENS, SECRET, STORE, bearing, token
from tests.support.unexpected_errors import check_no_secrets, lose

SHOP, EVIL = "https://shop.example", "https://evil.example"
NOT_FOUND = [{"status": "404", "title": "Not Found"}]
LARGEST = Settings().max_body_bytes
READ_H, WRITE_H = Scope.HIERARCHIES_READ, Scope.HIERARCHIES_WRITE
READ_J, WRITE_J = Scope.JOBS_READ, Scope.JOBS_WRITE

ENDPOINTS: Mapping[tuple[str, str], tuple[int, Any, Sequence[Scope]]] = {
    ("GET", "/hierarchies"): (200, None, [READ_H]),
    ("POST", "/hierarchies"): (201, hierarchy("a"), [WRITE_H]),
    ("GET", "/hierarchies/{h}"): (200, None, [READ_H]),
    ("PUT", "/hierarchies/{h}"): (200, {"type": "hierarchy"}, [WRITE_H]),
    ("GET", "/hierarchies/{h}/nodes"): (200, None, [READ_H]),
    ("POST", "/hierarchies/{h}/nodes"): (201, node("new"), [WRITE_H]),
    ("GET", "/hierarchies/{h}/children"): (200, None, [READ_H]),
    ("GET", "/hierarchies/{h}/nodes/{n}"): (200, None, [READ_H]),
    ("PUT", "/hierarchies/{h}/nodes/{n}"): (200, {"type": "node"}, [WRITE_H]),
    ("GET", "/hierarchies/{h}/nodes/{n}/children"): (200, None, [READ_H]),
    ("GET", "/hierarchies/{h}/nodes/{n}/products"): (200, None, [READ_H]),
    ("POST", "/hierarchies/{h}/nodes/{n}/relationships/children"): (
        *(200, [{"type": "node", "id": "{m}"}], [WRITE_H]),
    ),
    ("PUT", "/hierarchies/{h}/nodes/{n}/relationships/parent"): (
        *(204, {"type": "node", "id": "{h}"}, [WRITE_H]),
    ),
    ("DELETE", "/hierarchies/{h}/nodes/{n}/relationships/parent"): (204, None, [WRITE_H]),
    ("POST", "/hierarchies/{h}/nodes/{n}/relationships/products"): (
        *(201, [{"type": "product", "id": "{p}"}], [WRITE_H]),
    ),
    ("DELETE", "/hierarchies/{h}/nodes/{n}/relationships/products"): (
        *(200, [{"type": "product", "id": "{p}"}], [WRITE_H]),
    ),
    ("POST", "/hierarchies/{h}/duplicate_job"): (201, {"type": "hierarchy"}, [WRITE_H, WRITE_J]),
    ("GET", "/jobs"): (200, None, [READ_J]),
    ("GET", "/jobs/{j}"): (200, None, [READ_J]),
    ("GET", "/jobs/{j}/errors"): (200, None, [READ_J]),
    ("POST", "/jobs/{j}/cancel"): (200, None, [WRITE_J]),
    # Last: they delete what the other endpoints need.
    ("DELETE", "/hierarchies/{h}/nodes/{n}"): (204, None, [WRITE_H]),
    ("DELETE", "/hierarchies/{h}"): (204, None, [WRITE_H]),
}
"""Every endpoint of domain.md: expected status, request data, required scopes."""


@pytest.fixture
def database_kind() -> str:
    """SQLite only: the kind of database makes no difference here."""
    return "sqlite"


@pytest.fixture
def settings(new_database: NewDatabase) -> Settings:
    """Settings of gateways that a test starts, on SQLite only."""
    return Settings(database_url=new_database("sqlite"), port=0, runner=False)


@pytest.fixture
async def rest(idle_gateway: Gateway) -> AsyncIterator[RestClient]:
    """A client of a gateway without a queue runner."""
    async with rest_of(idle_gateway) as client:
        yield client


@asynccontextmanager
async def serving(settings: Settings, **changed: Any) -> AsyncIterator[tuple[Gateway, RestClient]]:
    """A gateway with `changed` settings, and a client without credentials."""
    changed_settings = settings.model_copy(update=changed)
    async with gateway_of(changed_settings) as gateway, rest_of(gateway) as client:
        yield gateway, client


async def stocked(rest: RestClient, store: str) -> dict[str, str]:
    """Create one entity of each kind in a store; return their ids."""
    id = await factories.hierarchy(
        rest.database, {"a": {"b": {}}, "c": {}}, store=store, products={"b": ["p"]}
    )
    job = await factories.pending_duplication(rest.database, id, store=store)
    query = f"/hierarchies/{id}/nodes/{node_id(id, 2)}/products"
    headers = bearing(token(store=None if store == ORGANIZATION else store))
    products = await rest.http.get(f"/pcm{query}", headers=headers)
    (product,) = products.json()["data"] if products.status_code == 200 else [{"id": UNKNOWN}]
    return {
        "h": str(id),
        "n": str(node_id(id, 1)),
        "m": str(node_id(id, 3)),
        "p": product["id"],
        "j": str(job.id),
    }


def filled(endpoint: tuple[str, str], ids: Mapping[str, str]) -> tuple[str, str, Any]:
    """The method, path and data of an endpoint, with `ids` filled in."""
    method, path = endpoint
    _, data, _ = ENDPOINTS[endpoint]
    text = json.dumps(data)
    for name, id in ids.items():
        path, text = path.replace(f"{{{name}}}", id), text.replace(f"{{{name}}}", id)
    return method, path, json.loads(text)


GUARDED = {"jwt_secret": SecretStr(SECRET)}


async def test_every_endpoint_responds_as_documented(settings: Settings) -> None:
    async with serving(settings, **GUARDED) as (_, rest):
        ids = await stocked(rest, STORE)
        for endpoint, (status, _, scopes) in ENDPOINTS.items():
            # Only the required scopes.
            headers = bearing(token(*scopes))
            await rest.ask(*filled(endpoint, ids), status=status, headers=headers)


@pytest.mark.parametrize("bad", [None, *BAD_TOKENS])
async def test_an_unauthenticated_request_gets_401_and_changes_nothing(
    bad: str | None, settings: Settings
) -> None:
    async with serving(settings, **GUARDED) as (_, rest):
        ids = await stocked(rest, STORE)
        before = await everything(rest.database)
        headers = bearing(BAD_TOKENS[bad]) if bad else {}
        for endpoint in [*ENDPOINTS, ("GET", "/openapi.json")]:
            filled_in = filled(endpoint, ids) if endpoint in ENDPOINTS else endpoint
            response = await rest.send(*filled_in, headers=headers)
            (error,) = errors_of(response, 401)
            assert error.keys() == {"status", "title", "detail"}
            challenge = 'Bearer error="invalid_token"' if bad else "Bearer"
            assert response.headers["www-authenticate"] == challenge
        assert await everything(rest.database) == before


@pytest.mark.parametrize("missing", Scope)
async def test_a_request_without_a_scope_gets_403_naming_that_scope(
    missing: Scope, settings: Settings
) -> None:
    async with serving(settings, **GUARDED) as (_, rest):
        ids = await stocked(rest, STORE)
        # A write scope includes its read scope.
        writes = {READ_H: WRITE_H, READ_J: WRITE_J}
        has = EVERY_SCOPE - {missing, writes.get(missing, missing)}
        headers = bearing(token(*sorted(has)))
        before = await everything(rest.database)
        for endpoint, (_, _, scopes) in ENDPOINTS.items():
            if missing in scopes:
                response = await rest.send(*filled(endpoint, ids), headers=headers)
                (error,) = errors_of(response, 403)
                assert missing in error["detail"], endpoint
        assert await everything(rest.database) == before


async def test_entities_of_another_store_are_refused_like_unknown_ids(
    settings: Settings,
) -> None:
    async with serving(settings, **GUARDED) as (_, rest):
        theirs = await stocked(rest, "another")
        nowhere = dict.fromkeys(theirs, UNKNOWN)
        headers = bearing(token())
        before = await everything(rest.database)
        for endpoint in ENDPOINTS:
            if "{" not in endpoint[1]:
                continue
            answers = [
                await rest.send(*filled(endpoint, ids), headers=headers)
                for ids in (theirs, nowhere)
            ]
            for response in answers:
                errors_of(response, 404)
            bodies = [
                response.text.replace(id, "")
                for response, ids in zip(answers, (theirs, nowhere), strict=True)
                for id in [ids["h"]]
            ]
            assert bodies[0] == bodies[1], endpoint
        for path in ("/jobs", "/hierarchies"):
            response = await rest.http.get(f"/pcm{path}", headers=headers)
            assert response.json()["meta"]["results"]["total"] == 0
        assert await everything(rest.database) == before


async def test_ids_of_another_store_in_a_body_are_unknown(settings: Settings) -> None:
    async with serving(settings, **GUARDED) as (_, rest):
        ours, theirs = await stocked(rest, STORE), await stocked(rest, "another")
        headers = bearing(token())
        here = f"/hierarchies/{ours['h']}/nodes"
        for id in (theirs["m"], UNKNOWN):
            for method, path, data in (
                ("POST", here, node("a", id)),
                ("PUT", f"{here}/{ours['n']}/relationships/parent", reference(id)),
                ("POST", f"{here}/{ours['n']}/relationships/children", [reference(id)]),
            ):
                (error,) = errors_of(await rest.send(method, path, data, headers=headers), 404)
                assert error == {**NOT_FOUND[0], "meta": {"missing_ids": [id]}}
        for id in (theirs["p"], UNKNOWN):
            path, data = f"{here}/{ours['n']}/relationships/products", [reference(id, "product")]
            for method in ("POST", "DELETE"):
                (error,) = errors_of(await rest.send(method, path, data, headers=headers), 404)
                assert error["meta"] == {"missing_ids": [id]}


async def test_a_store_can_read_but_not_write_entities_of_the_organization(
    settings: Settings,
) -> None:
    async with serving(settings, **GUARDED) as (_, rest):
        theirs = await stocked(rest, ORGANIZATION)
        ours = await stocked(rest, STORE)
        headers = bearing(token())
        for endpoint, (status, _, scopes) in ENDPOINTS.items():
            if "{h}" not in endpoint[1]:
                continue
            method, path, data = filled(endpoint, theirs)
            if scopes == [WRITE_H]:
                error = await rest.refused(403, method, path, data, headers=headers)
                assert error == {
                    "status": "403",
                    "title": "Forbidden",
                    "detail": "entity owned by organization",
                }, endpoint
            else:
                answer = await rest.ask(method, path, data, status=status, headers=headers)
                if method == "GET" and path.endswith((theirs["h"], theirs["n"])):
                    assert answer["data"]["meta"]["owner"] == "organization"
        # The organization's jobs are its own, and it may write all its entities.
        errors_of(await rest.send("GET", f"/jobs/{theirs['j']}", headers=headers), 404)
        its = bearing(token(store=None))
        for endpoint, (status, _, _) in ENDPOINTS.items():
            await rest.ask(*filled(endpoint, theirs), status=status, headers=its)
        errors_of(await rest.send("GET", f"/hierarchies/{ours['h']}", headers=its), 404)


# Limits.


async def test_a_throttled_request_gets_429_with_retry_after(settings: Settings) -> None:
    async with serving(settings, max_requests_per_second=0.001) as (_, rest):
        assert (await rest.send("GET", "/jobs")).status_code == 200
        for endpoint in ENDPOINTS:
            response = await rest.send(*filled(endpoint, {}))
            (error,) = errors_of(response, 429)
            assert "0.001 per second" in error["detail"]
            assert int(response.headers["retry-after"]) >= 1


async def test_rest_and_graphql_share_one_rate_limit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "BURST_SECONDS", 2000)
    monkeypatch.setattr(throttle, "SECONDS_PER_TOKEN", inf)
    async with serving(settings, max_requests_per_second=0.001) as (_, rest):
        assert (await rest.http.post("/graphql", json={"query": "{ __typename }"})).is_success
        assert (await rest.send("GET", "/jobs")).is_success
        errors_of(await rest.send("GET", "/jobs"), 429)
        response = await rest.http.post("/graphql", json={"query": "{ __typename }"})
        assert response.status_code == 429


async def test_products_for_many_nodes_are_paid_before_they_are_attached(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "BURST_SECONDS", 4000)
    monkeypatch.setattr(throttle, "SECONDS_PER_TOKEN", inf)
    monkeypatch.setattr(product_nodes, "ASSOCIATION_COST", throttle.COST_PER_TOKEN)
    async with serving(settings, max_requests_per_second=0.001) as (_, rest):
        id = await factories.hierarchy(
            rest.database, {"a": {}, "b": {}}, products={"a": ["1", "2"]}
        )
        data = {"filter": "like(sku,*)", "node_ids": [str(node_id(id, no)) for no in (1, 2)]}
        path = f"/hierarchies/{id}/nodes/{node_id(id, 2)}/products"
        # One of four tokens: a full bucket would be enough for any request.
        await rest.list(path)
        response = await rest.send("POST", "/products/attach_nodes", data)
        (error,) = errors_of(response, 429)
        assert "a costly one counts as several" in error["detail"]
        monkeypatch.setattr(product_nodes, "ASSOCIATION_COST", 0)
        assert (await rest.list(path))["data"] == []


JSON = {"content-type": "application/json"}


async def test_a_too_large_body_is_refused_with_and_without_a_content_length(
    rest: RestClient,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (LARGEST // 2)

    for method, path in (("POST", "/hierarchies"), ("POST", f"/jobs/{UNKNOWN}/cancel")):
        for content in (b" " * (LARGEST + 1), pieces()):
            response = await rest.send(method, path, content=content, headers=JSON)
            (error,) = errors_of(response, 413)
            assert f"{LARGEST:,}" in error["detail"]
    body = json.dumps({"data": hierarchy("a")}).encode().ljust(LARGEST)
    assert (await rest.send("POST", "/hierarchies", content=body, headers=JSON)).is_success
    lines = ["POST /pcm/hierarchies HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""])
    sent = head.encode() + in_chunks(body + b" ")
    answer = await send_raw(str(rest.http.base_url), sent)
    assert answer.status == 413
    assert json.loads(answer.body)["errors"][0]["status"] == "413"


async def test_a_body_that_does_not_arrive_in_time_gets_408(
    rest: RestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "BODY_SECONDS", 0.2)
    never = asyncio.Event()

    async def begun() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    answering = asyncio.create_task(
        rest.send("POST", "/hierarchies", content=begun(), headers=JSON)
    )
    # The response completes only once the rest of the request was dropped: end the body.
    async with asyncio.timeout(20):
        while not answering.done():
            await asyncio.wait([answering], timeout=1)
            never.set()
    errors_of(answering.result(), 408)


@pytest.mark.parametrize(
    "kind",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"),
        *("application/xml", "text/json", "application/graphql", "", "/", "application/jsonp"),
    ],
)
async def test_a_body_of_another_media_type_is_refused(kind: str, rest: RestClient) -> None:
    body = json.dumps({"data": hierarchy("a")}).encode()
    before = await everything(rest.database)
    response = await rest.send("POST", "/hierarchies", content=body, headers={"content-type": kind})
    errors_of(response, 415)
    assert await everything(rest.database) == before


@pytest.mark.parametrize(
    "kind",
    ["application/vnd.api+json", "APPLICATION/JSON", "application/json; charset=utf-8"],
)
async def test_other_media_types_of_json_are_accepted(kind: str, rest: RestClient) -> None:
    body = json.dumps({"data": hierarchy("a")}).encode()
    headers = {"content-type": kind}
    await rest.ask("POST", "/hierarchies", content=body, headers=headers, status=201)


NAMED = '{"data": {"type": "hierarchy", "attributes": {"name": %s}}}'
BAD_JSON = {
    "an unclosed object": b"{",
    "plain text": b"hello",
    "NaN": NAMED.replace("%s", "NaN").encode(),
    "Infinity": NAMED.replace("%s", "-Infinity").encode(),
    "a lone surrogate": NAMED.replace("%s", r'"\ud800"').encode(),
    "a lone surrogate as bytes": NAMED.encode().replace(b"%s", b'"\xed\xa0\x80"'),
    "invalid UTF-8": NAMED.encode().replace(b"%s", b'"\xff"'),
    "UTF-16": NAMED.replace("%s", '"a"').encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + NAMED.replace("%s", '"a"').encode(),
    "a trailing comma": b'{"data": {},}',
    "two values": b"{} {}",
    "single quotes": b"{'data': {}}",
    "a raw NUL": b'{"data": "\0"}',
    "very deep": b"[" * 50_000 + b"]" * 50_000,
    "very deep objects": b'{"data":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("what", BAD_JSON)
async def test_invalid_json_is_refused(
    what: str, rest: RestClient, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await stocked(rest, factories.STORE)
    before = await everything(rest.database)
    for path in ("/hierarchies", f"/hierarchies/{ids['h']}/duplicate_job"):
        response = await rest.send("POST", path, content=BAD_JSON[what], headers=JSON)
        (error,) = errors_of(response, 400)
        assert error["detail"].startswith("The body is not JSON: ")
    assert await everything(rest.database) == before
    assert caplog.records == []


@pytest.mark.parametrize(
    "name", [r'"a\u0000"', "1e999", "1" * 400, "[" * 900 + "]" * 900, "{}", "true", r'"\u0000"']
)
async def test_a_json_value_that_is_no_valid_name_is_refused(name: str, rest: RestClient) -> None:
    body = NAMED.replace("%s", name).encode()
    response = await rest.send("POST", "/hierarchies", content=body, headers=JSON)
    assert response.status_code in (400, 422), response.text
    errors_of(response, response.status_code)
    assert (await rest.list("/hierarchies"))["data"] == []


async def test_an_escaped_surrogate_pair_is_one_character(rest: RestClient) -> None:
    body = NAMED.replace("%s", r'"\ud83c\udf31"').encode()
    data = await rest.data("POST", "/hierarchies", content=body, headers=JSON, status=201)
    assert data["attributes"]["name"] == "🌱"


# Routes.


async def test_an_unsupported_method_gets_405_with_the_allowed_methods(rest: RestClient) -> None:
    allowed: dict[str, set[str]] = {}
    for method, path in ENDPOINTS:
        allowed.setdefault(path, set()).add(method)
    for path, methods in allowed.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - methods:
            response = await rest.send(method, path.replace("{", "").replace("}", ""))
            errors_of(response, 405)
            assert {*response.headers["allow"].split(", ")} == methods, (method, path)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/x", "/jobs/", "//jobs", "/hierarchies/", "/Jobs", "/jobs/a/b", "/docs", "/redoc"),
        *(f"/jobs/{UNKNOWN}/Cancel", f"/hierarchies/{UNKNOWN}/x", "/jobs%2f", "/jobs/a%2fb"),
        *("/%2e%2e/graphql", "/jobs/../../graphql/x", "/openapi.json/", "/jobs%00"),
    ],
)
async def test_an_unknown_route_is_not_found(path: str, rest: RestClient) -> None:
    response = await rest.http.request("GET", httpx.URL(f"{rest.http.base_url}/pcm{path}"))
    if response.url.path.startswith("/pcm"):
        assert errors_of(response, 404) == NOT_FOUND


async def test_a_path_with_a_line_break_is_not_found(rest: RestClient) -> None:
    for path in ("/jobs/a%0Ab", "/jobs/%0A", "/a%0Ab", "/jobs/a%0A/cancel"):
        assert errors_of(await rest.send("GET", path), 404) == NOT_FOUND


# Cross-origin requests.


async def test_other_origins_can_neither_read_nor_write(
    settings: Settings,
) -> None:
    async with serving(settings) as (gateway, rest):
        ids = await stocked(rest, factories.STORE)
        before = await everything(rest.database)
        for endpoint in ENDPOINTS:
            for origin in (EVIL, "null", gateway.url + ".evil.example"):
                response = await rest.send(*filled(endpoint, ids), headers={"origin": origin})
                if endpoint[0] != "GET":
                    errors_of(response, 403)
                assert "access-control-allow-origin" not in response.headers
        assert await everything(rest.database) == before
        own = {"origin": gateway.url}
        await rest.ask("POST", "/hierarchies", hierarchy("a"), status=201, headers=own)


async def test_allowed_origins_can_read_and_write(settings: Settings) -> None:
    async with serving(settings, origins=frozenset({SHOP})) as (_, rest):
        ids = await stocked(rest, factories.STORE)
        for endpoint, (status, _, _) in ENDPOINTS.items():
            if "{p}" in json.dumps(ENDPOINTS[endpoint][1]):
                continue
            response = await rest.send(*filled(endpoint, ids), headers={"origin": SHOP})
            assert response.status_code == status, (endpoint, response.text)
            assert response.headers["access-control-allow-origin"] == SHOP
            assert "X-Request-Id" in response.headers["access-control-expose-headers"]
        errors_of(
            await rest.send("POST", "/hierarchies", hierarchy("a"), headers={"origin": EVIL}), 403
        )
        preflight = await rest.send(
            "OPTIONS",
            f"/hierarchies/{ids['h']}",
            headers={
                "origin": SHOP,
                "access-control-request-method": "DELETE",
                "access-control-request-headers": "authorization,content-type,idempotency-key",
            },
        )
        assert preflight.status_code == 200


# Failures.


@postgresql_is_long
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=" ".join)
async def test_an_internal_error_reveals_only_its_request_id(
    endpoint: tuple[str, str], rest: RestClient, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await stocked(rest, factories.STORE)
    await lose(rest.database, "job" if "job" in endpoint[1] else "hierarchy")
    response = await rest.send(*filled(endpoint, ids), headers={"x-request-id": "mine"})
    assert errors_of(response, 500) == [
        {
            "status": "500",
            "title": "Internal Server Error",
            "detail": "There was an internal server error, you can report with your request id.",
            "request_id": "mine",
        }
    ]
    check_no_secrets(response.text)
    (logged,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "mine" in logged.getMessage()


async def test_a_request_over_the_time_limit_gets_503(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(settings, max_execution_seconds=0.5) as (gateway, rest):

        async def never(*_: object) -> None:
            await asyncio.get_running_loop().create_future()

        with monkeypatch.context() as patched:
            for work in ("client_read", "client_scan", "client_write"):
                patched.setattr(gateway.database, work, never)
            for method, path, data in (
                ("GET", "/jobs", None),
                ("GET", f"/jobs/{UNKNOWN}", None),
                ("POST", "/hierarchies", hierarchy("a")),
            ):
                (error,) = errors_of(await rest.send(method, path, data), 503)
                assert "0.5 seconds" in error["detail"]
        assert (await rest.list("/jobs"))["data"] == []


@pytest.mark.fault
async def test_an_unreachable_database_gets_503(settings: Settings) -> None:
    with postgres.cluster() as cluster:
        url = postgres.new_database(cluster.server_url)
        migrate(Settings(database_url=url), check=False)
        async with serving(settings, database_url=url) as (_, rest):
            ids = await stocked(rest, factories.STORE)
            await asyncio.to_thread(cluster.stop, "immediate")
            for endpoint in (
                *(("GET", "/jobs"), ("GET", "/hierarchies/{h}"), ("POST", "/jobs/{j}/cancel")),
                *(("POST", "/hierarchies"), ("POST", "/hierarchies/{h}/duplicate_job")),
            ):
                response = await rest.send(*filled(endpoint, ids))
                (error,) = errors_of(response, 503)
                assert error["detail"].endswith("Try again later.")
                check_no_secrets(response.text)
            await asyncio.to_thread(cluster.start)
            job = await rest.get(f"/jobs/{ids['j']}")
            assert job["attributes"]["status"] == "pending"
