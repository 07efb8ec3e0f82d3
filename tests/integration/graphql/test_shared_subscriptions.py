"""Subscribers who are told the same share one execution of each event, whatever way they came, and
nobody else does; and what one of them does is nothing to the others."""

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
from pydantic import SecretStr

from app.api.auth.identity import mint
from app.api.graphql import executor, shared_subscriptions
from app.api.graphql.fields.loaders import Loaders
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
from tests.support.metrics import Added, scraped
from tests.support.subscriber import BEGINNING, Subscriber, Subscription, subscriber
from tests.support.unexpected_errors import check_masked, lose

PLAIN = "subscription ($after: String) { jobEvents(after: $after) { cursor type job { id } } }"
"""Needs nothing but the event."""
READING = """
subscription ($after: String) { jobEvents(after: $after) {
    cursor type job { id duplication { source { name } } }
} }
"""
"""Needs to read."""
SECRET = "x" * 32
PATIENCE = 20
"""Seconds within which what has to happen has happened, however busy the machine is."""

BOTH = pytest.mark.parametrize("database_kind", DATABASES, indirect=True)
"""For what the kind of database has a part in."""


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """SQLite, except for the tests that run on both kinds."""
    kind: str = getattr(request, "param", "sqlite")
    return kind


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[SharedSubscriptions]:
    """The audiences of gateways that start from here on."""
    found: list[SharedSubscriptions] = []

    def noted() -> SharedSubscriptions:
        found.append(SharedSubscriptions())
        return found[-1]

    monkeypatch.setattr(executor, "SharedSubscriptions", noted)
    return found


@pytest.fixture
async def source(idle_gateway: Gateway) -> UUID:
    """A hierarchy to duplicate."""
    return await factories.hierarchy(idle_gateway.database, {"a": {}})


async def followed(gateway: Gateway, number: int) -> None:
    """Wait for so many subscriptions to follow the log."""
    async with asyncio.timeout(PATIENCE), client_of(gateway) as client:
        while sum(tail.watchers for tail in gateway.feed._tails.values()) != number:
            await client.http.get("/healthz")


@asynccontextmanager
async def executed(gateway: Gateway) -> AsyncIterator[Added]:
    """Counts what a block adds to the figures."""
    async with client_of(gateway) as client:
        added = Added(await scraped(client.http))
        yield added
        added.after = await scraped(client.http)


def executions(added: Added) -> float:
    """How often an event was executed."""
    return sum(added.of("subscription_executions_total").values())


async def heard_as_text(connected: Subscriber) -> str:
    """The payload of a socket's next message, to the letter."""
    message = str(await connected.socket.recv())
    head, _, payload = message.partition(',"payload":')
    assert json.loads(head + "}")["type"] == "next"
    return payload.removesuffix("}")


@asynccontextmanager
async def streamed(http: httpx.AsyncClient, accept: str, query: str) -> AsyncIterator[Any]:
    """What a stream tells next, to the letter."""
    asked = {"query": query}
    head = "data: " if accept == "text/event-stream" else '{"payload":'
    async with http.stream("POST", "/graphql", json=asked, headers={"accept": accept}) as response:
        lines = response.aiter_lines()

        async def heard() -> str:
            async for line in lines:
                if line.startswith(head):
                    found = line.removeprefix(head)
                    return found if head == "data: " else found.removesuffix("}")
            raise EOFError

        yield heard


