"""Without authentication a gateway serves its own machine, and no page of another site."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from app.main import Gateway
from tests.support.clients import http_client
from tests.support.gateway import SharedGateways

PATHS = ("/", "/graphql", "/pcm/jobs", "/healthz", "/readyz", "/metrics", "/nowhere")
QUERY = {"query": "{ __typename }"}
SHOP = "https://shop.example"

FORWARDED = [
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Forwarded-Host": "shop.example"},
    {"X-Forwarded-Proto": "https"},
    {"x-forwarded-anything": ""},
    {"Forwarded": "for=203.0.113.9"},
    {"Via": "1.1 proxy"},
    {"X-Real-IP": "203.0.113.9"},
    {"CF-Connecting-IP": "203.0.113.9"},
]


@pytest.fixture
def database_kind() -> str:
    """The database does not matter here."""
    return "sqlite"


@pytest.fixture
async def http(idle_gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an open gateway."""
    async with http_client(idle_gateway.url) as client:
        yield client


def message_of(response: httpx.Response) -> str:
    """Return the message of a refusal of any surface."""
    content = response.json()
    error = content["errors"][0] if "errors" in content else content
    return str(error.get("message") or error.get("detail"))


@pytest.mark.parametrize("headers", FORWARDED, ids=lambda headers: next(iter(headers)))
async def test_a_forwarded_request_is_refused_though_its_host_is_this_machine(
    headers: dict[str, str], http: httpx.AsyncClient
) -> None:
    for path in PATHS:
        response = await http.get(path, headers=headers)
        assert response.status_code == 403, path
        message = message_of(response)
        assert message.startswith("The request was forwarded by a proxy (")
        assert next(iter(headers)).lower() in message
        assert "JOBS_GATEWAY_JWT_SECRET" in message
        assert "JOBS_GATEWAY_INSECURE=1" in message
    response = await http.post("/graphql", json=QUERY, headers=headers)
    assert response.status_code == 403
    assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"ws{str(http.base_url).removeprefix('http')}/graphql",
            additional_headers=headers,
            subprotocols=[Subprotocol("graphql-transport-ws")],
        ):
            pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "", "localhost.evil.example", "127.0.0.1.evil:80"]
)
async def test_another_host_name_is_refused_with_the_settings_that_allow_it(
    host: str, http: httpx.AsyncClient
) -> None:
    for path in PATHS:
        response = await http.get(path, headers={"host": host})
        assert response.status_code == 400, path
        message = message_of(response)
        assert message.startswith("Invalid host header.")
        assert "JOBS_GATEWAY_JWT_SECRET" in message
        assert "JOBS_GATEWAY_INSECURE=1" in message


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]", "[::1]:8000", "127.0.0.1"])
async def test_every_name_of_this_machine_is_served(host: str, http: httpx.AsyncClient) -> None:
    response = await http.post("/graphql", json=QUERY, headers={"host": host})
    assert response.json()["data"] == {"__typename": "Query"}


@pytest.mark.parametrize("changed", [{"insecure": True}, {"jwt_secret": "s" * 32}])
async def test_forwarded_requests_are_served_with_authentication_or_by_setting(
    changed: dict[str, Any], shared_gateways: SharedGateways
) -> None:
    async with (
        shared_gateways.lent("sqlite", **changed) as gateway,
        http_client(gateway.url) as client,
    ):
        for headers in (*FORWARDED, {"host": "shop.example"}):
            response = await client.post("/graphql", json=QUERY, headers=headers)
            assert response.status_code == (200 if "insecure" in changed else 401)


# Pages of other sites.


async def graphql(client: httpx.AsyncClient, method: str, **headers: str) -> httpx.Response:
    if method == "GET":
        return await client.get("/graphql", params=QUERY, headers=headers)
    return await client.post("/graphql", json=QUERY, headers=headers)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_a_page_of_another_site_sends_is_not_executed(
    method: str, http: httpx.AsyncClient
) -> None:
    for headers in ({}, {"origin": SHOP}, {"origin": "null"}, {"Sec-Fetch-Mode": "navigate"}):
        sent = {"Sec-Fetch-Site": "cross-site", **headers}
        response = await graphql(http, method, **sent)
        assert response.status_code == 403, headers
        assert "JOBS_GATEWAY_ORIGINS" in message_of(response)
        assert response.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("site", [None, "none", "same-origin", "same-site"])
async def test_what_other_clients_and_own_pages_send_is_executed(
    method: str, site: str | None, http: httpx.AsyncClient
) -> None:
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    response = await graphql(http, method, **headers)
    assert response.json()["data"] == {"__typename": "Query"}


async def test_a_link_on_another_site_leads_to_the_playground(http: httpx.AsyncClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "accept": "text/html"}
    response = await http.get("/graphql", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_pages_of_allowed_origins_are_served(
    method: str, shared_gateways: SharedGateways
) -> None:
    async with (
        shared_gateways.lent("sqlite", origins=frozenset({SHOP})) as gateway,
        http_client(gateway.url) as client,
    ):
        headers = {"Sec-Fetch-Site": "cross-site", "origin": SHOP}
        response = await graphql(client, method, **headers)
        assert response.json()["data"] == {"__typename": "Query"}


async def test_a_rest_request_of_another_site_changes_nothing(http: httpx.AsyncClient) -> None:
    response = await http.post(
        "/pcm/hierarchies", json={}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert response.status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Mode": "navigate"}, {"origin": SHOP}])
async def test_a_rest_read_of_another_site_is_not_executed(
    headers: dict[str, str], http: httpx.AsyncClient
) -> None:
    sent = {"Sec-Fetch-Site": "cross-site", **headers}
    response = await http.get("/pcm/hierarchies", headers=sent)
    assert response.status_code == 403
    assert "JOBS_GATEWAY_ORIGINS" in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize("site", [None, "none", "same-origin", "same-site"])
async def test_a_rest_read_of_other_clients_and_own_pages_is_executed(
    site: str | None, http: httpx.AsyncClient
) -> None:
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    assert (await http.get("/pcm/hierarchies", headers=headers)).status_code == 200


async def test_a_rest_read_of_an_allowed_origin_is_executed(
    shared_gateways: SharedGateways,
) -> None:
    async with (
        shared_gateways.lent("sqlite", origins=frozenset({SHOP})) as gateway,
        http_client(gateway.url) as client,
    ):
        headers = {"Sec-Fetch-Site": "cross-site", "origin": SHOP}
        assert (await client.get("/pcm/hierarchies", headers=headers)).status_code == 200


async def test_a_link_on_another_site_leads_to_the_openapi_document(
    http: httpx.AsyncClient,
) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await http.get("/pcm/openapi.json", headers=headers)).status_code == 200
