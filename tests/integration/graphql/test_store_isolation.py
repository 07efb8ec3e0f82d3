"""A store finds nothing of another one: the walk of every field of the schema, with every id, every
cursor and every text of the other store in every argument that can carry one."""

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
from app.domain.jobs import Duplication
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
    STRANGERS,
    Client,
    House,
    dump,
    forget,
    furnished,
    furnished_house,
    housed,
    material_of,
    public_ids,
    unheard_of,
    without,
)
from tests.oracles.schema_walk import (
    Operation,
    Seen,
    Way,
    coordinates,
    fields,
    literal,
    maximal_ways,
    operations,
    probing_ways,
    written,
)
from tests.support.subscriber import BEGINNING, Subscriber, subscriber


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    """All stores furnished."""
    async with furnished_house(settings) as house:
        yield house


def is_a_place_unknown(error: dict[str, Any]) -> bool:
    """Whether it refuses a cursor that stands for an id of somebody else's."""
    return "cursor is gone" in error["message"] and error["path"][-2:-1] in (["nodes"], ["errors"])


async def answers_to(client: Client, asked: Iterable[Operation]) -> list[str]:
    """The answers to these operations, one after the other."""
    return [await client.text(operation.text) for operation in asked]


def timeless(answer: str) -> str:
    """An answer without what depends on when it was asked for."""
    return re.sub(r'"(estimatedStartAt|begins)":"[^"]+"', r'"\1":"known"', answer)


@pytest.mark.timeout(900)
async def test_a_walk_of_every_field_finds_nothing_of_another_store(
    house: House, counted: Callable[[int, int], int], report: Callable[[str], None]
) -> None:
    steps = counted(3, 5)
    # It takes four to come to each field there is.
    far = max(4, steps)
    database = house.database
    alphas = await material_of(database, ALPHA)
    marker, ids = house.belongings[ALPHA].marker, public_ids(database, ALPHA)

    # Its owner finds it all by the same operations: what follows is no empty test.
    owner, seen, probed = house.client(ALPHA), Seen(), Seen()
    for operation in operations("query", maximal_ways("Query", far, alphas), alphas):
        data = await owner.data(operation.text)
        for way in operation.ways:
            seen.note(way, data, alphas)
    for operation in operations("query", probing_ways("Query", far - 1, alphas, alphas), alphas, 1):
        data = await owner.data(operation.text)
        for way in operation.ways:
            seen.note(way, data)
            probed.note(way, data)
    # What is told of a pause is told of no queue that goes on.
    requester = Requester(ALPHA, "pausing", f"{marker}-robot")
    await database.write(lane_service.pause, requester, f"{marker} pauses")
    for operation in operations("query", maximal_ways("Query", 2, alphas), alphas):
        data = await owner.data(operation.text)
        for way in operation.ways:
            seen.note(way, data)
    assert seen.selected == coordinates("Query")
    assert seen.selected == seen.found
    assert probed.found >= set(alphas.cursors)

    before = await dump(database, ALPHA)
    walks: list[tuple[Client, list[Operation], list[str]]] = []
    for stranger in STRANGERS:
        client = house.client(stranger)
        steps -= stranger == ORGANIZATION
        for operation in operations("query", by_id(maximal_ways("Query", 1, alphas)), alphas):
            answer = await client.text(operation.text)
            (found,) = json.loads(answer)["data"].values()
            assert found in (None, [None] * len(alphas.ids))
            assert answer == await client.text(unheard_of(operation.text, alphas.ids))
        theirs = await material_of(database, stranger)
        # Alpha has copied this, so that its copy hangs on what all can read.
        shared = await material_of(database, ORGANIZATION)
        theirs.kinds |= {
            id: kind for id, kind in shared.kinds.items() if kind in ("Hierarchy", "Product")
        }
        asked = [
            *operations("query", by_id(maximal_ways("Query", steps, alphas)), alphas),
            *operations("query", maximal_ways("Query", steps, theirs), theirs),
            *operations("query", probing_ways("Query", steps - 1, theirs, alphas), theirs, 1),
        ]
        answers = await answers_to(client, asked)
        for operation, answer in zip(asked, answers, strict=True):
            assert all(map(is_a_place_unknown, json.loads(answer).get("errors", []))), answer
            leaks = [one for one in (marker, *ids) if one in answer]
            assert leaks == [], (stranger, operation.text, answer)
        walks.append((client, asked, answers))
    assert await dump(database, ALPHA) == before

    # Nor is anything of it counted: all is the same, word for word, once it has never been.
    await database.write(forget, ALPHA)
    for client, asked, answers in walks:
        again = await answers_to(client, asked)
        for operation, first, second in zip(asked, answers, again, strict=True):
            assert timeless(first) == timeless(second), operation.text
    looked_at = sum(len(answers) for _, _, answers in walks)
    report(f"{len(seen.selected)} fields visited, {looked_at} answers looked at, leaks 0")


