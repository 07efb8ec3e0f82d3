"""What is too large or comes by the wrong name is refused, clearly, and before it costs much."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.api.schema import TOKENS_AT_MOST
from app.api.server import MESSAGE_BYTES
from app.main import Settings
from tests.conftest import GraphQLClient, client_of, gateway_of

JSON = {"content-type": "application/json"}


async def test_a_body_that_says_it_is_too_large_is_refused(idle_client: GraphQLClient) -> None:
    response = await idle_client.http.post(
        "/graphql", content=b" " * (MESSAGE_BYTES + 1), headers=JSON
    )
    assert response.status_code == 413
    assert response.json()["errors"][0]["extensions"]["code"] == "BODY_TOO_LARGE"
    assert response.headers["x-request-id"]


async def test_a_body_that_does_not_say_how_large_it_is_is_refused_too(
    idle_client: GraphQLClient,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (MESSAGE_BYTES // 2)

    response = await idle_client.http.post("/graphql", content=pieces(), headers=JSON)
    assert response.status_code == 413


async def test_a_body_of_the_largest_size_is_taken(idle_client: GraphQLClient) -> None:
    body = b'{"query": "{ __typename }"}'
    response = await idle_client.http.post(
        "/graphql", content=body + b" " * (MESSAGE_BYTES - len(body)), headers=JSON
    )
    assert response.json() == {"data": {"__typename": "Query"}}


async def test_a_document_of_too_many_tokens_is_refused(idle_client: GraphQLClient) -> None:
    many = "{" + " __typename" * TOKENS_AT_MOST + "}"
    error = await idle_client.refusal(many)
    assert str(TOKENS_AT_MOST) in error["message"]


async def test_a_name_that_somebody_pointed_at_this_machine_is_not_answered(
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


async def test_another_loopback_address_answers_by_its_own_name(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"host": "127.0.0.2", "runner": False})
    async with gateway_of(elsewhere) as gateway, client_of(gateway) as client:
        assert (await client.http.get("/healthz")).status_code == 200
