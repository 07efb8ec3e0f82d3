"""Bearer tokens, scopes, refusals, and gateways without authentication."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from pydantic import SecretStr
from sqlmodel import select
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.api.auth.identity import LEEWAY
from app.domain.callers import Scope
from app.domain.jobs import JobStatus
from app.domain.stores import ORGANIZATION
from app.main import Gateway, serve
from app.settings import Settings, WrongSettings
from app.storage.engine.transaction import Transaction
from app.storage.tables import Job
from tests import factories
from tests.support.clients import http_client
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.gateway import gateway_of
from tests.support.paths import ROOT
from tests.support.processes import start_server
from tests.support.subscriber import JOB_UPDATES, PROTOCOL, Refused, subscriber
from tests.support.tokens import BAD_TOKENS, SECRET, STORE, bearing, caller, token

EVENT_STREAM = "text/event-stream"
READ = "{ jobs { totalCount } }"


@pytest.fixture
def settings(new_database: Any) -> Settings:
    """Settings with an empty database that require tokens."""
    return Settings(
        database_url=new_database("sqlite"), port=0, jwt_secret=SecretStr(SECRET), runner=False
    )


@pytest.fixture
def gateway(guarded_gateway: Gateway) -> Gateway:
    """A gateway that requires tokens."""
    return guarded_gateway


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with http_client(gateway.url) as client:
        yield client


REQUESTS: dict[str, dict[str, Any]] = {
    "POST": {"json": {"query": READ}},
    "GET": {"method": "GET", "params": {"query": READ}},
    "a batch": {"json": [{"query": READ}, {"query": READ}]},
    "a subscription over SSE": {
        "json": {"query": "subscription { jobEvents { type } }"},
        "headers": {"Accept": EVENT_STREAM},
    },
    "a mutation": {"json": {"query": 'mutation { cancelJob(input: {jobId: "x"}) { __typename } }'}},
    "not GraphQL": {"content": b"{"},
}


async def test_a_local_proxy_may_forward_its_public_host_name(
    http: httpx.AsyncClient,
) -> None:
    response = await http.post(
        "/graphql", json={"query": READ}, headers={**bearing(token()), "Host": "shop.example"}
    )
    assert response.status_code == 200


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("bad", [None, *BAD_TOKENS])
async def test_an_unauthenticated_request_gets_401_and_no_data(
    http: httpx.AsyncClient, kind: str, bad: str | None
) -> None:
    options = {"method": "POST", "url": "/graphql", **REQUESTS[kind]}
    if bad:
        options["headers"] = {**options.get("headers", {}), **bearing(BAD_TOKENS[bad])}
    response = await http.request(**options)
    assert response.status_code == 401
    challenge = 'Bearer error="invalid_token"' if bad else "Bearer"
    assert response.headers["www-authenticate"] == challenge
    assert response.headers["content-type"].startswith("application/json")
    answer = response.json()
    assert answer.keys() == {"errors"}
    (error,) = answer["errors"]
    assert error.keys() == {"message", "extensions"}
    assert error["extensions"] == {"code": "UNAUTHENTICATED"}
    assert error["message"].count(".") == 1
    assert error["message"].endswith(".")


@pytest.mark.parametrize("bad", [None, *BAD_TOKENS])
async def test_an_unauthenticated_socket_is_closed_with_4403(
    gateway: Gateway, bad: str | None
) -> None:
    payload = bearing(BAD_TOKENS[bad]) if bad else {}
    url = gateway.url.replace("http", "ws", 1) + "/graphql"
    async with connect(url, subprotocols=[PROTOCOL]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 4403
    assert closed.value.rcvd.reason.endswith(".")


HIERARCHIES, JOBS = Scope.HIERARCHIES_READ, Scope.JOBS_READ
NEEDED = {
    "{ hierarchies { totalCount } }": {HIERARCHIES},
    '{ hierarchy(id: "x") { id } }': {HIERARCHIES},
    '{ duplicationPreview(hierarchyId: "x") { nodeCount } }': {HIERARCHIES},
    "{ jobs { totalCount } }": {JOBS},
    '{ job(id: "x") { id } }': {JOBS},
    "{ jobQueue { pending } }": {JOBS},
    '{ node(id: "x") { id } }': set(),
    '{ nodes(ids: ["x"]) { id } }': set(),
    '{ node(id: "x") { ... on Product { sku } } }': {HIERARCHIES},
    '{ node(id: "x") { ... on JobError { code } } }': {JOBS},
    '{ job(id: "x") { duplication { source { id } } } }': {HIERARCHIES, JOBS},
    "{ __typename }": set(),
}
INCLUDED = {
    Scope.HIERARCHIES_WRITE: {Scope.HIERARCHIES_WRITE, HIERARCHIES},
    Scope.JOBS_WRITE: {Scope.JOBS_WRITE, JOBS},
}


@pytest.mark.parametrize("scope", Scope)
async def test_each_scope_allows_exactly_its_queries(gateway: Gateway, scope: Scope) -> None:
    has = INCLUDED.get(scope, {scope})
    async with caller(gateway, scope) as client:
        for query, needed in NEEDED.items():
            response = await client.http.post("/graphql", json={"query": query})
            missing = sorted(needed - has)
            if not missing:
                assert response.status_code == 200, query
                assert "errors" not in response.json()
                continue
            assert response.status_code == 403, query
            (error,) = response.json()["errors"]
            assert error["extensions"] == {"code": "FORBIDDEN", "scopes": missing}
            assert "data" not in response.json()


@pytest.mark.parametrize("scope", Scope)
async def test_a_subscription_requires_the_scope_jobs_read(gateway: Gateway, scope: Scope) -> None:
    has = INCLUDED.get(scope, {scope})
    async with subscriber(gateway.url, additional_headers=bearing(token(scope))) as socket:
        with pytest.raises(Refused) as refused:
            await anext(await socket.subscribe('subscription { jobUpdates(id: "x") { type } }'))
    assert refused.value.code == ("NOT_FOUND" if JOBS in has else "FORBIDDEN")


DUPLICATE = """
mutation($id: ID!) {
  duplicateHierarchy(input: {hierarchyId: $id}) { replayed errors { __typename } }
}
"""
CANCEL = "mutation($id: ID!) { cancelJob(input: {jobId: $id}) { errors { __typename } } }"


def all_jobs(tx: Transaction) -> list[tuple[UUID, JobStatus]]:
    return [
        (id, JobStatus(status)) for id, status in session_of(tx).exec(select(Job.id, Job.status))
    ]


@pytest.mark.parametrize("scope", Scope)
async def test_a_mutation_without_its_scopes_is_forbidden_and_changes_nothing(
    gateway: Gateway, scope: Scope
) -> None:
    source = await factories.hierarchy(gateway.database, {}, store=STORE)
    job = await factories.pending_duplication(gateway.database, source, store=STORE)
    before = await gateway.database.read(all_jobs)
    async with caller(gateway, scope) as client:
        duplicated = await client.data(DUPLICATE, id=str(source))
        assert duplicated["duplicateHierarchy"] == {
            "replayed": False,
            "errors": [{"__typename": "Forbidden"}],
        }
        assert await gateway.database.read(all_jobs) == before
        cancelled = (await client.data(CANCEL, id=str(job.id)))["cancelJob"]["errors"]
    if scope is Scope.JOBS_WRITE:
        assert cancelled == []
        assert await gateway.database.read(all_jobs) == [(job.id, JobStatus.CANCELLED)]
    else:
        assert cancelled == [{"__typename": "Forbidden"}]
        assert await gateway.database.read(all_jobs) == before


async def test_both_write_scopes_together_allow_a_duplication(gateway: Gateway) -> None:
    source = await factories.hierarchy(gateway.database, {}, store=STORE)
    async with caller(gateway, Scope.JOBS_WRITE, Scope.HIERARCHIES_WRITE) as client:
        duplicated = await client.data(DUPLICATE, id=str(source))
    assert duplicated["duplicateHierarchy"] == {"replayed": False, "errors": []}


async def test_the_scope_jobs_read_reveals_no_hierarchy(
    gateway: Gateway,
) -> None:
    source = await factories.hierarchy(gateway.database, {"Trees": {}}, store=STORE)
    job = await factories.pending_duplication(gateway.database, source, store=STORE)
    async with caller(gateway, JOBS) as client:
        node = "query($id: ID!) { node(id: $id) { __typename id } }"
        assert await client.data(node, id=str(source)) == {"node": None}
        assert (await client.data(node, id=str(job.id)))["node"]["__typename"] == "Job"
        within = "query($id: ID!) { job(id: $id) { duplication { source { id } } } }"
        refusal = await client.refusal(within, id=str(job.id))
        assert refusal["extensions"] == {"code": "FORBIDDEN", "scopes": [HIERARCHIES]}
        sourced = "query($id: ID!) { job(id: $id) { duplication { sourceId } } }"
        data = await client.data(sourced, id=str(job.id))
        assert data["job"]["duplication"]["sourceId"] == str(source)


async def test_a_job_shows_its_requester_and_request_id(gateway: Gateway) -> None:
    source = await factories.hierarchy(gateway.database, {}, store=STORE)
    query = """
    mutation($id: ID!) {
      duplicateHierarchy(input: {hierarchyId: $id}) { job { requestedBy requestId } }
    }
    """
    async with caller(gateway, subject="grace@shop.example") as client:
        response = await client.http.post(
            "/graphql",
            json={"query": query, "variables": {"id": str(source)}},
            headers={"X-Request-Id": "request-7"},
        )
    job = response.json()["data"]["duplicateHierarchy"]["job"]
    assert job == {"requestedBy": "grace@shop.example", "requestId": "request-7"}
    assert response.headers["x-request-id"] == "request-7"


async def test_all_subjects_of_a_store_see_its_jobs_and_hierarchies(gateway: Gateway) -> None:
    source = await factories.hierarchy(gateway.database, {}, store=STORE)
    async with caller(gateway, subject="ada") as ada, caller(gateway, subject="grace") as grace:
        await ada.data(DUPLICATE, id=str(source))
        data = await grace.data("{ jobs { nodes { requestedBy } } hierarchies { totalCount } }")
    assert data == {
        "jobs": {"nodes": [{"requestedBy": "ada"}]},
        "hierarchies": {"totalCount": 1},
    }


async def test_an_organization_token_reads_only_the_organizations_hierarchies(
    gateway: Gateway,
) -> None:
    await factories.hierarchy(gateway.database, {}, store=ORGANIZATION, name="All")
    await factories.hierarchy(gateway.database, {}, store=STORE, name="Own")
    query = "{ hierarchies { nodes { name owner } } }"
    async with caller(gateway, store=None) as organization, caller(gateway) as store:
        assert (await organization.data(query))["hierarchies"]["nodes"] == [
            {"name": "All", "owner": "ORGANIZATION"}
        ]
        assert (await store.data(query))["hierarchies"]["nodes"] == [
            {"name": "Own", "owner": "STORE"},
            {"name": "All", "owner": "ORGANIZATION"},
        ]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_token(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert response.status_code == 200
    assert response.json()["status"] == "ok"


async def test_the_playground_page_needs_no_token(http: httpx.AsyncClient) -> None:
    response = await http.get("/graphql", headers={"Accept": "text/html"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


ALMOST_OVER = timedelta(seconds=4) - LEEWAY
"""Lifetime of a token that expired 6 s ago: the clock leeway of 10 s admits it for 4 s more, enough
for a busy machine to open a stream."""


async def test_a_stream_ends_with_its_token(gateway: Gateway) -> None:
    source = await factories.hierarchy(gateway.database, {}, store=STORE)
    job = await factories.pending_duplication(gateway.database, source, store=STORE)
    almost_over = token(lifetime=ALMOST_OVER)
    async with http_client(gateway.url) as client:
        response = await client.post(
            "/graphql",
            json={"query": JOB_UPDATES, "variables": {"id": str(job.id)}},
            headers={**bearing(almost_over), "Accept": EVENT_STREAM},
        )
        assert "SNAPSHOT" in response.text
        assert '"UNAUTHENTICATED"' in response.text
        assert response.text.endswith("event: complete\ndata:\n\n")


async def test_a_socket_ends_with_its_token(gateway: Gateway) -> None:
    almost_over = token(lifetime=ALMOST_OVER)
    with pytest.raises(ConnectionClosed) as closed:
        async with subscriber(gateway.url, additional_headers=bearing(almost_over)) as socket:
            await anext(await socket.subscribe("subscription { jobEvents { type } }"))
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 4403


async def test_without_keys_clients_may_try_again_later(new_database: NewDatabase) -> None:
    settings = Settings(
        database_url=new_database("sqlite"),
        port=0,
        jwks=("http://127.0.0.1:9/keys",),
        runner=False,
    )
    signed = jwt.encode({"iss": "jobs-gateway"}, SECRET, headers={"kid": "one"})
    async with gateway_of(settings) as gateway, http_client(gateway.url) as client:
        for path in ("/graphql?query={__typename}", "/pcm/jobs"):
            response = await client.get(path, headers=bearing(signed))
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
        with pytest.raises(ConnectionClosed) as closed:
            async with subscriber(gateway.url, additional_headers=bearing(signed)):
                pass
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1013


def slow(settings: Settings) -> Settings:
    """Limit the rate so far that no request is regained while a test runs."""
    return settings.model_copy(update={"max_requests_per_second": 1 / 1000})


async def test_each_subject_has_its_own_rate_limit(settings: Settings) -> None:
    async with (
        gateway_of(slow(settings)) as gateway,
        caller(gateway, subject="ada") as ada,
        caller(gateway, subject="grace") as grace,
        caller(gateway, subject="ada", store="other") as namesake,
    ):
        responses = [
            await client.http.get("/graphql", params={"query": READ}) for client in (ada, ada)
        ]
        assert [response.status_code for response in responses] == [200, 429]
        assert responses[1].json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
        assert int(responses[1].headers["retry-after"]) > 0
        for client in (grace, namesake):
            assert (await client.http.get("/graphql", params={"query": READ})).status_code == 200


async def test_invalid_tokens_are_rate_limited_per_address(settings: Settings) -> None:
    async with (
        gateway_of(slow(settings)) as gateway,
        http_client(gateway.url) as client,
        caller(gateway) as authenticated,
    ):
        guesses = [
            await client.post("/graphql", json={"query": READ}, headers=bearing(f"guess{no}"))
            for no in range(3)
        ]
        assert [guess.status_code for guess in guesses] == [401, 429, 429]
        # Invalid tokens from the same address do not limit an authenticated caller.
        assert await authenticated.data(READ) == {"jobs": {"totalCount": 0}}


async def never_ready(_gateway: Gateway) -> None:
    raise AssertionError("the gateway must refuse to start")


EVERYWHERE = {"host": "0.0.0.0", "jwt_secret": None}


def refusals(folder: Path) -> Iterable[tuple[dict[str, Any], str]]:
    invalid = folder / "invalid"
    invalid.mkdir()
    (invalid / "one.graphql").write_text("{ nothing }")
    return [
        (EVERYWHERE, "0.0.0.0 can be reached from other machines"),
        ({"jwks": ("https://issuer.example/keys",)}, "not both"),
        ({"jwt_secret": SecretStr("short")}, "at least 32 bytes"),
        ({"jwt_secret": None, "jwks": (f"{folder}/none.json",)}, "none.json: No such file"),
        ({"only_trusted": True}, "nothing could be run"),
        ({"trusted_documents": invalid}, "Cannot query field 'nothing'"),
        ({"trusted_documents": folder / "nowhere"}, "cannot be read"),
    ]


@pytest.mark.parametrize("case", range(7))
async def test_an_unsafe_or_unusable_setting_prevents_the_start(
    settings: Settings, tmp_path: Path, case: int
) -> None:
    update, reason = list(refusals(tmp_path))[case]
    with pytest.raises(WrongSettings) as refused:
        await serve(settings.model_copy(update=update), never_ready)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("update", [{}, {"jwt_secret": None, "insecure": True}])
async def test_listening_on_all_interfaces_needs_a_secret_or_the_insecure_setting(
    settings: Settings, update: dict[str, Any]
) -> None:
    everywhere = settings.model_copy(update={"host": "0.0.0.0", **update})
    async with gateway_of(everywhere) as gateway, http_client("") as client:
        url = gateway.url.replace("0.0.0.0", "127.0.0.1")
        assert (await client.get(f"{url}/healthz")).status_code == 200
        response = await client.post(f"{url}/graphql", json={"query": READ})
        assert response.status_code == (200 if update else 401)


@pytest.mark.process
def test_serving_all_interfaces_without_authentication_fails_with_one_sentence(
    tmp_path: Path,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve", "--host", "0.0.0.0", "--port", "0"],
        env={"DATABASE_URL": f"sqlite:///{tmp_path}/new.db"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("--host: 0.0.0.0 can be reached from other machines")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert not (tmp_path / "new.db").exists()


@pytest.mark.process
def test_the_start_reports_open_access(tmp_path: Path) -> None:
    server = start_server(f"sqlite:///{tmp_path}/new.db")
    line = server.wait_for("  Access")
    assert "open to this machine, without authentication" in line
    assert server.stop() == 0