@BOTH
@pytest.mark.parametrize("query", [PLAIN, READING], ids=["plain", "reading"])
async def test_an_event_is_executed_once_and_told_to_all_in_the_same_bytes(
    query: str, idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    async with AsyncExitStack() as stack:
        listen: list[Callable[[], Awaitable[str]]] = []
        for _ in range(6):
            connected = await stack.enter_async_context(subscriber(idle_gateway.url))
            # Two on a socket, whose names for them differ.
            for _ in range(2):
                await connected.subscribe(query)
                listen.append(partial(heard_as_text, connected))
        for accept in ("text/event-stream", "multipart/mixed") * 2:
            told = await stack.enter_async_context(streamed(idle_client.http, accept, query))
            listen.append(told)
        await followed(idle_gateway, len(listen))

        async with executed(idle_gateway) as added:
            for _ in range(3):
                await factories.pending_duplication(idle_gateway.database, source)
                payloads = {await one() for one in listen}
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
SOME = EVERY_SCOPE - {Scope.JOBS_WRITE}


def asked(query: str = PLAIN, name: str | None = None, **variables: Any) -> dict[str, Any]:
    """The payload of a subscribe message."""
    return {"query": query, "operationName": name, "variables": variables}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        pytest.param((token(), asked()), (token(), asked()), True, id="the same"),
        pytest.param((token(), asked()), (token(subject="b"), asked()), True, id="a subject"),
        pytest.param((token(), asked()), (token(scopes=SOME), asked()), False, id="a scope"),
        pytest.param(
            (token(), asked()),
            (token(), asked(PLAIN.replace("job {", "work: job {"))),
            False,
            id="an alias",
        ),
        pytest.param(
            (token(), asked(NAMED, "A")), (token(), asked(NAMED, "B")), False, id="a name"
        ),
        pytest.param(
            (token(), asked(FILTERED)),
            (token(), asked(FILTERED, filter={"status": ["PENDING"]})),
            False,
            id="a filter",
        ),
        pytest.param(
            (token(), asked(FILTERED, filter={"status": ["PENDING"]})),
            (token(), asked(FILTERED, filter={"status": ["PENDING"]}, after=BEGINNING)),
            True,
            id="a place to resume from",
        ),
        pytest.param(
            (token(), asked(USED_TWICE)),
            (token(), asked(USED_TWICE, after=BEGINNING)),
            False,
            id="a place that is used elsewhere",
        ),
    ],
)
async def test_who_asks_the_same_with_the_same_authority_shares_and_nobody_else(
    one: tuple[Any, Any], other: tuple[Any, Any], alike: bool, settings: Settings
) -> None:
    guarded = settings.model_copy(update={"runner": False, "jwt_secret": SecretStr(SECRET)})
    async with (
        gateway_of(guarded) as gateway,
        subscriber(gateway.url, **one[0]) as first,
        subscriber(gateway.url, **other[0]) as second,
    ):
        source = await factories.hierarchy(gateway.database, {})
        for connected, payload in ((first, one[1]), (second, other[1])):
            await connected.send(id="1", type="subscribe", payload=payload)
        await followed(gateway, 2)
        async with executed(gateway) as added:
            await factories.pending_duplication(gateway.database, source)
            told = [await heard_as_text(connected) for connected in (first, second)]
    assert executions(added) == (1 if alike else 2)
    assert (told[0] == told[1]) or not alike


async def test_stores_are_told_their_own_in_the_same_words(settings: Settings) -> None:
    guarded = settings.model_copy(update={"runner": False, "jwt_secret": SecretStr(SECRET)})
    async with (
        gateway_of(guarded) as gateway,
        subscriber(gateway.url, **token("alpha")) as alpha,
        subscriber(gateway.url, **token("beta")) as beta,
    ):
        for connected in (alpha, beta):
            await connected.send(id="1", type="subscribe", payload=asked(READING))
        await followed(gateway, 2)
        async with executed(gateway) as added:
            for store, connected in (("alpha", alpha), ("beta", beta)):
                source = await factories.hierarchy(gateway.database, {}, name=store, store=store)
                job = await factories.pending_duplication(gateway.database, source, store=store)
                told = json.loads(await heard_as_text(connected))["data"]["jobEvents"]
                # The first event of each has the same cursor.
                assert told["cursor"] == EVENTS.encode((1,))
                assert told["job"]["id"] == str(job.id)
                assert told["job"]["duplication"] == {"source": {"name": store}}
    assert executions(added) == 2


async def three(gateway: Gateway, connected: Subscriber) -> list[Subscription]:
    """Three subscriptions that follow the log, all told the same."""
    followers = [await connected.subscribe(READING) for _ in range(3)]
    await followed(gateway, 3)
    return followers


async def test_who_comes_later_is_told_nothing_that_was_found_out_before(
    idle_gateway: Gateway, source: UUID
) -> None:
    async with subscriber(idle_gateway.url) as connected:
        followers = await three(idle_gateway, connected)
        await factories.pending_duplication(idle_gateway.database, source)
        names = [(await anext(one))["job"]["duplication"]["source"]["name"] for one in followers]
        await factories.edited(idle_gateway.database, source, name="Park")
        # The event is still at hand, and so is its answer.
        later = await connected.subscribe(READING, after=BEGINNING)
        event = await anext(later)
        async with executed(idle_gateway) as added:
            await factories.pending_duplication(idle_gateway.database, source)
            for one in (*followers, later):
                await anext(one)
    assert names == ["Garden"] * 3
    assert event["job"]["duplication"]["source"]["name"] == "Park"
    assert executions(added) == 1


@BOTH
async def test_who_resumes_from_the_log_hears_it_all_and_then_shares(
    idle_gateway: Gateway, source: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "TAIL_EVENTS", 4)
    async with subscriber(idle_gateway.url) as connected:
        followers = await three(idle_gateway, connected)
        for _ in range(10):
            await factories.pending_duplication(idle_gateway.database, source)
        heard = [await one.take(10) for one in followers]
        resumed = await connected.subscribe(READING, after=BEGINNING)
        within = await connected.subscribe(READING, after=heard[0][7]["cursor"])
        assert heard == [await resumed.take(10)] * 3
        assert await within.take(2) == heard[0][8:]
        async with executed(idle_gateway) as added:
            await factories.pending_duplication(idle_gateway.database, source)
            told = [await anext(one) for one in (*followers, resumed, within)]
    assert told == [told[0]] * 5
    assert executions(added) == 1


