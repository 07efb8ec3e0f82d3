"""Shared subscriptions: identical operations share one execution per event over all transports.

Other operations do not share, and no subscriber affects another.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
from graphql import ExecutionResult
from pydantic import SecretStr

from app.api.auth.identity import mint
from app.api.graphql import executor, shared_subscriptions
from app.api.graphql.plans.events import EventPlan
from app.api.graphql.plans.planner import Planner
from app.api.graphql.shared_subscriptions import SharedSubscriptions
from app.api.graphql.types.events import EVENTS
from app.domain.callers import EVERY_SCOPE, Scope
from app.main import Gateway
from app.services import feed, jobs
from app.settings import Settings
from tests import factories
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import DATABASES
from tests.support.gateway import gateway_of
from tests.support.metrics import Added, scrape
from tests.support.subscriber import BEGINNING, Subscriber, Subscription, subscriber
from tests.support.unexpected_errors import check_masked, lose

PLAIN = "subscription ($after: String) { jobEvents(after: $after) { cursor type job { id } } }"
"""Needs only the event."""
READING = """
subscription ($after: String) { jobEvents(after: $after) {
    cursor type job { id duplication { source { name } } }
} }
"""
"""Needs reads of the database."""
SECRET = "x" * 32
PATIENCE = 20
"""Seconds within which an expected change must happen, even on a busy machine."""

BOTH = pytest.mark.parametrize("database_kind", DATABASES, indirect=True)
"""For tests that depend on the kind of database."""


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """SQLite, except for the tests that run on both kinds."""
    kind: str = getattr(request, "param", "sqlite")
    return kind


@pytest.fixture
def shared_subscriptions_of_gateways(monkeypatch: pytest.MonkeyPatch) -> list[SharedSubscriptions]:
    """The SharedSubscriptions of gateways that start during the test."""
    created: list[SharedSubscriptions] = []

    def new_subscriptions(planner: Planner | None) -> SharedSubscriptions:
        created.append(SharedSubscriptions(planner))
        return created[-1]

    monkeypatch.setattr(executor, "SharedSubscriptions", new_subscriptions)
    return created


@pytest.fixture
async def source(idle_gateway: Gateway) -> UUID:
    """A hierarchy to duplicate."""
    return await factories.hierarchy(idle_gateway.database, {"a": {}})


async def followed(gateway: Gateway, number: int) -> None:
    """Wait until `number` subscriptions follow the log."""
    async with asyncio.timeout(PATIENCE), client_of(gateway) as client:
        while sum(tail.watchers for tail in gateway.feed._tails.values()) != number:
            await client.http.get("/healthz")


@asynccontextmanager
async def executed(gateway: Gateway) -> AsyncIterator[Added]:
    """Collect what a block adds to the metrics."""
    async with client_of(gateway) as client:
        added = Added(await scrape(client.http))
        yield added
        added.after = await scrape(client.http)


def executions(added: Added) -> float:
    """The number of event executions."""
    return sum(added.of("subscription_executions_total").values())


async def next_payload(connected: Subscriber) -> str:
    """The payload of a socket's next message, verbatim."""
    message = str(await connected.socket.recv())
    head, _, payload = message.partition(',"payload":')
    assert json.loads(head + "}")["type"] == "next"
    return payload.removesuffix("}")


@asynccontextmanager
async def streamed(http: httpx.AsyncClient, accept: str, query: str) -> AsyncIterator[Any]:
    """Yield a function that returns the next payload of a stream, verbatim."""
    body = {"query": query}
    head = "data: " if accept == "text/event-stream" else '{"payload":'
    async with http.stream("POST", "/graphql", json=body, headers={"accept": accept}) as response:
        lines = response.aiter_lines()

        async def next_text() -> str:
            async for line in lines:
                if line.startswith(head):
                    text = line.removeprefix(head)
                    return text if head == "data: " else text.removesuffix("}")
            raise EOFError

        yield next_text


