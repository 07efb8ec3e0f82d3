"""Limits: excess is refused with a clear error before it costs much."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from app.api.auth import throttle
from app.api.graphql.admission.trusted import hash_of
from app.main import Gateway
from app.settings import Settings
from tests import factories
from tests.support.clients import GraphQLClient, client_of, http_client
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.subscriber import BEGINNING, subscriber

JSON = {"content-type": "application/json"}
GRAPHQL_JSON = {"accept": "application/graphql-response+json"}
MESSAGE_BYTES = Settings().max_body_bytes


@asynccontextmanager
async def limited(
    new_database: NewDatabase, **settings: Any
) -> AsyncIterator[tuple[Gateway, GraphQLClient]]:
    """Run a gateway with these settings; yield it with a client."""
    limited_settings = Settings(
        database_url=new_database("sqlite"), port=0, runner=False, **settings
    )
    async with gateway_of(limited_settings) as gateway, client_of(gateway) as client:
        yield gateway, client


async def test_a_body_with_a_content_length_above_the_limit_is_refused(
    idle_client: GraphQLClient,
) -> None:
    response = await idle_client.http.post(
        "/graphql", content=b" " * (MESSAGE_BYTES + 1), headers=JSON
    )
    assert response.status_code == 413
    assert response.json()["errors"][0]["extensions"] == {
        "code": "BODY_TOO_LARGE",
        "limit": MESSAGE_BYTES,
        "found": MESSAGE_BYTES + 1,
    }
    assert response.headers["x-request-id"]


async def test_a_chunked_body_above_the_limit_is_refused(
    idle_client: GraphQLClient,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (MESSAGE_BYTES // 2)

    response = await idle_client.http.post("/graphql", content=pieces(), headers=JSON)
    assert response.status_code == 413


async def test_a_body_of_the_largest_size_is_accepted(idle_client: GraphQLClient) -> None:
    body = b'{"query": "{ __typename }"}'
    response = await idle_client.http.post(
        "/graphql", content=body + b" " * (MESSAGE_BYTES - len(body)), headers=JSON
    )
    assert response.json()["data"] == {"__typename": "Query"}


LIMITS = [
    (
        "max_tokens",
        100,
        "TOKEN",
        "{ nodes(ids: [%s]) { id } }" % ('"a" ' * 88),
        "{ nodes(ids: [%s]) { id } }" % ('"a" ' * 89),
    ),
    (
        "max_depth",
        3,
        "DEPTH",
        "{ jobs { nodes { id } } }",
        "{ jobs { ...p } } fragment p on JobConnection { nodes { progress { ratio } } }",
    ),
    (
        "max_aliases",
        2,
        "ALIAS",
        "{ a: __typename b: __typename }",
        "{ a: __typename b: __typename c: __typename }",
    ),
    (
        "max_directives",
        1,
        "DIRECTIVE",
        "{ __typename @skip(if: false) }",
        "{ __typename @skip(if: false) @include(if: true) }",
    ),
    (
        "max_cost",
        52,
        "COST",
        "{ jobs { nodes { id type } } }",
        "{ __typename jobs { nodes { id type } } }",
    ),
]


@pytest.mark.parametrize(
    ("setting", "limit", "code", "enough", "too_much"), LIMITS, ids=[row[0] for row in LIMITS]
)
async def test_an_exceeded_limit_is_reported_with_the_limit_and_the_count(
    new_database: NewDatabase,
    tabled: Callable[[str], None],
    setting: str,
    limit: int,
    code: str,
    enough: str,
    too_much: str,
) -> None:
    async with limited(new_database, **{setting: limit}) as (gateway, client):
        assert "errors" not in await client.answer(enough)
        response = await client.http.post(
            "/graphql", json={"query": too_much}, headers=GRAPHQL_JSON
        )
        assert response.status_code == 422
        answer = response.json()
        assert answer.keys() == {"errors"}
        (error,) = answer["errors"]
        assert error["extensions"] == {
            "code": f"{code}_LIMIT_EXCEEDED",
            "limit": limit,
            "found": limit + 1,
        }
        for number in (limit, limit + 1):
            assert f"{number:,}" in error["message"]
        tabled(f"{too_much[:60]} -> {error['message']}")

        async with subscriber(gateway.url) as connected:
            await connected.send(id="1", type="subscribe", payload={"query": too_much})
            message = await connected.receive()
        assert message == {"id": "1", "type": "error", "payload": [error]}


async def test_a_syntax_error_near_the_word_tokens_is_no_limit_error(
    idle_client: GraphQLClient,
) -> None:
    error = await idle_client.refusal("{ tokens( }")
    assert error["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"
    error = await idle_client.refusal("tokens")
    assert error["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"


async def test_every_response_reports_its_cost(idle_client: GraphQLClient) -> None:
    answer = await idle_client.answer("{ jobs(first: 10) { nodes { id } } }")
    assert answer["extensions"] == {"cost": {"requested": 12, "limit": Settings().max_cost}}


async def test_introspection_costs_nothing_but_has_its_own_limit(
    idle_client: GraphQLClient,
) -> None:
    fields = "fields { name args { name type { name kind ofType { name } } } }"
    inside = " ".join(f"a{number}: {fields}" for number in range(25))
    error = await idle_client.refusal(f"{{ __schema {{ types {{ {inside} }} }} }}")
    assert error["extensions"]["code"] == "INTROSPECTION_LIMIT_EXCEEDED"
    assert error["extensions"]["found"] > error["extensions"]["limit"]


async def test_introspection_and_suggestions_can_be_disabled(
    new_database: NewDatabase,
) -> None:
    async with limited(new_database, introspection=False, suggestions=False) as (_, client):
        for query in ("{ __schema { __typename } }", '{ __type(name: "Job") { __typename } }'):
            error = await client.refusal(query)
            assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
        assert (await client.data("{ __typename }")) == {"__typename": "Query"}
        error = await client.refusal("{ jobQueue { pendin } }")
        assert "Did you mean" not in error["message"]
        error = await client.refusal(
            "query ($o: JobOrder!) { jobs(orderBy: $o) { totalCount } }", o="CREATED_AT_DES"
        )
        assert "CREATED_AT_DESC" not in error["message"]


async def test_a_query_beyond_the_time_limit_is_cancelled_and_the_next_one_succeeds(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with limited(new_database, max_execution_seconds=0.5) as (gateway, client):
        read = gateway.database.client_read

        async def never(*_: object) -> None:
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(gateway.database, "client_read", never)
        response = await client.http.post(
            "/graphql", json={"query": "{ jobs { totalCount } }"}, headers=GRAPHQL_JSON
        )
        assert response.status_code == 503
        (error,) = response.json()["errors"]
        assert error["extensions"]["code"] == "EXECUTION_TIME_LIMIT_EXCEEDED"
        assert error["extensions"]["limit"] == 0.5
        assert error["extensions"]["found"] >= 0.5
        monkeypatch.setattr(gateway.database, "client_read", read)
        assert await client.data("{ jobs { totalCount } }") == {"jobs": {"totalCount": 0}}


async def test_a_client_above_the_rate_limit_gets_retry_after(
    new_database: NewDatabase,
) -> None:
    async with limited(new_database, max_requests_per_second=0.001) as (gateway, client):
        assert "errors" not in await client.answer("{ __typename }")
        response = await client.http.post("/graphql", json={"query": "{ __typename }"})
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        (error,) = response.json()["errors"]
        assert error["extensions"]["code"] == "RATE_LIMITED"
        with pytest.raises(ConnectionClosed) as closed:
            async with subscriber(gateway.url):
                pass
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert "0.001 per second" in closed.value.rcvd.reason


async def test_the_rate_limit_counts_operations_on_a_socket(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A burst of two: the handshake and the first operation.
    monkeypatch.setattr(throttle, "BURST_SECONDS", 2000)
    async with (
        limited(new_database, max_requests_per_second=0.001) as (gateway, _),
        subscriber(gateway.url) as connected,
    ):
        messages = []
        for id, count in (("1", 2), ("2", 1)):
            # One after the other: operations of a socket run side by side.
            await connected.send(id=id, type="subscribe", payload={"query": "{ __typename }"})
            messages += [await connected.receive() for _ in range(count)]
    assert [(message["id"], message["type"]) for message in messages] == [
        ("1", "next"),
        ("1", "complete"),
        ("2", "error"),
    ]
    assert messages[2]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_too_many_ids_are_refused(idle_client: GraphQLClient) -> None:
    error = await idle_client.refusal(
        "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=["a"] * 101
    )
    assert error["extensions"] == {"code": "INVALID_INPUT", "argument": ["ids"]}


class TestTrustedDocuments:
    """Documents requested by SHA-256, over every transport; other documents can be refused."""

    JOBS = "query Jobs { jobs { totalCount } }"
    EVENTS = "subscription Events($after: String) { jobEvents(after: $after) { cursor } }"

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "documents"
        (folder / "more").mkdir(parents=True)
        (folder / "jobs.graphql").write_text(self.JOBS)
        (folder / "more" / "events.graphql").write_text(self.EVENTS)
        (folder / "README.md").write_text("No document.")
        return folder

    async def test_a_trusted_document_runs_by_its_hash(
        self, new_database: NewDatabase, folder: Path
    ) -> None:
        jobs = hash_of(self.JOBS)
        async with limited(new_database, trusted_documents=folder) as (gateway, client):
            requests: list[dict[str, Any]] = [
                {"documentId": f"sha256:{jobs}"},
                {"documentId": jobs, "query": self.JOBS},
                {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": jobs}}},
            ]
            for parameters in requests:
                response = await client.http.post("/graphql", json=parameters)
                assert response.json()["data"] == {"jobs": {"totalCount": 0}}
            response = await client.http.get("/graphql", params={"documentId": f"sha256:{jobs}"})
            assert response.json()["data"] == {"jobs": {"totalCount": 0}}
            # Untrusted documents run too, unless configured otherwise.
            assert await client.data("{ __typename }") == {"__typename": "Query"}

            async with subscriber(gateway.url) as connected:
                await connected.send(id="1", type="subscribe", payload=requests[0])
                message = await connected.receive()
                assert message["payload"]["data"] == {"jobs": {"totalCount": 0}}
                assert (await connected.receive())["type"] == "complete"
                source = await factories.hierarchy(gateway.database, {})
                await factories.pending_duplication(gateway.database, source)
                events = {"documentId": hash_of(self.EVENTS), "variables": {"after": BEGINNING}}
                await connected.send(id="2", type="subscribe", payload=events)
                assert (await connected.receive())["payload"]["data"]["jobEvents"]["cursor"]

    async def test_an_unknown_hash_is_refused_as_apollo_clients_expect(
        self, new_database: NewDatabase, folder: Path
    ) -> None:
        async with limited(new_database, trusted_documents=folder) as (_, client):
            response = await client.http.post(
                "/graphql", json={"extensions": {"persistedQuery": {"sha256Hash": "0" * 64}}}
            )
            assert response.status_code == 400
            (error,) = response.json()["errors"]
            assert error["message"] == "PersistedQueryNotFound"
            assert error["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"

    async def test_a_hash_that_does_not_match_its_query_is_refused(
        self, idle_client: GraphQLClient
    ) -> None:
        response = await idle_client.http.post(
            "/graphql", json={"query": "{ __typename }", "documentId": "0" * 64}
        )
        assert response.status_code == 422

    async def test_other_documents_are_refused_with_only_trusted(
        self, new_database: NewDatabase, folder: Path
    ) -> None:
        settings = {"trusted_documents": folder, "only_trusted": True}
        async with limited(new_database, **settings) as (gateway, client):
            assert await client.data(self.JOBS) == {"jobs": {"totalCount": 0}}
            for query in ("{ __typename }", self.JOBS + " ", "{ __schema { types { name } } }"):
                error = await client.refusal(query)
                assert error["extensions"]["code"] == "DOCUMENT_NOT_TRUSTED"
                response = await client.http.get("/graphql", params={"query": query})
                assert response.json()["errors"] == [error]
                async with subscriber(gateway.url) as connected:
                    await connected.send(id="1", type="subscribe", payload={"query": query})
                    assert (await connected.receive())["payload"] == [error]


async def test_a_foreign_host_name_of_this_machine_is_refused(
    idle_client: GraphQLClient,
) -> None:
    for host, status in (("evil.example", 400), ("localhost:1", 200), ("127.0.0.1", 200)):
        response = await idle_client.http.get("/healthz", headers={"host": host})
        assert response.status_code == status, host


async def test_a_pattern_longer_than_any_name_is_refused(idle_client: GraphQLClient) -> None:
    error = await idle_client.refusal(
        "query ($like: String!) { hierarchies(filter: {name: {like: $like}}) { totalCount } }",
        like="x" * 1001,
    )
    assert error["extensions"] == {
        "code": "INVALID_INPUT",
        "argument": ["filter", "name", "like"],
    }


@pytest.mark.parametrize("condition", [{"eq": "\0"}, {"in": ["a", "a\0"]}, {"like": "*\0*"}])
async def test_a_condition_with_a_nul_character_is_refused(
    idle_client: GraphQLClient, condition: dict[str, Any]
) -> None:
    error = await idle_client.refusal(
        "query ($name: StringFilter!) { hierarchies(filter: {name: $name}) { totalCount } }",
        name=condition,
    )
    assert error["extensions"] == {"code": "INVALID_INPUT", "argument": ["filter", "name"]}


async def test_a_gateway_on_another_loopback_address_accepts_it_as_host(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"host": "127.0.0.2", "runner": False})
    async with gateway_of(elsewhere) as gateway:
        async with client_of(gateway) as client:
            assert (await client.http.get("/healthz")).status_code == 200
        async with http_client(gateway.url) as http:
            assert (await http.get("/healthz")).status_code == 200
