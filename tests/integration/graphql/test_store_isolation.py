"""No store sees another: a walk of every field with the other store's ids, cursors and texts.

Each goes into every argument that accepts one.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from app.api.graphql.schema import graphql_schema as schema
from app.api.graphql.types.events import EVENTS
from app.domain.callers import Scope
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.stores import ORGANIZATION
from app.services import jobs
from app.services import queue as lane_service
from app.services.jobs import Requester
from app.settings import Settings
from app.storage import lanes
from app.storage.engine.database import Database
from tests import factories
from tests.oracles.multi_store import (
    ALPHA,
    BETA,
    OTHER_STORES,
    Client,
    MultiStore,
    delete_store,
    dump,
    empty_multi_store,
    material_of,
    populate,
    populated_multi_store,
    public_ids,
    with_unknown_ids,
    without_ids,
)
from tests.oracles.schema_walk import (
    Coverage,
    FieldPath,
    Operation,
    coordinates,
    fields,
    formatted,
    literal,
    maximal_paths,
    operations,
    probing_paths,
)
from tests.support.databases import NewDatabase, postgresql_is_long
from tests.support.subscriber import BEGINNING, Subscriber, subscriber


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[MultiStore]:
    """A gateway whose stores all have rows of every kind."""
    async with populated_multi_store(settings) as house:
        yield house


def is_unknown_cursor(error: dict[str, Any]) -> bool:
    """Return True if the error refuses a cursor with an id of another store."""
    return "cursor is gone" in error["message"] and error["path"][-2:-1] in (["nodes"], ["errors"])


async def answers_to(client: Client, requests: Iterable[Operation]) -> list[str]:
    """The responses to these operations, in order."""
    return [await client.text(operation.text) for operation in requests]


def timeless(answer: str) -> str:
    """A response without the values that depend on the time of the request."""
    return re.sub(r'"(estimatedStartAt|begins)":"[^"]+"', r'"\1":"known"', answer)


@pytest.mark.long
@postgresql_is_long
@pytest.mark.timeout(900)
async def test_no_query_reveals_another_store(
    house: MultiStore, counted: Callable[[int, int], int], report: Callable[[str], None]
) -> None:
    steps = counted(3, 5)
    # Four steps are needed to reach every field.
    depth = max(4, steps)
    database = house.database
    alphas = await material_of(database, ALPHA)
    marker, ids = house.store_data[ALPHA].marker, public_ids(database, ALPHA)

    # The same operations show everything to the owner, so the walk below is not empty.
    owner, visited, probed = house.client(ALPHA), Coverage(), Coverage()
    for operation in operations("query", maximal_paths("Query", depth, alphas), alphas):
        data = await owner.data(operation.text)
        for way in operation.paths:
            visited.record(way, data, alphas)
    for operation in operations(
        "query", probing_paths("Query", depth - 1, alphas, alphas), alphas, 1
    ):
        data = await owner.data(operation.text)
        for way in operation.paths:
            visited.record(way, data)
            probed.record(way, data)
    # Only a paused queue has the fields of a pause.
    requester = Requester(ALPHA, "pausing", f"{marker}-robot")
    await database.write(lane_service.pause, requester, f"{marker} pauses")
    for operation in operations("query", maximal_paths("Query", 2, alphas), alphas):
        data = await owner.data(operation.text)
        for way in operation.paths:
            visited.record(way, data)
    assert visited.selected == coordinates("Query")
    assert visited.selected == visited.with_value
    assert probed.with_value >= set(alphas.cursors)

    before = await dump(database, ALPHA)
    walks: list[tuple[Client, list[Operation], list[str]]] = []
    for stranger in OTHER_STORES:
        client = house.client(stranger)
        steps -= stranger == ORGANIZATION
        for operation in operations("query", by_id(maximal_paths("Query", 1, alphas)), alphas):
            answer = await client.text(operation.text)
            (value,) = json.loads(answer)["data"].values()
            assert value in (None, [None] * len(alphas.ids))
            assert answer == await client.text(with_unknown_ids(operation.text, alphas.ids))
        theirs = await material_of(database, stranger)
        # Alpha has copied a hierarchy that every store can read.
        shared = await material_of(database, ORGANIZATION)
        theirs.kinds |= {
            id: kind for id, kind in shared.kinds.items() if kind in ("Hierarchy", "Product")
        }
        requests = [
            *operations("query", by_id(maximal_paths("Query", steps, alphas)), alphas),
            *operations("query", maximal_paths("Query", steps, theirs), theirs),
            *operations("query", probing_paths("Query", steps - 1, theirs, alphas), theirs, 1),
        ]
        answers = await answers_to(client, requests)
        for operation, answer in zip(requests, answers, strict=True):
            assert all(map(is_unknown_cursor, json.loads(answer).get("errors", []))), answer
            leaks = [text for text in (marker, *ids) if text in answer]
            assert leaks == [], (stranger, operation.text, answer)
        walks.append((client, requests, answers))
    assert await dump(database, ALPHA) == before

    # Nor is anything of alpha counted: without its rows every response is the same.
    await database.write(delete_store, ALPHA)
    for client, requests, answers in walks:
        again = await answers_to(client, requests)
        for operation, first, second in zip(requests, answers, again, strict=True):
            assert timeless(first) == timeless(second), operation.text
    checked = sum(len(answers) for _, _, answers in walks)
    report(f"{len(visited.selected)} fields visited, {checked} responses checked, leaks 0")


def by_id(ways: Iterable[FieldPath]) -> Iterator[FieldPath]:
    """Select the ways that begin with an id."""
    return (way for way in ways if way[0].needs_id)


CREATIONS = ("createHierarchy", "createProducts")
"""Mutations that refer to no existing entity."""

QUEUE_MUTATIONS = ("cancelJobs", "pauseQueue", "resumeQueue")
"""Mutations of a whole queue."""


@pytest.mark.long
@postgresql_is_long
@pytest.mark.timeout(900)
async def test_no_mutation_changes_or_reveals_another_store(
    house: MultiStore, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas, alpha = await material_of(database, ALPHA), house.store_data[ALPHA]
    alphas.kinds[str(alpha.pending)] = "Job"
    alphas.keys += [alpha.key, "an unused key"]
    fitting, ids = alphas.fitting, public_ids(database, ALPHA)
    before = await dump(database, ALPHA)
    checked = 0
    for stranger in OTHER_STORES:
        client = house.client(stranger)
        # Arguments combine own and foreign values, too.
        alphas.fitting = [*fitting, *(await material_of(database, stranger)).fitting]
        untouched = await dump(database, stranger)
        ways = [
            way
            for way in maximal_paths("Mutation", 2, alphas)
            if way[0].field not in (*CREATIONS, *QUEUE_MUTATIONS)
        ]
        for operation in operations("mutation", ways, alphas):
            answer = await client.text(operation.text)
            (payload,) = json.loads(answer)["data"].values()
            (refusal,) = payload.pop("errors")
            assert refusal["__typename"] in ("NotFound", "InvalidInput")
            assert not any(value for name, value in payload.items() if name != "__typename")
            shown = without_ids(answer, operation.text, ids)
            assert [text for text in (alpha.marker, *ids) if text in shown] == []
            unknown = with_unknown_ids(operation.text, alphas.ids)
            assert with_unknown_ids(answer, alphas.ids) == await client.text(unknown)
            checked += 1
        assert await dump(database, stranger) == untouched

        own = house.store_data[stranger].hierarchy
        keyed = f'{{hierarchyId: "{own}", idempotencyKey: "{alpha.key}"}}'
        query = f"mutation {{ duplicateHierarchy(input: {keyed}) {{ replayed job {{ id }} }} }}"
        first, again = [(await client.data(query))["duplicateHierarchy"] for _ in range(2)]
        assert not first["replayed"]
        assert again == {**first, "replayed": True}
    assert await dump(database, ALPHA) == before
    report(f"{checked} responses checked, leaks 0")


@postgresql_is_long
async def test_queue_mutations_affect_only_the_callers_queue(house: MultiStore) -> None:
    database, marker = house.database, house.store_data[ALPHA].marker
    alphas, ids = await material_of(database, ALPHA), public_ids(database, ALPHA)
    before = await dump(database, ALPHA)
    ways = [way for way in maximal_paths("Mutation", 4, alphas) if way[0].field in QUEUE_MUTATIONS]
    assert {way[0].field for way in ways} == set(QUEUE_MUTATIONS)
    for stranger in OTHER_STORES:
        client, untouched = house.client(stranger), await dump(database, stranger)
        for id in alphas.ids:
            query = f"""mutation {{
                cancelJobs(input: {{filter: {{hierarchyId: "{id}"}}}}) {{
                    outcomes {{ cancelled }} remaining errors {{ __typename }}
                }}
            }}"""
            nothing = {"outcomes": [], "remaining": 0, "errors": []}
            assert await client.data(query) == {"cancelJobs": nothing}
        assert await dump(database, stranger) == untouched
        for operation in operations("mutation", ways, alphas):
            answer = await client.text(operation.text)
            assert "errors" not in json.loads(answer), answer
            assert [text for text in (marker, *ids) if text in answer] == []
        assert await dump(database, stranger) != untouched
    assert await dump(database, ALPHA) == before


CREATE = """mutation {
    createHierarchy(input: {name: $name, slug: $slug}) {
        hierarchy { children { totalCount } jobs { totalCount } copiedFrom { id } }
        errors { ... on UserError { message path } }
    }
    createProducts(input: {products: [{sku: $sku, name: $name}]}) {
        products { nodes { totalCount } }
        errors { ... on UserError { message path } }
    }
}"""


async def test_names_and_skus_of_another_store_may_be_reused(house: MultiStore) -> None:
    alphas, before = (
        await material_of(house.database, ALPHA),
        await dump(house.database, ALPHA),
    )
    name, slug, sku, _ = map(literal, alphas.texts)
    query = CREATE.replace("$name", name).replace("$slug", slug).replace("$sku", sku)
    for stranger in OTHER_STORES:
        assert await house.client(stranger).data(query) == {
            "createHierarchy": {
                "hierarchy": {
                    "children": {"totalCount": 0},
                    "jobs": {"totalCount": 0},
                    "copiedFrom": None,
                },
                "errors": [],
            },
            "createProducts": {"products": [{"nodes": {"totalCount": 0}}], "errors": []},
        }
    assert await dump(house.database, ALPHA) == before
    # The store's own are taken.
    (refused,) = (await house.client(ALPHA).data(query))["createProducts"]["errors"]
    assert refused["path"] == ["input", "products", "0", "sku"]


READING = (Scope.HIERARCHIES_READ, Scope.JOBS_READ)
ENDING = ("cancelJob", "cancelJobs", "deleteNode", "deleteHierarchy")


@pytest.mark.long
async def test_the_owner_gets_every_field_of_the_same_mutations(house: MultiStore) -> None:
    alphas, alpha = await material_of(house.database, ALPHA), house.store_data[ALPHA]
    alphas.kinds[str(alpha.pending)] = "Job"
    alphas.keys += [alpha.key, "an unused key", ""]
    new = coordinates("Mutation") - coordinates("Query")
    ways = [
        *maximal_paths("Mutation", 2, alphas),
        *(way for way in maximal_paths("Mutation", 3, alphas) if way[0].field == "cancelJobs"),
        *(
            way
            for way in maximal_paths("Mutation", 4, alphas)
            if {step.coordinate for step in way if step.field} <= new
        ),
    ]
    # Last, the mutations after which an entity accepts no other.
    ways.sort(key=lambda way: [way[0].field == name for name in reversed(ENDING)])
    visited, succeeded = Coverage(), set[str]()
    for client in (house.client(ALPHA), house.client(ALPHA, READING)):
        for operation in operations("mutation", ways, alphas):
            data = await client.data(operation.text)
            for way in operation.paths:
                visited.record(way, data)
            succeeded |= {name for name, payload in data.items() if payload.get("errors") == []}
    assert new <= visited.selected
    assert new <= visited.with_value
    assert succeeded == set(fields(schema.type_map["Mutation"]))


async def head_of(database: Database, store: str) -> int:
    """The number of a store's last event."""
    return await database.read(lanes.event_head, store)