@BOTH
@pytest.mark.parametrize("query", [PLAIN, READING], ids=["plain", "reading"])
async def test_an_event_is_executed_once_and_delivered_to_all_in_the_same_bytes(
    query: str, idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    async with AsyncExitStack() as stack:
        listen: list[Callable[[], Awaitable[str]]] = []
        for _ in range(6):
            connected = await stack.enter_async_context(subscriber(idle_gateway.url))
            # Two subscriptions per socket, with different ids.
            for _ in range(2):
                await connected.subscribe(query)
                listen.append(partial(next_payload, connected))
        for accept in ("text/event-stream", "multipart/mixed") * 2:
            next_text = await stack.enter_async_context(streamed(idle_client.http, accept, query))
            listen.append(next_text)
        await followed(idle_gateway, len(listen))

        async with executed(idle_gateway) as added:
            for _ in range(3):
                await factories.pending_duplication(idle_gateway.database, source)
                payloads = {await receive() for receive in listen}
                (payload,) = payloads
                assert json.loads(payload).keys() == {"data"}
    assert executions(added) == 3
    assert added.of("subscription_results_total") == {"": 3 * len(listen)}
    assert added.of("event_lag_seconds_count") == {"": 3 * len(listen)}


def token(store: str = factories.STORE, subject: str = "a", scopes: Any = EVERY_SCOPE) -> Any:
    """The connection options of a socket with that authority."""
    minted = mint(
        SECRET,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject=subject,
        store=store,
        scopes=scopes,
        lifetime=timedelta(hours=1),
    )
    return {"additional_headers": {"Authorization": f"Bearer {minted}"}}


FILTERED = """
subscription ($filter: JobFilter, $after: String) {
    jobEvents(filter: $filter, after: $after) { job { id } }
}
"""
USED_TWICE = """
subscription ($after: String) {
    jobEvents(after: $after) { job { id errors(first: 1, after: $after) { totalCount } } }
}
"""
NAMED = "subscription A { jobEvents { job { id } } } subscription B { jobEvents { job { id } } }"
WITHOUT_WRITE = EVERY_SCOPE - {Scope.JOBS_WRITE}


def subscribe_payload(
    query: str = PLAIN, name: str | None = None, **variables: Any
) -> dict[str, Any]:
    """The payload of a subscribe message."""
    return {"query": query, "operationName": name, "variables": variables}


@pytest.mark.parametrize(
    ("first_operation", "second_operation", "shared"),
    [
        pytest.param(
            (token(), subscribe_payload()), (token(), subscribe_payload()), True, id="the same"
        ),
        pytest.param(
            (token(), subscribe_payload()),
            (token(subject="b"), subscribe_payload()),
            True,
            id="another subject",
        ),
        pytest.param(
            (token(), subscribe_payload()),
            (token(scopes=WITHOUT_WRITE), subscribe_payload()),
            False,
            id="another scope",
        ),
        pytest.param(
            (token(), subscribe_payload()),
            (token(), subscribe_payload(PLAIN.replace("job {", "work: job {"))),
            False,
            id="another alias",
        ),
        pytest.param(
            (token(), subscribe_payload(NAMED, "A")),
            (token(), subscribe_payload(NAMED, "B")),
            False,
            id="another operation name",
        ),
        pytest.param(
            (token(), subscribe_payload(FILTERED)),
            (token(), subscribe_payload(FILTERED, filter={"status": ["PENDING"]})),
            False,
            id="another filter",
        ),
        pytest.param(
            (token(), subscribe_payload(FILTERED, filter={"status": ["PENDING"]})),
            (token(), subscribe_payload(FILTERED, filter={"status": ["PENDING"]}, after=BEGINNING)),
            True,
            id="a cursor",
        ),
        pytest.param(
            (token(), subscribe_payload(USED_TWICE)),
            (token(), subscribe_payload(USED_TWICE, after=BEGINNING)),
            False,
            id="a cursor used twice",
        ),
    ],
)
async def test_only_identical_operations_with_the_same_authority_share_an_execution(
    first_operation: tuple[Any, Any],
    second_operation: tuple[Any, Any],
    shared: bool,
    settings: Settings,
) -> None:
    guarded = settings.model_copy(update={"runner": False, "jwt_secret": SecretStr(SECRET)})
    async with (
        gateway_of(guarded) as gateway,
        subscriber(gateway.url, **first_operation[0]) as first,
        subscriber(gateway.url, **second_operation[0]) as second,
    ):
        source = await factories.hierarchy(gateway.database, {})
        for connected, payload in ((first, first_operation[1]), (second, second_operation[1])):
            await connected.send(id="1", type="subscribe", payload=payload)
        await followed(gateway, 2)
        async with executed(gateway) as added:
            await factories.pending_duplication(gateway.database, source)
            payloads = [await next_payload(connected) for connected in (first, second)]
    assert executions(added) == (1 if shared else 2)
    assert (payloads[0] == payloads[1]) or not shared


async def test_identical_operations_of_two_stores_deliver_each_its_own_jobs(
    settings: Settings,
) -> None:
    guarded = settings.model_copy(update={"runner": False, "jwt_secret": SecretStr(SECRET)})
    async with (
        gateway_of(guarded) as gateway,
        subscriber(gateway.url, **token("alpha")) as alpha,
        subscriber(gateway.url, **token("beta")) as beta,
    ):
        for connected in (alpha, beta):
            await connected.send(id="1", type="subscribe", payload=subscribe_payload(READING))
        await followed(gateway, 2)
        async with executed(gateway) as added:
            for store, connected in (("alpha", alpha), ("beta", beta)):
                source = await factories.hierarchy(gateway.database, {}, name=store, store=store)
                job = await factories.pending_duplication(gateway.database, source, store=store)
                event = json.loads(await next_payload(connected))["data"]["jobEvents"]
                # The first event of each has the same cursor.
                assert event["cursor"] == EVENTS.encode((1,))
                assert event["job"]["id"] == str(job.id)
                assert event["job"]["duplication"] == {"source": {"name": store}}
    assert executions(added) == 2


async def three_followers(gateway: Gateway, connected: Subscriber) -> list[Subscription]:
    """Three identical subscriptions that follow the log."""
    followers = [await connected.subscribe(READING) for _ in range(3)]
    await followed(gateway, 3)
    return followers


async def test_a_later_subscriber_gets_no_result_cached_before_it_subscribed(
    idle_gateway: Gateway, source: UUID
) -> None:
    async with subscriber(idle_gateway.url) as connected:
        followers = await three_followers(idle_gateway, connected)
        await factories.pending_duplication(idle_gateway.database, source)
        names = [
            (await anext(subscription))["job"]["duplication"]["source"]["name"]
            for subscription in followers
        ]
        await factories.edited(idle_gateway.database, source, name="Park")
        # The event and its result are still cached.
        later = await connected.subscribe(READING, after=BEGINNING)
        event = await anext(later)
        async with executed(idle_gateway) as added:
            await factories.pending_duplication(idle_gateway.database, source)
            for subscription in (*followers, later):
                await anext(subscription)
    assert names == ["Garden"] * 3
    assert event["job"]["duplication"]["source"]["name"] == "Park"
    assert executions(added) == 1


@BOTH
async def test_a_resumed_subscriber_replays_the_log_and_then_shares(
    idle_gateway: Gateway, source: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "TAIL_EVENTS", 4)
    async with subscriber(idle_gateway.url) as connected:
        followers = await three_followers(idle_gateway, connected)
        for _ in range(10):
            await factories.pending_duplication(idle_gateway.database, source)
        delivered = [await subscription.take(10) for subscription in followers]
        resumed = await connected.subscribe(READING, after=BEGINNING)
        within = await connected.subscribe(READING, after=delivered[0][7]["cursor"])
        assert delivered == [await resumed.take(10)] * 3
        assert await within.take(2) == delivered[0][8:]
        async with executed(idle_gateway) as added:
            await factories.pending_duplication(idle_gateway.database, source)
            events = [await anext(subscription) for subscription in (*followers, resumed, within)]
    assert events == [events[0]] * 5
    assert executions(added) == 1


class HeldReads:
    """Blocks the reads of events until `go_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        execute = EventPlan._execute_in_read

        async def held(plan: EventPlan, event: object) -> ExecutionResult:
            self.begun.set()
            await self.go_on.wait()
            return await execute(plan, event)

        monkeypatch.setattr(EventPlan, "_execute_in_read", held)


@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_a_subscriber_that_leaves_during_an_execution_takes_nothing_from_others(
    leaving: int, idle_gateway: Gateway, source: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with subscriber(idle_gateway.url) as connected:
        followers = await three_followers(idle_gateway, connected)
        async with executed(idle_gateway) as added:
            hold = HeldReads(monkeypatch)
            await factories.pending_duplication(idle_gateway.database, source)
            await hold.begun.wait()
            await followers.pop(leaving).stop()
            await followed(idle_gateway, 2)
            hold.go_on.set()
            first, second = [await anext(subscription) for subscription in followers]
    assert first == second
    assert executions(added) == 1


async def test_after_the_last_subscriber_left_execution_and_cache_end(
    shared_subscriptions_of_gateways: list[SharedSubscriptions],
    own_gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (shared,) = shared_subscriptions_of_gateways
    source = await factories.hierarchy(own_gateway.database, {"a": {}})
    async with subscriber(own_gateway.url) as connected:
        followers = await three_followers(own_gateway, connected)
        for _ in range(5):
            await factories.pending_duplication(own_gateway.database, source)
        assert len({str(await subscription.take(5)) for subscription in followers}) == 1
        assert len(shared._cached) == 5
        hold = HeldReads(monkeypatch)
        await factories.pending_duplication(own_gateway.database, source)
        await hold.begun.wait()
        (group,) = shared._groups.values()
        (running,) = group.running
        for subscription in followers:
            await subscription.stop()
        await followed(own_gateway, 0)
    assert (shared._groups, shared._cached, shared._cached_bytes) == ({}, {}, 0)
    await asyncio.wait([running], timeout=PATIENCE)
    assert running.cancelled()


async def test_a_single_subscriber_caches_no_results(
    shared_subscriptions_of_gateways: list[SharedSubscriptions], own_gateway: Gateway
) -> None:
    (shared,) = shared_subscriptions_of_gateways
    source = await factories.hierarchy(own_gateway.database, {"a": {}})
    async with subscriber(own_gateway.url) as connected:
        alone = await connected.subscribe(READING, after=BEGINNING)
        await factories.pending_duplication(own_gateway.database, source)
        await anext(alone)
        assert (len(shared._groups), shared._cached) == (1, {})


async def test_the_result_cache_is_bounded_and_a_late_reader_misses_nothing(
    shared_subscriptions_of_gateways: list[SharedSubscriptions],
    own_gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events, max_cached = 40, 3
    monkeypatch.setattr(
        shared_subscriptions,
        "RESULT_CACHE_BYTES",
        max_cached * (shared_subscriptions.EVENT_BYTES + 300),
    )
    (shared,) = shared_subscriptions_of_gateways
    source = await factories.hierarchy(own_gateway.database, {"a": {}})
    query = READING.replace("name }", "name } description")
    options: dict[str, Any] = {"include_products": True, "description": "x" * 200_000}
    async with (
        subscriber(own_gateway.url) as connected,
        subscriber(own_gateway.url, max_queue=1) as late,
    ):
        followers = [
            await subscription.subscribe(query) for subscription in (connected, connected, late)
        ]
        await followed(own_gateway, 3)
        delivered = []
        for number in range(events):
            more: dict[str, Any] = options if number < events - 5 else {}
            await factories.pending_duplication(own_gateway.database, source, **more)
            first, second = [await anext(subscription) for subscription in followers[:2]]
            assert first == second
            delivered.append(first)
            # A result larger than the whole cache is not cached.
            assert 0 <= shared._cached_bytes <= shared_subscriptions.RESULT_CACHE_BYTES
        assert len(shared._cached) == max_cached
        assert await followers[2].take(events) == delivered


async def test_a_failed_execution_reaches_all_and_ends_no_subscription(
    idle_gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    source = await factories.hierarchy(idle_gateway.database, {})
    await factories.pending_duplication(idle_gateway.database, source)
    waiting = await factories.pending_duplication(idle_gateway.database, source)
    query = """
        subscription { jobEvents {
            cursor job { duplication { source { children { totalCount } } } }
        } }
    """
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(subscriber(idle_gateway.url)) for _ in range(3)]
        for connected in sockets:
            await connected.subscribe(query)
        await followed(idle_gateway, 3)
        await lose(idle_gateway.database, "node")
        ids = {
            connected.socket.response.headers["x-request-id"]
            for connected in sockets
            if connected.socket.response
        }
        changes = (
            factories.claimed_job(idle_gateway.database),
            idle_gateway.database.write(jobs.cancel, factories.STORE, waiting.id),
        )
        for change in changes:
            caplog.clear()
            await change
            (payload,) = {await next_payload(connected) for connected in sockets}
            (error,) = json.loads(payload)["errors"]
            assert error["extensions"]["requestId"] in ids
            check_masked(error, error["extensions"]["requestId"], caplog)
            assert (
                len([record for record in caplog.records if record.name == "app.api.http.refusals"])
                == 1
            )
