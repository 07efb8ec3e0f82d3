"""Subscriptions over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.api.graphql.types.events import EVENTS
from app.api.graphql.types.jobs import JOBS
from app.domain.jobs import JobType
from app.main import Gateway
from app.services import attempts, feed, jobs
from app.services.attempts import JobResult, Step
from app.storage.tables import JobRow
from tests import factories
from tests.support.clients import GraphQLClient
from tests.support.subscriber import JOB_EVENTS, JOB_UPDATES, Event, Refused, Subscriber, subscriber


@pytest.fixture
async def source(idle_gateway: Gateway) -> UUID:
    """A hierarchy to duplicate."""
    return await factories.hierarchy(idle_gateway.database, {"a": {}})


@pytest.fixture
async def connected(idle_gateway: Gateway) -> AsyncIterator[Subscriber]:
    """A socket of a gateway whose jobs advance only when a test advances them."""
    async with subscriber(idle_gateway.url) as opened:
        yield opened


@pytest.fixture
async def beginning(idle_client: GraphQLClient) -> str:
    """The cursor before the first event."""
    cursor: str = (await idle_client.data("{ jobQueue { cursor } }"))["jobQueue"]["cursor"]
    return cursor


async def advanced(gateway: Gateway, job: JobRow, completed: int, total: int) -> JobRow:
    """Advance a claimed job by one step."""
    return await gateway.database.write(attempts.advance, job, lambda: Step({}, completed, total))


async def succeeded(gateway: Gateway, job: JobRow, result: UUID | None = None) -> JobRow:
    """End a claimed job with success."""
    return await gateway.database.write(attempts.succeed, job, lambda: JobResult(4, result))


async def failed(gateway: Gateway, job: JobRow) -> JobRow:
    """End a claimed job with failure."""
    return await gateway.database.write(
        attempts.fail, job, "NOT_FOUND", "No hierarchy has that id.", lambda: None
    )


def story(events: list[Event]) -> list[tuple[str, str | None]]:
    """The type of each event, and its previous status."""
    return [(event["type"], event["previousStatus"]) for event in events]


async def test_job_updates_begin_with_a_snapshot_deliver_each_change_and_complete(
    idle_gateway: Gateway, connected: Subscriber, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)

    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))
    snapshot = await anext(updates)
    claimed = await factories.claimed_job(idle_gateway.database)
    started = await anext(updates)
    await succeeded(idle_gateway, claimed)
    rest = await updates.rest()

    assert story([snapshot, started, *rest]) == [
        ("SNAPSHOT", None),
        ("STARTED", "PENDING"),
        ("SUCCEEDED", "STARTED"),
    ]
    assert [event["job"]["status"] for event in (snapshot, started, *rest)] == [
        "PENDING",
        "STARTED",
        "SUCCESS",
    ]
    assert snapshot["job"]["queuePosition"] == 1
    assert {event["job"]["id"] for event in (snapshot, started, *rest)} == {str(job.id)}


async def test_job_updates_of_a_finished_job_are_a_snapshot_and_complete(
    idle_gateway: Gateway, connected: Subscriber, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    await factories.ran_job(idle_gateway.database)

    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))

    (snapshot,) = await updates.rest()
    assert snapshot["type"] == "SNAPSHOT"
    assert snapshot["job"]["status"] == "SUCCESS"


async def test_job_updates_after_a_cursor_replay_then_follow_then_complete(
    idle_gateway: Gateway, connected: Subscriber, source: UUID, beginning: str
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    await factories.pending_duplication(idle_gateway.database, source)
    claimed = await factories.claimed_job(idle_gateway.database)
    store_events = await connected.subscribe(JOB_EVENTS, after=beginning)
    created = await anext(store_events)

    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id), after=created["cursor"])
    replayed = await anext(updates)
    await succeeded(idle_gateway, claimed)
    rest = await updates.rest()

    assert story([replayed, *rest]) == [("STARTED", "PENDING"), ("SUCCEEDED", "STARTED")]


async def test_job_updates_after_the_last_event_complete_at_once(
    idle_gateway: Gateway, connected: Subscriber, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    following = await connected.subscribe(JOB_UPDATES, id=str(job.id))
    await anext(following)
    await factories.ran_job(idle_gateway.database)
    last = (await following.rest())[-1]
    assert last["type"] == "SUCCEEDED"

    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id), after=last["cursor"])

    assert await updates.rest() == []


async def test_an_unknown_job_is_an_error_and_the_socket_stays_open(
    idle_gateway: Gateway, connected: Subscriber, source: UUID
) -> None:
    database = idle_gateway.database
    elsewhere = await factories.hierarchy(database, {}, store="other")
    foreign = await factories.pending_duplication(database, elsewhere, store="other")
    job = await factories.pending_duplication(database, source)
    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))
    await anext(updates)

    for id in (str(uuid4()), "no-uuid", str(foreign.id)):
        refused = await connected.subscribe(JOB_UPDATES, id=id)
        with pytest.raises(Refused) as refusal:
            await anext(refused)
        assert refusal.value.code == "NOT_FOUND"
        assert refusal.value.argument == ["id"]

    await factories.ran_job(database)
    assert (await updates.rest())[-1]["type"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("cursor", "code"),
    [
        pytest.param("nonsense", "INVALID_INPUT", id="not a cursor"),
        pytest.param(JOBS.encode((1,)), "INVALID_INPUT", id="of another list"),
        pytest.param(EVENTS.encode((2,)), "CURSOR_INVALID", id="ahead of the log"),
    ],
)
async def test_an_unusable_cursor_is_an_error_and_the_socket_stays_open(
    cursor: str, code: str, idle_gateway: Gateway, connected: Subscriber, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    for refused in (
        await connected.subscribe(JOB_UPDATES, id=str(job.id), after=cursor),
        await connected.subscribe(JOB_EVENTS, after=cursor),
    ):
        with pytest.raises(Refused) as refusal:
            await anext(refused)
        assert refusal.value.code == code
        assert refusal.value.argument == ["after"]

    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))
    assert (await anext(updates))["type"] == "SNAPSHOT"


async def test_job_events_without_a_cursor_begin_now(
    idle_gateway: Gateway, connected: Subscriber, source: UUID
) -> None:
    before = await factories.pending_duplication(idle_gateway.database, source)

    events = await connected.subscribe(JOB_EVENTS)
    first = asyncio.ensure_future(anext(events))
    created: list[str] = []
    # The protocol acknowledges no subscription, so jobs are created until an event arrives.
    while not first.done():
        job = await factories.pending_duplication(idle_gateway.database, source)
        created.append(str(job.id))
    received = [(await first)["job"]["id"]]
    while received[-1] != created[-1]:
        received.append((await anext(events))["job"]["id"])

    assert str(before.id) not in received
    assert received == created[created.index(received[0]) :]


async def test_job_events_after_a_cursor_replay_and_continue(
    idle_gateway: Gateway, connected: Subscriber, source: UUID, beginning: str
) -> None:
    first = await factories.pending_duplication(idle_gateway.database, source)
    await factories.ran_job(idle_gateway.database)
    whole = await connected.subscribe(JOB_EVENTS, after=beginning)
    replayed = await whole.take(3)
    part = await connected.subscribe(JOB_EVENTS, after=replayed[0]["cursor"])
    assert await part.take(2) == replayed[1:]

    second = await factories.pending_duplication(idle_gateway.database, source)
    live = await anext(whole)

    assert await anext(part) == live
    assert [(event["type"], event["job"]["id"]) for event in (*replayed, live)] == [
        ("CREATED", str(first.id)),
        ("STARTED", str(first.id)),
        ("SUCCEEDED", str(first.id)),
        ("CREATED", str(second.id)),
    ]


async def test_job_events_are_filtered_by_the_status_the_job_had_at_the_event(
    idle_gateway: Gateway, connected: Subscriber, source: UUID, beginning: str
) -> None:
    database = idle_gateway.database
    first = await factories.pending_duplication(database, source)
    await factories.ran_job(database)
    second = await factories.pending_duplication(database, source)
    await failed(idle_gateway, await factories.claimed_job(database))

    async def matches(*statuses: str) -> list[tuple[str, str]]:
        filter = {"status": statuses}
        matching = await connected.subscribe(JOB_EVENTS, filter=filter, after=beginning)
        return [(event["type"], event["job"]["id"]) for event in await matching.take(2)]

    assert await matches("PENDING") == [("CREATED", str(first.id)), ("CREATED", str(second.id))]
    assert await matches("STARTED") == [("STARTED", str(first.id)), ("STARTED", str(second.id))]
    assert await matches("SUCCESS", "FAILED") == [
        ("SUCCEEDED", str(first.id)),
        ("FAILED", str(second.id)),
    ]


async def test_job_events_are_filtered_by_type(
    idle_gateway: Gateway, connected: Subscriber, source: UUID, beginning: str
) -> None:
    duplication = await factories.pending_duplication(idle_gateway.database, source)
    price_import = (await factories.pending_job(idle_gateway.database, JobType.PRICE_IMPORT)).id
    another = await factories.pending_duplication(idle_gateway.database, source)

    imports = {"type": ["PRICE_IMPORT"]}
    of_imports = await connected.subscribe(JOB_EVENTS, filter=imports, after=beginning)
    duplications = {"type": ["HIERARCHY_DUPLICATE"]}
    of_duplications = await connected.subscribe(JOB_EVENTS, filter=duplications, after=beginning)

    assert (await anext(of_imports))["job"]["id"] == str(price_import)
    assert [event["job"]["id"] for event in await of_duplications.take(2)] == [
        str(duplication.id),
        str(another.id),
    ]


async def test_job_events_are_filtered_by_the_hierarchies_the_job_named_at_the_event(
    idle_gateway: Gateway, connected: Subscriber, source: UUID, beginning: str
) -> None:
    database = idle_gateway.database
    first = await factories.pending_duplication(database, source)
    await factories.ran_job(database)
    whole = await connected.subscribe(JOB_EVENTS, after=beginning)
    copy = (await whole.take(3))[-1]["job"]["duplication"]["result"]["id"]
    second = await factories.pending_duplication(database, UUID(copy))

    of_copy = await connected.subscribe(JOB_EVENTS, filter={"hierarchyId": copy}, after=beginning)
    of_source = await connected.subscribe(
        JOB_EVENTS, filter={"hierarchyId": str(source)}, after=beginning
    )

    assert [(event["type"], event["job"]["id"]) for event in await of_copy.take(2)] == [
        ("SUCCEEDED", str(first.id)),
        ("CREATED", str(second.id)),
    ]
    third = await factories.pending_duplication(database, source)
    assert [(event["type"], event["job"]["id"]) for event in await of_source.take(4)] == [
        ("CREATED", str(first.id)),
        ("STARTED", str(first.id)),
        ("SUCCEEDED", str(first.id)),
        ("CREATED", str(third.id)),
    ]


async def test_a_replayed_event_shows_the_job_at_that_event(
    idle_gateway: Gateway, connected: Subscriber, source: UUID, beginning: str
) -> None:
    first = await factories.pending_duplication(idle_gateway.database, source)
    second = await factories.pending_duplication(idle_gateway.database, source)
    claimed = await factories.claimed_job(idle_gateway.database)
    await failed(idle_gateway, await advanced(idle_gateway, claimed, 1, 4))

    replay = await connected.subscribe(JOB_EVENTS, after=beginning)
    events = await replay.take(4)

    assert story(events) == [
        ("CREATED", None),
        ("CREATED", None),
        ("STARTED", "PENDING"),
        ("FAILED", "STARTED"),
    ]
    jobs_then = [event["job"] for event in events]
    assert [job["id"] for job in jobs_then] == [
        str(job.id) for job in (first, second, first, first)
    ]
    assert [job["status"] for job in jobs_then] == ["PENDING", "PENDING", "STARTED", "FAILED"]
    assert [job["version"] for job in jobs_then] == [1, 1, 2, 4]
    assert [job["queuePosition"] for job in jobs_then] == [1, 2, None, None]
    assert [job["canCancel"] for job in jobs_then] == [True, True, False, False]
    assert [job["startedAt"] is None for job in jobs_then] == [True, True, False, False]
    assert [job["completedAt"] is None for job in jobs_then] == [True, True, True, False]
    assert [job["errors"]["nodes"] for job in jobs_then] == [[], [], [], [{"code": "NOT_FOUND"}]]


async def test_a_cancellation_is_delivered_and_ends_the_updates_of_the_job(
    idle_gateway: Gateway, connected: Subscriber, source: UUID
) -> None:
    job = await factories.pending_duplication(idle_gateway.database, source)
    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))
    await anext(updates)

    await idle_gateway.database.write(jobs.cancel, factories.STORE, job.id)

    (cancelled,) = await updates.rest()
    assert story([cancelled]) == [("CANCELLED", "PENDING")]
    assert cancelled["job"]["completedAt"] is None


async def test_progress_carries_the_last_logged_cursor_and_never_follows_the_end(
    idle_gateway: Gateway, connected: Subscriber, source: UUID, beginning: str
) -> None:
    database = idle_gateway.database
    first, second = [await factories.pending_duplication(database, source) for _ in range(2)]
    events = await connected.subscribe(JOB_EVENTS, after=beginning)
    await events.take(2)

    claimed = await factories.claimed_job(database)
    started = await anext(events)
    claimed = await advanced(idle_gateway, claimed, 1, 4)
    progress = await anext(events)
    # Steps faster than the progress interval: deferred progress must not follow the end.
    claimed = await advanced(idle_gateway, claimed, 2, 4)
    claimed = await advanced(idle_gateway, claimed, 3, 4)
    await succeeded(idle_gateway, claimed)
    await advanced(idle_gateway, await factories.claimed_job(database), 1, 4)
    later = [await anext(events)]
    while (later[-1]["type"], later[-1]["job"]["id"]) != ("PROGRESS", str(second.id)):
        later.append(await anext(events))

    assert progress["type"] == "PROGRESS"
    assert progress["previousStatus"] is None
    assert progress["cursor"] == started["cursor"]
    assert progress["job"]["progress"] == {"completed": 1, "total": 4}
    of_first = [progress, *(event for event in later if event["job"]["id"] == str(first.id))]
    *held_back, last = of_first
    assert last["type"] == "SUCCEEDED"
    assert {event["type"] for event in held_back} == {"PROGRESS"}
    assert {event["cursor"] for event in held_back} == {started["cursor"]}
    versions = [event["job"]["version"] for event in of_first]
    assert versions == sorted(set(versions))
    assert later[-1]["cursor"] == later[-2]["cursor"]


@pytest.mark.parametrize("protocols", [None, [Subprotocol("graphql-ws")]])
async def test_a_socket_that_does_not_speak_graphql_transport_ws_is_refused(
    protocols: list[Subprotocol] | None, idle_gateway: Gateway
) -> None:
    url = idle_gateway.url.replace("http", "ws", 1) + "/graphql"
    async with connect(url, subprotocols=protocols) as refused:
        with pytest.raises(ConnectionClosed):
            await refused.recv()
        assert refused.close_code == 4406


LARGE = """
subscription($after: String) {
  jobEvents(after: $after) { cursor type job { id duplication { description } } }
}
"""


async def test_a_stalled_reader_misses_nothing_and_delays_no_other_subscriber(
    idle_gateway: Gateway,
    connected: Subscriber,
    source: UUID,
    beginning: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The unread events have to overflow every buffer between the feed and the reader: the
    # kernel's take 4 MiB at most, and the feed keeps only the last few events.
    monkeypatch.setattr(feed, "TAIL_EVENTS", 4)
    description = "x" * 200_000

    address = urlsplit(idle_gateway.url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((address.hostname, address.port))
    async with subscriber(idle_gateway.url, sock=narrow, max_queue=1) as stalled:
        unread = await stalled.subscribe(LARGE, after=beginning)
        followed = await connected.subscribe(JOB_EVENTS, after=beginning)
        created: list[str] = []
        for _ in range(40):
            job = await factories.pending_duplication(
                idle_gateway.database, source, description=description
            )
            created.append(str(job.id))
            assert (await anext(followed))["job"]["id"] == created[-1]

        caught_up = [await anext(unread)]
        while caught_up[-1]["job"]["id"] != created[-1]:
            caught_up.append(await anext(unread))

    assert [event["job"]["id"] for event in caught_up] == created
    assert {event["job"]["duplication"]["description"] for event in caught_up} == {description}
