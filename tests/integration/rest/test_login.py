"""Logins at /oauth/access_token: tokens for registered clients, and refusals by RFC 6749."""

import base64
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import jwt
import pytest
from pydantic import SecretStr

from app.api.auth import registered_clients
from app.api.auth.token_endpoint import MAX_FORM_BYTES
from app.domain.callers import Scope
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.settings import Settings
from tests.support.clients import http_client
from tests.support.databases import NewDatabase
from tests.support.gateway import SharedGateways, gateway_of
from tests.support.registered_clients import (
    CLIENT_SECRET,
    CREDENTIALS,
    PASSWORDLESS,
    log_in,
    registered,
    write_list,
)
from tests.support.tokens import SECRET, STORE, bearing

SHOP, EVIL = "https://shop.example", "https://evil.example"
WRONG = {**CREDENTIALS, "client_secret": "wrong"}
UNKNOWN = {**CREDENTIALS, "client_id": "unknown"}
SCOPES = "hierarchies:read hierarchies:write jobs:read jobs:write"

JOBS = "/pcm/jobs"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list of clients of the shared gateway."""
    return write_list(
        tmp_path_factory.mktemp("clients") / "clients.json",
        registered("shop"),
        registered("web", implicit=True),
        registered("reader", Scope.JOBS_READ),
        registered("org", organization=True),
    )


@pytest.fixture
async def gateway(shared_gateways: SharedGateways, listed: Path) -> AsyncIterator[Gateway]:
    """A gateway at which clients log in; pages of SHOP may call it."""
    async with shared_gateways.lent(
        "sqlite", jwt_secret=SecretStr(SECRET), clients=listed, origins=frozenset({SHOP})
    ) as gateway:
        yield gateway


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(gateway.url) as client:
        yield client


def claims_of(response: httpx.Response) -> dict[str, Any]:
    """Return the claims of the token in an answer to a login."""
    assert response.status_code == 200, response.text
    claims: dict[str, Any] = jwt.decode(
        response.json()["access_token"], SECRET, ["HS256"], audience="jobs-gateway"
    )
    return claims


def basic(id: str, secret: str) -> dict[str, str]:
    """Return the header of HTTP Basic, form-encoded as RFC 6749 requires."""
    pair = f"{quote_plus(id)}:{quote_plus(secret)}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def test_a_client_logs_in_with_its_secret_and_acts_for_its_store(
    http: httpx.AsyncClient,
) -> None:
    before = int(time.time())
    response = await log_in(http, CREDENTIALS)
    claims = claims_of(response)
    answer = response.json()
    assert list(answer) == ["access_token", "token_type", "expires", "expires_in", "identifier"]
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3600
    assert before + 3600 <= answer["expires"] <= claims["exp"]
    assert answer["identifier"] == "client_credentials"
    assert response.headers["cache-control"] == "no-store"
    assert (claims["store"], claims["sub"], claims["scope"]) == (STORE, "shop", SCOPES)
    headers = bearing(answer["access_token"])
    assert (await http.get(JOBS, headers=headers)).status_code == 200
    created = {"data": {"type": "hierarchy", "attributes": {"name": "Herbs"}}}
    assert (await http.post("/pcm/hierarchies", json=created, headers=headers)).status_code == 201
    query = {"query": "{ hierarchies { totalCount } }"}
    data = (await http.post("/graphql", json=query, headers=headers)).json()["data"]
    assert data == {"hierarchies": {"totalCount": 1}}


async def test_http_basic_carries_the_credentials_form_encoded(http: httpx.AsyncClient) -> None:
    form = {"grant_type": "client_credentials"}
    response = await log_in(http, form, headers=basic("shop", CLIENT_SECRET))
    assert claims_of(response)["sub"] == "shop"
    named = {**form, "client_id": "shop"}
    response = await log_in(http, named, headers=basic("shop", CLIENT_SECRET))
    assert claims_of(response)["sub"] == "shop"


async def test_the_token_of_an_earlier_login_does_not_disturb_the_next(
    http: httpx.AsyncClient,
) -> None:
    for header in ("Bearer expired", "Bearer"):
        response = await log_in(http, CREDENTIALS, headers={"Authorization": header})
        assert claims_of(response)["sub"] == "shop"


async def test_an_implicit_login_can_only_read(http: httpx.AsyncClient) -> None:
    response = await log_in(http, PASSWORDLESS)
    claims = claims_of(response)
    assert response.json()["identifier"] == "implicit"
    assert claims["scope"] == "hierarchies:read jobs:read"
    headers = bearing(response.json()["access_token"])
    assert (await http.get(JOBS, headers=headers)).status_code == 200
    created = {"data": {"type": "hierarchy", "attributes": {"name": "Herbs"}}}
    assert (await http.post("/pcm/hierarchies", json=created, headers=headers)).status_code == 403
    full = {**PASSWORDLESS, "grant_type": "client_credentials", "client_secret": CLIENT_SECRET}
    assert claims_of(await log_in(http, full))["scope"] == SCOPES


async def test_visitors_who_log_in_without_a_secret_are_limited_by_themselves(
    http: httpx.AsyncClient,
) -> None:
    one, other, again = [
        claims_of(await log_in(http, PASSWORDLESS, address=f"198.51.100.{n}"))["sub"]
        for n in (1, 2, 1)
    ]
    assert one == again != other
    assert all(sub.startswith("web/") and "198" not in sub for sub in (one, other))


async def test_a_client_requests_fewer_scopes(http: httpx.AsyncClient) -> None:
    response = await log_in(http, {**CREDENTIALS, "scope": "jobs:read"})
    assert claims_of(response)["scope"] == response.json()["scope"] == "jobs:read"
    more = {**CREDENTIALS, "client_id": "reader", "scope": "jobs:read jobs:write"}
    response = await log_in(http, more)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_scope")
    assert claims_of(await log_in(http, {**more, "scope": ""}))["scope"] == "jobs:read"


async def test_a_client_of_the_organization_gets_its_tokens(http: httpx.AsyncClient) -> None:
    claims = claims_of(await log_in(http, {**CREDENTIALS, "client_id": "org"}))
    assert claims["organization"] is True
    assert "store" not in claims


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no body": ({}, "The body must be application/x-www-form-urlencoded."),
    "JSON": ({"json": CREDENTIALS}, "The body must be application/x-www-form-urlencoded."),
    "no grant_type": ({"data": {"client_id": "shop"}}, "grant_type is missing"),
    "an empty grant_type": ({"data": {**CREDENTIALS, "grant_type": ""}}, "grant_type is missing"),
    "no client_id": ({"data": {"grant_type": "client_credentials"}}, "client_id is missing"),
    "an implicit login without client_id": (
        {"data": {"grant_type": "implicit"}},
        "client_id is missing",
    ),
    "a field twice": (
        {"data": {**CREDENTIALS, "client_id": ["shop", "web"]}},
        "a field more than once",
    ),
    "not UTF-8": ({"data": {}, "content": b"grant_type=%ff"}, "not a form in UTF-8"),
    "too many fields": ({"content": b"a=b&" * 40}, "too many fields"),
    "too large": ({"content": b"a" * (MAX_FORM_BYTES + 1)}, "more than 8,192 bytes"),
    "credentials twice": (
        {"data": CREDENTIALS, "headers": basic("shop", CLIENT_SECRET)},
        "in the header and in the body",
    ),
    "two ids": (
        {
            "data": {"grant_type": "client_credentials", "client_id": "web"},
            "headers": basic("shop", CLIENT_SECRET),
        },
        "in the header and in the body",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_login_is_an_invalid_request(name: str, http: httpx.AsyncClient) -> None:
    options, words = MALFORMED[name]
    if content := options.get("content"):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        response = await http.post("/oauth/access_token", content=content, headers=form)
    else:
        response = await http.post("/oauth/access_token", **options)
    assert_refused(response, 400, "invalid_request", words)


def assert_refused(response: httpx.Response, status: int, error: str, words: str) -> None:
    """Check a refusal by RFC 6749, 5.2, which is one of the REST API, too."""
    assert response.status_code == status, response.text
    assert response.headers["cache-control"] == "no-store"
    document = response.json()
    assert list(document) == ["error", "error_description", "errors"]
    assert document["error"] == error
    description = document["error_description"]
    assert words in description
    assert description.isascii()
    assert '"' not in description
    (same,) = document["errors"]
    assert (same["status"], same["detail"]) == (str(status), description)


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        (WRONG, {}),
        (UNKNOWN, {}),
        ({"grant_type": "client_credentials", "client_id": "shop"}, {}),
        ({"grant_type": "client_credentials"}, basic("shop", "wrong")),
        ({"grant_type": "client_credentials"}, {"Authorization": "Basic !"}),
        ({"grant_type": "client_credentials"}, {"Authorization": "Basic c2hvcA=="}),
        ({"grant_type": "client_credentials"}, {"Authorization": "Basic //8="}),
        ({"grant_type": "implicit", "client_id": "shop"}, {}),
        ({"grant_type": "implicit", "client_id": "unknown"}, {}),
    ],
)
async def test_wrong_credentials_are_an_invalid_client(
    form: dict[str, str], headers: dict[str, str], http: httpx.AsyncClient
) -> None:
    response = await log_in(http, form, headers=headers, address="192.0.2.2")
    assert_refused(response, 401, "invalid_client", "")
    assert response.headers["www-authenticate"].startswith("Basic realm=")


async def test_known_and_unknown_ids_get_the_same_refusals(http: httpx.AsyncClient) -> None:
    for first, second in (
        (WRONG, UNKNOWN),
        ({**PASSWORDLESS, "client_id": "shop"}, {**PASSWORDLESS, "client_id": "unknown"}),
    ):
        answers = [await log_in(http, form, address="192.0.2.3") for form in (first, second)]
        assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("grant_type", ["password", "refresh_token", "authorization_code", "x"])
async def test_other_grants_are_unsupported(grant_type: str, http: httpx.AsyncClient) -> None:
    response = await log_in(http, {**CREDENTIALS, "grant_type": grant_type})
    assert_refused(response, 400, "unsupported_grant_type", "client_credentials or implicit")


async def test_other_methods_and_pages_of_other_origins_are_refused(
    http: httpx.AsyncClient,
) -> None:
    response = await http.get("/oauth/access_token")
    assert_refused(response, 405, "invalid_request", "POST")
    assert response.headers["allow"] == "POST"
    response = await log_in(http, CREDENTIALS, headers={"Origin": EVIL})
    assert_refused(response, 403, "invalid_request", "origin")
    response = await log_in(http, PASSWORDLESS, headers={"Origin": SHOP})
    assert response.headers["access-control-allow-origin"] == SHOP
    claims_of(response)


async def test_a_body_beyond_the_limit_is_refused_in_the_same_format(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    content = b"a" * (gateway.settings.max_body_bytes + 1)
    response = await http.post("/oauth/access_token", content=content, headers=form)
    assert_refused(response, 413, "invalid_request", "at most")

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    response = await http.post("/oauth/access_token", content=chunks(), headers=form)
    assert_refused(response, 413, "invalid_request", "at most")


async def test_an_address_that_guesses_is_limited_and_logged_in_clients_are_not(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registered_clients, "MAX_WRONG_SECRETS", 0)
    address = "192.0.2.4"
    last = await log_in(http, WRONG, address=address)
    assert_refused(last, 429, "temporarily_unavailable", "Try again in")
    assert int(last.headers["retry-after"]) >= 1
    monkeypatch.undo()
    claims_of(await log_in(http, CREDENTIALS, address=address))
    monkeypatch.setattr(registered_clients, "MAX_WRONG_SECRETS", 0)
    claims_of(await log_in(http, CREDENTIALS, address=address))


async def test_the_list_is_read_again_when_it_changes(
    new_database: NewDatabase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_list(tmp_path / "clients.json", registered("shop"))
    settings = Settings(
        database_url=new_database("sqlite"),
        port=0,
        runner=False,
        jwt_secret=SecretStr(SECRET),
        clients=path,
    )
    async with gateway_of(settings) as gateway, http_client(gateway.url) as http:
        late = {**CREDENTIALS, "client_id": "late"}
        assert (await log_in(http, late)).status_code == 401
        write_list(path, registered("shop"), registered("late", store="other"))
        assert claims_of(await log_in(http, late))["store"] == "other"
        write_list(path, registered("late"))
        assert (await log_in(http, CREDENTIALS)).status_code == 401
        assert claims_of(await log_in(http, late))["store"] == STORE

        with caplog.at_level(logging.WARNING, registered_clients.__name__):
            path.write_text('{"clients": [{"id": "late"')
            for _ in range(3):
                claims_of(await log_in(http, late))
            (broken,) = caplog.messages
            assert f"{path} is not a list of clients" in broken
            assert "stays in force" in broken
            caplog.clear()
            path.unlink()
            for _ in range(3):
                claims_of(await log_in(http, late))
            (missing,) = caplog.messages
            assert "No such file" in missing
        write_list(path, registered("shop"))
        claims_of(await log_in(http, CREDENTIALS))
        assert (await log_in(http, late)).status_code == 401


async def test_an_open_gateway_answers_every_client(shared_gateways: SharedGateways) -> None:
    async with (
        shared_gateways.lent("sqlite") as gateway,
        http_client(gateway.url) as http,
    ):
        for form in (CREDENTIALS, UNKNOWN, PASSWORDLESS):
            response = await http.post("/oauth/access_token", data=form)
            assert response.status_code == 200
            answer = response.json()
            assert answer["identifier"] == form["grant_type"]
            assert answer["expires"] > time.time()
            headers = bearing(answer["access_token"])
            assert (await http.get(JOBS, headers=headers)).status_code == 200
        response = await http.post("/oauth/access_token", data={"grant_type": "implicit"})
        assert_refused(response, 400, "invalid_request", "client_id is missing")


async def test_a_gateway_that_issues_no_tokens_says_why(
    guarded_gateway: Gateway, new_database: NewDatabase, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        settings = Settings(
            database_url=new_database("sqlite"),
            port=0,
            runner=False,
            jwks="https://issuer.example/keys",
        )
        by_issuer = await stack.enter_async_context(gateway_of(settings))
        for gateway, words in (
            (guarded_gateway, "JOBS_GATEWAY_CLIENTS"),
            (by_issuer, "another server: log in there"),
        ):
            async with http_client(gateway.url) as http:
                response = await http.post("/oauth/access_token", data=CREDENTIALS)
                assert_refused(response, 400, "unsupported_grant_type", words)


def test_the_organization_is_no_store_of_a_client() -> None:
    with pytest.raises(ValueError, match="begins with @"):
        registered("shop", store=ORGANIZATION)
