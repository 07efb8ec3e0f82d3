"""Work is bounded before it is done: depth of trees, variables, scans, new documents, events."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import thread_time
from typing import Any

import pytest
import sqlalchemy as sa

from app.api.auth.throttle import SECONDS_PER_TOKEN, Throttle
from app.api.graphql.admission.documents import Documents
from app.api.graphql.plans.planner import Planner
from app.domain import hierarchies as domain
from app.main import Gateway
from app.settings import Settings
from app.storage import ancestors, differences, jobs
from app.storage.engine.client_reads import SCAN_THREADS
from app.storage.engine.transaction import Transaction
from tests import factories
from tests.support.authoring import Author
from tests.support.clients import GraphQLClient, client_of, http_client
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.rest_client import UNKNOWN, RestClient
from tests.support.subscriber import subscriber

DEPTH = 3


@asynccontextmanager
async def gateway_with(new_database: NewDatabase, **settings: Any) -> AsyncIterator[Gateway]:
    changed = Settings(database_url=new_database("sqlite"), port=0, runner=False, **settings)
    async with gateway_of(changed) as gateway:
        yield gateway


async def test_no_door_makes_a_tree_deeper_than_the_limit(new_database: NewDatabase) -> None:
    async with (
        gateway_with(new_database, max_tree_depth=DEPTH) as gateway,
        client_of(gateway) as client,
    ):
        author = Author(client, gateway.database)
        rest = RestClient(client.http, gateway.database)
        garden = (await author.make("createHierarchy", name="Garden"))["id"]
        a, b, c = await author.chain(garden, "abc")
        x, y = await author.chain(garden, "xy")
        message = await author.refused(
            "InvalidInput", "parentId", "createNode", parentId=c, name="d"
        )
        assert "4 levels" in message
        assert "at most 3" in message
        await author.refused("InvalidInput", "parentId", "moveNode", nodeId=x, parentId=b)

        parent = {"data": {"type": "node", "id": c}}
        new = {"type": "node", "attributes": {"name": "d"}, "relationships": {"parent": parent}}
        nodes = f"/hierarchies/{garden}/nodes"
        x_below_b = {"type": "node", "id": b}
        for method, path, data in (
            ("POST", nodes, new),
            ("POST", f"{nodes}/{b}/relationships/children", [{"type": "node", "id": x}]),
            ("PUT", f"{nodes}/{x}/relationships/parent", x_below_b),
        ):
            answer = await rest.ask(method, path, data, status=422)
            assert "at most 3" in answer["errors"][0]["detail"]

        await author.make("moveNode", nodeId=x, parentId=a)
        assert (await author.seen(y))["depth"] == DEPTH


async def test_an_older_deeper_tree_can_be_read_edited_and_moved_upwards(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    author = Author(idle_client, idle_gateway.database)
    depth = domain.MAX_TREE_DEPTH + 20
    garden = await factories.hierarchy(
        idle_gateway.database, factories.deep_tree(depth), max_depth=depth
    )
    second, deepest = (str(domain.node_id(garden, number)) for number in (2, depth))
    seen = await author.seen(deepest)
    assert [item["name"] for item in seen["breadcrumbs"]] == ["Garden", *map(str, range(1, 121))]
    await author.make("updateNode", nodeId=deepest, name="deepest")
    await author.refused("InvalidInput", "parentId", "createNode", parentId=deepest, name="d")
    await author.make("moveNode", nodeId=second, parentId=str(garden))
    assert (await author.seen(deepest))["depth"] == depth - 1


async def test_paths_that_are_too_long_together_are_refused_with_a_code(
    idle_gateway: Gateway, idle_client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ancestors, "MAX_PATH_ITEMS", 30)
    garden = await factories.hierarchy(idle_gateway.database, factories.deep_tree(10))
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on TreeItem { breadcrumbs { id } } } }"

    def ids(count: int) -> list[str]:
        return [str(domain.node_id(garden, 10 - number)) for number in range(count)]

    assert await idle_client.data(query, ids=ids(3))
    answer = await idle_client.answer(query, ids=ids(4))
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"PATHS_TOO_LONG"}


async def test_one_path_is_never_too_long(
    idle_gateway: Gateway, idle_client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ancestors, "MAX_PATH_ITEMS", 30)
    garden = await factories.hierarchy(idle_gateway.database, factories.deep_tree(40))
    id = str(domain.node_id(garden, 40))
    query = "query ($id: ID!) { node(id: $id) { ... on TreeItem { breadcrumbs { name } } } }"
    data = await idle_client.data(query, id=id)
    assert len(data["node"]["breadcrumbs"]) == 41


@pytest.mark.parametrize(
    "input",
    [
        pytest.param({f"unknown{number}": 1 for number in range(5_000)}, id="unknown keys"),
        pytest.param({"products": [{}] * 20_000}, id="empty inputs"),
    ],
)
async def test_errors_of_variables_are_limited_like_those_of_documents(
    idle_client: GraphQLClient, input: object
) -> None:
    response = await idle_client.http.post(
        "/graphql",
        json={
            "query": "mutation ($i: CreateProductsInput!) { createProducts(input: $i) "
            "{ errors { __typename } } }",
            "variables": {"i": input},
        },
    )
    errors = response.json()["errors"]
    # Ten, and that there were more.
    assert len(errors) == 11
    assert {error["extensions"]["code"] for error in errors} == {"BAD_USER_INPUT"}
    assert "Too many errors" in errors[-1]["message"]
    assert len(response.content) < 32 * 1024


NESTED = 240


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (
            "{ ...f0 } "
            + "".join(f"fragment f{n} on Query {{ ...f{n + 1} }} " for n in range(NESTED))
            + f"fragment f{NESTED} on Query {{ __typename }}",
            "DEPTH_LIMIT_EXCEEDED",
        ),
        ("{ ..." * 150 + "{ __typename }" + "}" * 150, "DEPTH_LIMIT_EXCEEDED"),
        ("{ ..." * 600 + "{ __typename }" + "}" * 600, "GRAPHQL_PARSE_FAILED"),
        ("{ node(id: " + "[" * 150 + "]" * 150 + ") { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ node(id: " + "[" * 900 + "]" * 900 + ") { id } }", "GRAPHQL_PARSE_FAILED"),
        ("query ($x: " + "[" * 600 + "ID" + "]" * 600 + ") { __typename }", "GRAPHQL_PARSE_FAILED"),
        (
            "{ nodes(ids: " + "{a: " * 150 + "1" + "}" * 150 + ") { id } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ],
)
async def test_no_nesting_ends_in_an_internal_error(
    idle_client: GraphQLClient, query: str, code: str
) -> None:
    answer = await idle_client.answer(query)
    assert {error["extensions"]["code"] for error in answer["errors"]} == {code}


@pytest.mark.parametrize("depth", [100, 500, 1_000, 20_000])
async def test_deep_json_is_refused_by_both_surfaces(
    idle_gateway: Gateway, idle_client: GraphQLClient, depth: int
) -> None:
    deep = "[" * depth + "]" * depth
    headers = {"content-type": "application/json"}
    for variables in (f'{{"i": {deep}}}', f'{{"i": {{"products": {deep}}}}}'):
        body = (
            '{"query": "mutation ($i: CreateProductsInput!) { createProducts(input: $i) '
            '{ errors { __typename } } }", "variables": ' + variables + "}"
        )
        response = await idle_client.http.post("/graphql", content=body, headers=headers)
        assert {error["extensions"]["code"] for error in response.json()["errors"]} <= {
            *("BAD_REQUEST", "BAD_USER_INPUT")
        }
    for body in (
        deep,
        f'{{"data": {deep}}}',
        f'{{"data": {{"type": "hierarchy", "attributes": {{"name": {deep}}}}}}}',
        f'{{"data": {{"type": "hierarchy", "attributes": {{"name": "a", "locales": {deep}}}}}}}',
        f'{{"data": {{"type": "hierarchy", "attributes": {{"name": "a", "unknown": {deep}}}}}}}',
    ):
        response = await idle_client.http.post("/pcm/hierarchies", content=body, headers=headers)
        assert response.status_code in (400, 422)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({f"unknown{number}": 1 for number in range(5_001)}, id="keys"),
        pytest.param([{"a": 1, "b": 2}] * 2_000, id="nested keys"),
        pytest.param([[]] * 5_001, id="items"),
    ],
)
async def test_a_rest_body_of_too_many_values_is_refused_before_its_validation(
    idle_client: GraphQLClient, data: object
) -> None:
    response = await idle_client.http.post("/pcm/hierarchies", json={"data": data})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["detail"] == "The body has more than 5,000 values."


async def test_a_filtered_list_has_a_price_and_runs_on_a_scan_thread(
    idle_gateway: Gateway, idle_client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def noted(name: str) -> Callable[..., Awaitable[object]]:
        run = getattr(idle_gateway.database, name)

        def read(*arguments: object) -> Awaitable[object]:
            reads.append(name)
            result: Awaitable[object] = run(*arguments)
            return result

        return read

    for name in ("client_read", "client_scan"):
        monkeypatch.setattr(idle_gateway.database, name, noted(name))
    plain = await idle_client.answer("{ products { totalCount } }")
    # A read that takes long on a busy machine starts over as a scan.
    assert reads[0] == "client_read"
    reads.clear()
    filtered = await idle_client.answer(
        '{ products(filter: {name: {like: "*a*"}}) { totalCount } }'
    )
    assert reads == ["client_scan"]
    costs = [answer["extensions"]["cost"]["requested"] for answer in (plain, filtered)]
    assert costs == [2, 102]
    reads.clear()
    # The plan meets the error, and the reference executor, which reports it, reads the list again.
    answer = await idle_client.answer(
        'query($id: ID!) { hierarchy(id: $id) { nodes(after: "x") { totalCount } }'
        ' products(filter: {name: {like: "*a*"}}) { totalCount } }',
        id=str(await factories.hierarchy(idle_gateway.database, {})),
    )
    assert [error["path"][0] for error in answer["errors"]] == ["hierarchy"]
    assert answer["data"]["products"] == {"totalCount": 0}
    # One short read of the hierarchy.
    assert reads.count("client_read") == 1


def worth_tokens(fn: Callable[..., Any], tokens: int) -> Callable[..., Any]:
    """`fn` after processor time that costs so many tokens."""

    def slow(*args: Any, **kwargs: Any) -> Any:
        end = thread_time() + tokens * SECONDS_PER_TOKEN
        while thread_time() < end:
            pass
        return fn(*args, **kwargs)

    return slow


@pytest.mark.parametrize(("owner", "method"), [(Documents, "_parse"), (Planner, "_compile")])
async def test_a_new_document_is_parsed_and_compiled_once_off_the_event_loop(
    owner: type, method: str, idle_client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    original = getattr(owner, method)

    def noted(*args: object) -> object:
        threads.append(threading.get_ident())
        return original(*args)

    monkeypatch.setattr(owner, method, noted)
    query = f"{{ jobs {{ totalCount }} }} # {method}"
    together = await asyncio.gather(*(idle_client.data(query) for _ in range(5)))
    assert [*together, await idle_client.data(query)] == [{"jobs": {"totalCount": 0}}] * 6
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


@pytest.fixture
def charged(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The tokens of the time of each request, beyond its price."""
    tokens: list[float] = []
    monkeypatch.setattr(Throttle, "charge", lambda _self, _client, more: tokens.append(more))
    return tokens