def by_id(ways: Iterable[Way]) -> Iterator[Way]:
    """Those that begin with an id."""
    return (way for way in ways if way[0].needs_id)


ANEW = ("createHierarchy", "createProducts")
"""Mutations that are not about anything that is there."""

OF_ALL_JOBS = ("cancelJobs", "pauseQueue", "resumeQueue")
"""Mutations that are about a whole queue."""


@pytest.mark.timeout(900)
async def test_no_mutation_does_anything_with_what_is_another_stores(
    house: House, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas, alpha = await material_of(database, ALPHA), house.belongings[ALPHA]
    alphas.kinds[str(alpha.pending)] = "Job"
    alphas.keys += [alpha.key, "a key of nobody's"]
    fitting, ids = alphas.fitting, public_ids(database, ALPHA)
    before = await dump(database, ALPHA)
    looked_at = 0
    for stranger in STRANGERS:
        client = house.client(stranger)
        # What is its own stands beside what is not, too.
        alphas.fitting = [*fitting, *(await material_of(database, stranger)).fitting]
        untouched = await dump(database, stranger)
        ways = [
            way
            for way in maximal_ways("Mutation", 2, alphas)
            if way[0].field not in (*ANEW, *OF_ALL_JOBS)
        ]
        for operation in operations("mutation", ways, alphas):
            answer = await client.text(operation.text)
            (payload,) = json.loads(answer)["data"].values()
            (refusal,) = payload.pop("errors")
            assert refusal["__typename"] in ("NotFound", "InvalidInput")
            assert not any(told for name, told in payload.items() if name != "__typename")
            shown = without(answer, operation.text, ids)
            assert [one for one in (alpha.marker, *ids) if one in shown] == []
            asked = unheard_of(operation.text, alphas.ids)
            assert unheard_of(answer, alphas.ids) == await client.text(asked)
            looked_at += 1
        assert await dump(database, stranger) == untouched

        own = house.belongings[stranger].hierarchy
        keyed = f'{{hierarchyId: "{own}", idempotencyKey: "{alpha.key}"}}'
        query = f"mutation {{ duplicateHierarchy(input: {keyed}) {{ replayed job {{ id }} }} }}"
        first, again = [(await client.data(query))["duplicateHierarchy"] for _ in range(2)]
        assert not first["replayed"]
        assert again == {**first, "replayed": True}
    assert await dump(database, ALPHA) == before
    report(f"{looked_at} answers looked at, leaks 0")


async def test_whoever_steers_a_queue_steers_their_own(house: House) -> None:
    database, marker = house.database, house.belongings[ALPHA].marker
    alphas, ids = await material_of(database, ALPHA), public_ids(database, ALPHA)
    before = await dump(database, ALPHA)
    ways = [way for way in maximal_ways("Mutation", 4, alphas) if way[0].field in OF_ALL_JOBS]
    assert {way[0].field for way in ways} == set(OF_ALL_JOBS)
    for stranger in STRANGERS:
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
            assert [one for one in (marker, *ids) if one in answer] == []
        assert await dump(database, stranger) != untouched
    assert await dump(database, ALPHA) == before


TAKE = """mutation {
    createHierarchy(input: {name: $name, slug: $slug}) {
        hierarchy { children { totalCount } jobs { totalCount } copiedFrom { id } }
        errors { ... on UserError { message path } }
    }
    createProducts(input: {products: [{sku: $sku, name: $name}]}) {
        products { nodes { totalCount } }
        errors { ... on UserError { message path } }
    }
}"""


async def test_names_and_skus_of_another_store_are_free_to_take(house: House) -> None:
    alphas, before = (
        await material_of(house.database, ALPHA),
        await dump(house.database, ALPHA),
    )
    name, slug, sku, _ = map(literal, alphas.texts)
    query = TAKE.replace("$name", name).replace("$slug", slug).replace("$sku", sku)
    for stranger in STRANGERS:
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
    # Its own are not.
    (refused,) = (await house.client(ALPHA).data(query))["createProducts"]["errors"]
    assert refused["path"] == ["input", "products", "0", "sku"]


READING = (Scope.HIERARCHIES_READ, Scope.JOBS_READ)
ENDING = ("cancelJob", "cancelJobs", "deleteNode", "deleteHierarchy")


async def test_the_owner_gets_every_field_of_the_same_mutations(house: House) -> None:
    alphas, alpha = await material_of(house.database, ALPHA), house.belongings[ALPHA]
    alphas.kinds[str(alpha.pending)] = "Job"
    alphas.keys += [alpha.key, "a key of nobody's", ""]
    new = coordinates("Mutation") - coordinates("Query")
    ways = [
        *maximal_ways("Mutation", 2, alphas),
        *(way for way in maximal_ways("Mutation", 3, alphas) if way[0].field == "cancelJobs"),
        *(
            way
            for way in maximal_ways("Mutation", 4, alphas)
            if {step.coordinate for step in way if step.field} <= new
        ),
    ]
    # What is cancelled or deleted can be asked for nothing else.
    ways.sort(key=lambda way: [way[0].field == name for name in reversed(ENDING)])
    seen, made = Seen(), set[str]()
    for client in (house.client(ALPHA), house.client(ALPHA, READING)):
        for operation in operations("mutation", ways, alphas):
            data = await client.data(operation.text)
            for way in operation.ways:
                seen.note(way, data)
            made |= {name for name, payload in data.items() if payload.get("errors") == []}
    assert new <= seen.selected
    assert new <= seen.found
    assert made == set(fields(schema.type_map["Mutation"]))


async def head_of(database: Database, store: str) -> int:
    """The number of the last event of a store."""
    return await database.read(lanes.event_head, store)


async def test_no_subscription_tells_of_another_store(
    house: House, report: Callable[[str], None]
) -> None:
    database = house.database
    alphas, alpha = await material_of(database, ALPHA), house.belongings[ALPHA]
    head = EVENTS.encode((await database.read(lanes.event_head, ALPHA),))
    for name in fields(schema.type_map["Subscription"]):
        alphas.cursors["Subscription", name] = [BEGINNING, head]
    followed = [
        *operations("subscription", maximal_ways("Subscription", 2, alphas), alphas),
        *operations("subscription", probing_ways("Subscription", 1, alphas, alphas), alphas, 1),
    ]
    by_id = [operation for operation in followed if operation.ways[0][0].needs_id]
    of_all = [operation for operation in followed if not operation.ways[0][0].needs_id]
    looked_at = 0
    for stranger in STRANGERS:
        client = house.client(stranger)
        heard: list[tuple[str, str]] = []
        async with socket_of(house, client) as socket:
            for operation in by_id:
                asked = (operation.text, unheard_of(operation.text, alphas.ids))
                refusal, same = [await only_message(socket, text) for text in asked]
                assert json.loads(refusal)["type"] == "error"
                assert "NOT_FOUND" in refusal
                assert unheard_of(refusal, alphas.ids) == same
                heard.append((operation.text, refusal))
        for operation in by_id:
            async with client.stream(operation.text, head) as lines:
                streamed = "\n".join([line async for line in lines])
            assert "NOT_FOUND" in streamed
            heard.append((operation.text, streamed))

        # What is open while others are busy hears of its own store and of nothing else.
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
                    heard.append(("", message))
        for cursor in (BEGINNING, head):
            query = "subscription { jobEvents { cursor job { id requestId } } }"
            async with client.stream(query, cursor) as lines:
                async for line in lines:
                    assert alpha.marker not in line
                    heard.append((query, line))
                    if LAST in line or "errors" in line:
                        break
        new = public_ids(database, ALPHA)
        for asked_for, answer in heard:
            shown = without(answer, asked_for, new)
            assert [one for one in (alpha.marker, *new) if one in shown] == [], answer
        looked_at += len(heard)
    report(f"{len(followed)} subscriptions, {looked_at} messages looked at, leaks 0")


LAST = "the last request"


async def busy(house: House, store: str, request_id: str) -> None:
    """Alpha asks for something, and then the store does."""
    for one, id in ((ALPHA, house.belongings[ALPHA].marker), (store, request_id)):
        await house.database.write(
            jobs.request_duplication,
            Requester(one, id),
            Duplication(house.belongings[one].hierarchy),
        )


@asynccontextmanager
async def socket_of(house: House, client: Client) -> AsyncIterator[Subscriber]:
    """A socket of that client."""
    async with subscriber(house.gateway.url, additional_headers=client.authorization) as socket:
        yield socket


async def only_message(socket: Subscriber, query: str) -> str:
    """What is said to an operation that does not begin."""
    await socket.send(id="refused", type="subscribe", payload={"query": query})
    return json.dumps(await socket.receive())


async def test_the_owner_gets_every_field_of_the_same_subscriptions(house: House) -> None:
    alphas, seen = await material_of(house.database, ALPHA), Seen()
    head = await house.database.read(lanes.event_head, ALPHA)
    async with socket_of(house, house.client(ALPHA)) as socket:
        for way in maximal_ways("Subscription", 3, alphas):
            root = way[0]
            if alphas.kinds.get(root.id or "", "Job") != "Job":
                continue
            events = 1
            if not root.needs_id:
                after = written({"after": literal(BEGINNING)})
                way, events = (replace(root, arguments=after), *way[1:]), head
            (operation,) = operations("subscription", [way], alphas)
            happening = await socket.subscribe(operation.text)
            assert root.field
            for event in await happening.take(events):
                seen.note(way, {root.field: event})
            await happening.stop()
    new = coordinates("Subscription") - coordinates("Query")
    assert new <= seen.selected
    assert new <= seen.found


async def test_the_jobs_of_others_do_not_touch_a_stores_queue(settings: Settings) -> None:
    async with housed(settings) as house:
        database = house.database
        own = await factories.hierarchy(database, {"Trees": {}}, store=BETA)
        client = house.client(BETA)

        async def told() -> Any:
            return await client.data(QUEUE.replace("$id", str(own)))

        nothing = await told()
        await furnished(database, ALPHA)
        slow = await factories.hierarchy(database, {"Trees": {}}, store=ALPHA)
        await factories.pending_duplication(database, slow, store=ALPHA)
        assert await told() == nothing
        assert nothing["jobQueue"]["pending"] == 0
        assert nothing["duplicationPreview"] == {
            "nodeCount": 1,
            "productAssociationCount": 0,
            "queuePosition": 1,
            "estimatedSeconds": None,
        }
        for _ in range(2):
            await factories.pending_duplication(database, own, store=BETA)
        queued = await told()
        # Nothing is known of how long the first one takes, however long it took others.
        assert queued["jobs"]["nodes"][0] == {"queuePosition": 2, "estimatedStartAt": None}
        assert queued["jobs"]["totalCount"] == 2
        assert queued["duplicationPreview"]["queuePosition"] == 3
        # The other way round it tells.
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


async def test_no_cursor_counts_what_other_stores_have(settings: Settings) -> None:
    """A cursor can be read, opaque or not: two stores with the same things have the same numbers
    in theirs, however much there was before."""
    async with housed(settings) as house:
        shared = await furnished(house.database, ORGANIZATION)
        numbers = []
        for store in (ALPHA, BETA):
            await furnished(house.database, store, shared.hierarchy)
            client, theirs = house.client(store), await material_of(house.database, store)
            for operation in operations("query", maximal_ways("Query", 4, theirs), theirs):
                data = await client.data(operation.text)
                for way in operation.ways:
                    Seen().note(way, data, theirs)
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
    """What a cursor is made of."""
    parts: list[Any] = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return parts


def is_number(part: Any) -> bool:
    return isinstance(part, int)