class Held:
    """Holds the reads of events up until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        read = Loaders.read

        async def held(loaders: Loaders, *args: Any, **kwargs: Any) -> Any:
            self.begun.set()
            await self.go_on.wait()
            return await read(loaders, *args, **kwargs)

        monkeypatch.setattr(Loaders, "read", held)


@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_who_leaves_while_an_event_is_executed_takes_it_from_nobody(
    leaving: int, idle_gateway: Gateway, source: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with subscriber(idle_gateway.url) as connected:
        followers = await three(idle_gateway, connected)
        async with executed(idle_gateway) as added:
            held = Held(monkeypatch)
            await factories.pending_duplication(idle_gateway.database, source)
            await held.begun.wait()
            await followers.pop(leaving).stop()
            await followed(idle_gateway, 2)
            held.go_on.set()
            first, second = [await anext(one) for one in followers]
    assert first == second
    assert executions(added) == 1


async def test_when_all_have_left_nothing_is_kept_and_nothing_goes_on(
    made: list[SharedSubscriptions],
    own_gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (found,) = made
    source = await factories.hierarchy(own_gateway.database, {"a": {}})
    async with subscriber(own_gateway.url) as connected:
        followers = await three(own_gateway, connected)
        for _ in range(5):
            await factories.pending_duplication(own_gateway.database, source)
        assert len({str(await one.take(5)) for one in followers}) == 1
        assert len(found._cached) == 5
        held = Held(monkeypatch)
        await factories.pending_duplication(own_gateway.database, source)
        await held.begun.wait()
        (audience,) = found._groups.values()
        (running,) = audience.running
        for one in followers:
            await one.stop()
        await followed(own_gateway, 0)
    assert (found._groups, found._cached, found._cached_bytes) == ({}, {}, 0)
    await asyncio.wait([running], timeout=PATIENCE)
    assert running.cancelled()


async def test_who_is_alone_has_nothing_kept_for_him(
    made: list[SharedSubscriptions], own_gateway: Gateway
) -> None:
    (found,) = made
    source = await factories.hierarchy(own_gateway.database, {"a": {}})
    async with subscriber(own_gateway.url) as connected:
        alone = await connected.subscribe(READING, after=BEGINNING)
        await factories.pending_duplication(own_gateway.database, source)
        await anext(alone)
        assert (len(found._groups), found._cached) == (1, {})


async def test_only_so_much_is_kept_and_who_reads_late_misses_nothing(
    made: list[SharedSubscriptions],
    own_gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events, kept = 40, 3
    monkeypatch.setattr(
        shared_subscriptions, "RESULT_CACHE_BYTES", kept * (shared_subscriptions.EVENT_BYTES + 300)
    )
    (found,) = made
    source = await factories.hierarchy(own_gateway.database, {"a": {}})
    query = READING.replace("name }", "name } description")
    asked: dict[str, Any] = {"include_products": True, "description": "x" * 200_000}
    async with (
        subscriber(own_gateway.url) as connected,
        subscriber(own_gateway.url, max_queue=1) as late,
    ):
        followers = [await one.subscribe(query) for one in (connected, connected, late)]
        await followed(own_gateway, 3)
        heard = []
        for number in range(events):
            more: dict[str, Any] = asked if number < events - 5 else {}
            await factories.pending_duplication(own_gateway.database, source, **more)
            first, second = [await anext(one) for one in followers[:2]]
            assert first == second
            heard.append(first)
            # What is larger than all that may be kept is not.
            assert 0 <= found._cached_bytes <= shared_subscriptions.RESULT_CACHE_BYTES
        assert len(found._cached) == kept
        assert await followers[2].take(events) == heard


async def test_an_event_that_breaks_breaks_for_all_and_ends_nobody(
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
            one.socket.response.headers["x-request-id"] for one in sockets if one.socket.response
        }
        changes = (
            factories.claimed_job(idle_gateway.database),
            idle_gateway.database.write(jobs.cancel, factories.STORE, waiting.id),
        )
        for change in changes:
            caplog.clear()
            await change
            (payload,) = {await heard_as_text(connected) for connected in sockets}
            (error,) = json.loads(payload)["errors"]
            assert error["extensions"]["requestId"] in ids
            check_masked(error, error["extensions"]["requestId"], caplog)
            assert len([one for one in caplog.records if one.name == "app.api.http.refusals"]) == 1