async def test_the_compilation_of_a_plan_is_charged_to_its_client(
    idle_client: GraphQLClient, charged: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Planner, "_compile", worth_tokens(Planner._compile, 10))
    assert await idle_client.data("{ jobs { totalCount } } # slow") == {"jobs": {"totalCount": 0}}
    assert charged[-1] >= 10 - 1


async def test_subscriptions_beyond_a_clients_budget_are_refused_on_every_transport(
    new_database: NewDatabase,
) -> None:
    subscription = "subscription { jobEvents { type job { id } } }"
    async with (
        gateway_with(new_database, max_subscription_cost=9) as gateway,
        subscriber(gateway.url) as connected,
    ):
        ids = {"1", "2", "3"}
        for id in ids:
            await connected.send(id=id, type="subscribe", payload={"query": subscription})
        refused = await connected.receive()
        assert refused["type"] == "error"
        accepted = ids - {refused["id"]}
        (error,) = refused["payload"]
        assert error["extensions"] == {
            "code": "SUBSCRIPTION_COST_LIMIT_EXCEEDED",
            "limit": 9,
            "found": 12,
        }
        async with http_client(gateway.url) as http:
            response = await http.post(
                "/graphql",
                json={"query": subscription},
                headers={"accept": "text/event-stream"},
            )
            assert response.status_code == 429
        await connected.send(id=accepted.pop(), type="complete")
        await connected.send(id="4", type="subscribe", payload={"query": subscription})
        await connected.send(type="ping")
        assert (await connected.receive())["type"] == "pong"


