"""The bytes of an answer are bounded: texts and paths are counted before their memory is taken."""

import gc
from typing import Any
from uuid import UUID

import pytest

from app.api.graphql.plans.planner import Planner
from app.domain import answers
from app.domain.answers import AnswerBudget, AnswerTooLarge, TextsTooLong
from app.domain.hierarchies import node_id
from app.main import Gateway
from tests import factories
from tests.support.clients import GraphQLClient
from tests.support.rest_client import rest_of
from tests.support.subscriber import BEGINNING, subscriber

LONG = "x" * 10_000
LIMIT = 100_000
NODES = 5

TEXTS = {
    "description": "description",
    "locales": "localizations { description }",
    "admin_attributes": "adminAttributes { value }",
    "shopper_attributes": "shopperAttributes { value }",
}
VALUES: dict[str, Any] = {
    "description": LONG,
    "locales": {"fr-FR": {"name": "Jardin", "description": LONG}},
    "admin_attributes": {"a": LONG},
    "shopper_attributes": {"a": LONG},
}
AN_ERROR = 'bad: hierarchy(id: "{}") { nodes(after: "x") { nodes { id } } }'
"""A field that makes the reference executor run the query."""


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_CHARACTERS", LIMIT)


async def garden_with(gateway: Gateway, nodes: int = NODES, **values: Any) -> UUID:
    garden = await factories.hierarchy(gateway.database, {f"{no}": {} for no in range(nodes)})
    for no in range(1, nodes + 1):
        await factories.edited(gateway.database, node_id(garden, no), **values)
    return garden


def aliased(garden: UUID, selection: str, aliases: int) -> str:
    field = f'hierarchy(id: "{garden}") {{ nodes {{ nodes {{ {selection} }} }} }}'
    return " ".join(f"a{no}: {field}" for no in range(aliases))


@pytest.mark.parametrize("attribute", TEXTS)
async def test_long_texts_under_many_aliases_are_refused(
    idle_gateway: Gateway, idle_client: GraphQLClient, attribute: str
) -> None:
    garden = await garden_with(idle_gateway, **{attribute: VALUES[attribute]})
    once = f"{{ {aliased(garden, TEXTS[attribute], 1)} }}"
    data = await idle_client.data(once)
    assert LONG in str(data)
    fields, error = aliased(garden, TEXTS[attribute], 3), AN_ERROR.replace("{}", str(garden))
    for query in (f"{{ {fields} }}", f"{{ {fields} {error} }}"):
        response = await idle_client.http.post("/graphql", json={"query": query})
        assert response.status_code == 422
        assert len(response.content) < 1_000
        (refusal,) = response.json()["errors"]
        assert refusal["extensions"]["code"] == "TEXTS_TOO_LONG"
        assert "more than 100,000 characters" in refusal["message"]
        assert "mutation" not in refusal["message"]


@pytest.mark.parametrize("error", ["", AN_ERROR])
async def test_a_refused_answer_keeps_nothing_in_memory(
    idle_gateway: Gateway, idle_client: GraphQLClient, error: str
) -> None:
    garden = await garden_with(idle_gateway, description=LONG)
    error = error.replace("{}", str(garden))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await idle_client.answer(f"{{ {aliased(garden, 'description', 3)} {error} }}")
        # The traceback of an error refers to all that was read.
        kept = [kept for kept in gc.get_objects() if isinstance(kept, AnswerTooLarge)]
        assert kept == []
    finally:
        gc.enable()


async def test_one_text_is_never_too_long(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    long = "x" * (2 * LIMIT)
    garden = await garden_with(idle_gateway, 1, description=long)
    query = f"{{ {aliased(garden, 'id name description', 1)} }}"
    node = (await idle_client.data(query))["a0"]["nodes"]["nodes"][0]
    assert node["description"] == long
    async with rest_of(idle_gateway) as rest:
        page = await rest.list(f"/hierarchies/{garden}/nodes")
        assert page["data"][0]["attributes"]["description"] == long


async def test_texts_are_counted_while_they_are_read(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    garden = await garden_with(idle_gateway, 15, description=LONG)
    answer = await idle_client.answer(f"{{ {aliased(garden, 'description', 1)} }}")
    assert answer["errors"][0]["extensions"]["code"] == "TEXTS_TOO_LONG"
    async with rest_of(idle_gateway) as rest:
        path = f"/hierarchies/{garden}/nodes"
        error = await rest.refused(400, "GET", path)
        assert "more than 100,000 characters" in error["detail"]
        assert len((await rest.list(path, limit=10))["data"]) == 10


@pytest.mark.parametrize("error", ["", AN_ERROR])
async def test_path_items_are_counted_for_the_whole_operation(
    idle_gateway: Gateway,
    idle_client: GraphQLClient,
    monkeypatch: pytest.MonkeyPatch,
    error: str,
) -> None:
    monkeypatch.setattr(answers, "MAX_PATH_ITEMS", 30)
    garden = await garden_with(idle_gateway)
    error = error.replace("{}", str(garden))
    few = await idle_client.answer(f"{{ {aliased(garden, 'breadcrumbs { id }', 3)} {error} }}")
    assert few["data"]["a2"]["nodes"]["nodes"]
    many = await idle_client.answer(f"{{ {aliased(garden, 'breadcrumbs { id }', 4)} {error} }}")
    assert "data" not in many
    assert [error["extensions"]["code"] for error in many["errors"]] == ["PATHS_TOO_LONG"]


@pytest.mark.parametrize("plans", [True, False])
async def test_an_event_with_too_long_texts_is_an_error(
    idle_gateway: Gateway, monkeypatch: pytest.MonkeyPatch, plans: bool
) -> None:
    if not plans:
        monkeypatch.setattr(
            Planner, "event_executor", lambda _planner, _operation, _context, reference: reference
        )
    garden = await garden_with(idle_gateway, description=LONG)
    texts = " ".join(f"a{no}: nodes {{ nodes {{ description }} }}" for no in range(3))
    query = (
        f'subscription {{ jobEvents(after: "{BEGINNING}") '
        f"{{ type job {{ duplication {{ source {{ {texts} }} }} }} }} }}"
    )
    await factories.pending_duplication(idle_gateway.database, garden)
    async with subscriber(idle_gateway.url) as connected:
        await connected.send(id="1", type="subscribe", payload={"query": query})
        message = await connected.receive()
    assert message["type"] == "next"
    assert message["payload"]["data"] is None
    (error,) = message["payload"]["errors"]
    assert error["extensions"]["code"] == "TEXTS_TOO_LONG"


def test_short_texts_are_counted_once_they_can_be_many() -> None:
    budget = AnswerBudget()
    budget.read_short(LIMIT // 2, 10)
    assert not budget.counts_texts
    budget.read(["x" * 1_001])
    assert budget.counts_texts
    attempt = budget.copy()
    attempt.return_texts(["x" * (LIMIT - 1), ["x", "y" * LIMIT]])
    with pytest.raises(TextsTooLong):
        attempt.return_texts(["x", "y"])
    assert attempt.exceeded
    budget.return_texts(["x" * LIMIT, "y" * LIMIT])
    assert not budget.exceeded