@postgresql_is_long
async def test_no_subscription_reveals_another_store(
    house: MultiStore, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas, alpha = await material_of(database, ALPHA), house.store_data[ALPHA]
    head = EVENTS.encode((await database.read(lanes.event_head, ALPHA),))
    for name in fields(schema.type_map["Subscription"]):
        alphas.cursors["Subscription", name] = [BEGINNING, head]
    followed = [
        *operations("subscription", maximal_paths("Subscription", 2, alphas), alphas),
        *operations("subscription", probing_paths("Subscription", 1, alphas, alphas), alphas, 1),
    ]
    by_id = [operation for operation in followed if operation.paths[0][0].needs_id]
    of_all = [operation for operation in followed if not operation.paths[0][0].needs_id]
    checked = 0
    for stranger in OTHER_STORES:
        client = house.client(stranger)
        received: list[tuple[str, str]] = []
        async with socket_of(house, client) as socket:
            for operation in by_id:
                queries = (operation.text, with_unknown_ids(operation.text, alphas.ids))
                refusal, same = [await only_message(socket, text) for text in queries]
                assert json.loads(refusal)["type"] == "error"
                assert "NOT_FOUND" in refusal
                assert with_unknown_ids(refusal, alphas.ids) == same
                received.append((operation.text, refusal))
        for operation in by_id:
            async with client.stream(operation.text, head) as lines:
                streamed = "\n".join([line async for line in lines])
            assert "NOT_FOUND" in streamed
            received.append((operation.text, streamed))

        # An open subscription receives events of its own store only, during activity of others.
        async with socket_of(house, client) as socket:
            for operation in of_all:
                await socket.subscribe(operation.text)
            end = EVENTS.encode((await database.read(lanes.event_head, stranger),))
            await socket.subscribe(
                f'subscription {{ jobEvents(after: "{end}") {{ job {{ requestId }} }} }}'
            )
            for last in ("the last but one", LAST):
                await busy(house, stranger, last)
                while last not in (message := json.dumps(await socket.receive())):
                    assert alpha.marker not in message
                    received.append(("", message))
        for cursor in (BEGINNING, head):
            query = "subscription { jobEvents { cursor job { id requestId } } }"
            async with client.stream(query, cursor) as lines:
                async for line in lines:
                    assert alpha.marker not in line
                    received.append((query, line))
                    if LAST in line or "errors" in line:
                        break
        new = public_ids(database, ALPHA)
        for request, answer in received:
            shown = without_ids(answer, request, new)
            assert [text for text in (alpha.marker, *new) if text in shown] == [], answer
        checked += len(received)
    report(f"{len(followed)} subscriptions, {checked} messages checked, leaks 0")


LAST = "the last request"


async def busy(house: MultiStore, store: str, request_id: str) -> None:
    """Request a duplication for alpha, then one for `store`."""
    for owner, id in ((ALPHA, house.store_data[ALPHA].marker), (store, request_id)):
        await house.database.write(
            jobs.request,
            Requester(owner, id),
            Duplication(house.store_data[owner].hierarchy),
        )


@asynccontextmanager
async def socket_of(house: MultiStore, client: Client) -> AsyncIterator[Subscriber]:
    """Open a socket with the token of `client`."""
    async with subscriber(house.gateway.url, additional_headers=client.authorization) as socket:
        yield socket


async def only_message(socket: Subscriber, query: str) -> str:
    """The single message in reply to a refused operation."""
    await socket.send(id="refused", type="subscribe", payload={"query": query})
    return json.dumps(await socket.receive())


@postgresql_is_long
async def test_the_owner_gets_every_field_of_the_same_subscriptions(house: MultiStore) -> None:
    alphas, visited = await material_of(house.database, ALPHA), Coverage()
    head = await house.database.read(lanes.event_head, ALPHA)
    async with socket_of(house, house.client(ALPHA)) as socket:
        for way in maximal_paths("Subscription", 3, alphas):
            root = way[0]
            if alphas.kinds.get(root.id or "", "Job") != "Job":
                continue
            events = 1
            if not root.needs_id:
                after = formatted({"after": literal(BEGINNING)})
                way, events = (replace(root, arguments=after), *way[1:]), head
            (operation,) = operations("subscription", [way], alphas)
            subscription = await socket.subscribe(operation.text)
            assert root.field
            for event in await subscription.take(events):
                visited.record(way, {root.field: event})
            await subscription.stop()
    new = coordinates("Subscription") - coordinates("Query")
    assert new <= visited.selected
    assert new <= visited.with_value


async def test_jobs_of_other_stores_do_not_affect_a_stores_queue(settings: Settings) -> None:
    async with empty_multi_store(settings) as house:
        database = house.database
        own = await factories.hierarchy(database, {"Trees": {}}, store=BETA)
        client = house.client(BETA)

        async def queue_state() -> Any:
            return await client.data(QUEUE.replace("$id", str(own)))

        nothing = await queue_state()
        await populate(database, ALPHA)
        slow = await factories.hierarchy(database, {"Trees": {}}, store=ALPHA)
        await factories.pending_duplication(database, slow, store=ALPHA)
        assert await queue_state() == nothing
        assert nothing["jobQueue"]["pending"] == 0
        assert nothing["duplicationPreview"] == {
            "nodeCount": 1,
            "productAssociationCount": 0,
            "queuePosition": 1,
            "estimatedSeconds": None,
        }
        for _ in range(2):
            await factories.pending_duplication(database, own, store=BETA)
        queued = await queue_state()
        # The durations of other stores' jobs give no estimate.
        assert queued["jobs"]["nodes"][0] == {"queuePosition": 2, "estimatedStartAt": None}
        assert queued["jobs"]["totalCount"] == 2
        assert queued["duplicationPreview"]["queuePosition"] == 3
        # Alpha has completed jobs, and so an estimate.
        assert (await house.client(ALPHA).data(QUEUE.replace("$id", str(slow))))[
            "duplicationPreview"
        ]["estimatedSeconds"] is not None


QUEUE = """{
    jobQueue { pending running { id } oldestPendingAt cursor }
    duplicationPreview(hierarchyId: "$id") {
        nodeCount productAssociationCount queuePosition estimatedSeconds
    }
    jobs { totalCount nodes { queuePosition estimatedStartAt } }
}"""


@pytest.mark.long
async def test_cursors_do_not_count_rows_of_other_stores(
    database_kind: str, new_database: NewDatabase
) -> None:
    """Cursors are readable: two stores with equal rows have equal numbers in theirs.

    Earlier rows of other stores do not matter.
    """
    settings = Settings(database_url=new_database(database_kind), port=0)
    async with empty_multi_store(settings) as house:
        shared = await populate(house.database, ORGANIZATION)
        numbers = []
        for store in (ALPHA, BETA):
            await populate(house.database, store, shared.hierarchy)
            client, theirs = house.client(store), await material_of(house.database, store)
            for operation in operations("query", maximal_paths("Query", 4, theirs), theirs):
                data = await client.data(operation.text)
                for way in operation.paths:
                    Coverage().record(way, data, theirs)
            numbers.append(
                {
                    at: [list(filter(is_number, read_cursor(cursor))) for cursor in cursors]
                    for at, cursors in theirs.cursors.items()
                }
            )
        first, second = numbers
        assert first.keys() == second.keys()
        different = {at: (first[at], second[at]) for at in first if first[at] != second[at]}
        assert different == {}


def read_cursor(cursor: str) -> list[Any]:
    """The decoded parts of a cursor."""
    parts: list[Any] = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return parts


def is_number(part: Any) -> bool:
    return isinstance(part, int)