async def test_a_streamed_query_is_priced_and_charged_as_any_other(
    new_database: NewDatabase, charged: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "count", worth_tokens(jobs.count, 10))
    async with (
        gateway_with(new_database, max_subscription_cost=1) as gateway,
        http_client(gateway.url) as http,
    ):
        for accept in ("application/json", "text/event-stream"):
            response = await http.post(
                "/graphql",
                json={"query": "{ jobs { totalCount } }"},
                headers={"accept": accept},
            )
            assert response.status_code == 200
            assert response.headers["content-type"].startswith(accept)
            assert '{"data":{"jobs":{"totalCount":0}}' in response.text
            assert charged.pop() >= 10 - 1


def endless(tx: Transaction, *_: object) -> object:
    return tx.rows(
        sa.text(
            "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT (n + 1) % 7 FROM endless) "
            "SELECT count(*) FROM endless"
        )
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a thread."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110, threads have no event for it
            await asyncio.sleep(0.005)


REQUESTS = {
    "REST": "GET /pcm/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GraphQL": "GET /graphql?query=%7BduplicationDiff(jobId:%22{}%22)%7BonlyInCopy%7D%7D HTTP/1.1"
    "\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("surface", REQUESTS)
async def test_a_scan_ends_when_its_client_disconnects(
    idle_gateway: Gateway, monkeypatch: pytest.MonkeyPatch, surface: str
) -> None:
    monkeypatch.setattr(jobs, "offset_page", endless)
    monkeypatch.setattr(differences, "of_duplication", endless)
    threads = idle_gateway.database._scans
    port = int(idle_gateway.url.rsplit(":", 1)[1])
    writers = []
    for _ in range(SCAN_THREADS):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUESTS[surface].replace("{}", UNKNOWN).encode())
        writers.append(writer)
    await until(lambda: threads._unused < SCAN_THREADS and bool(threads._queue))
    for writer in writers:
        writer.close()
    await until(lambda: threads._unused == SCAN_THREADS and not threads._queue)
