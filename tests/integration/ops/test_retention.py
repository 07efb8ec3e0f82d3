"""Retention prunes old jobs and events in batches.

A subscriber that misses a pruned event gets an error.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from sqlmodel import SQLModel, col, select

from app.api.graphql.types.events import EVENTS
from app.api.graphql.types.jobs import JOBS
from app.domain.events import CursorExpired
from app.domain.jobs import Duplication, JobStatus
from app.main import Gateway
from app.queue import sweeper
from app.queue.sweeper import Sweeper
from app.services import attempts, feed, jobs, retention
from app.services.attempts import JobResult
from app.services.feed import Feed
from app.services.jobs import Requested, Requester
from app.settings import Settings
from app.storage import jobs as stored
from app.storage import lanes
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.lanes import LogBounds
from app.storage.tables import IdempotencyKey, Job, JobError, JobEvent, JobRow
from tests import factories
from tests.support.clients import client_of
from tests.support.clock import Clock
from tests.support.entities import session_of
from tests.support.gateway import gateway_of
from tests.support.subscriber import JOB_EVENTS, JOB_UPDATES, Refused, Subscriber, subscriber

Row = TypeVar("Row", bound=SQLModel)

KEEP = timedelta(days=30)
MOMENT = timedelta(milliseconds=1)
"""The smallest step of the clock here."""

OLD = KEEP + MOMENT

JOB = """
query($id: ID!) {
  job(id: $id) { id }
  node(id: $id) { id }
  nodes(ids: [$id]) { id }
}
"""


@pytest.fixture
def database(clocked_database: Database) -> Database:
    """A database on the injected clock."""
    return clocked_database


@pytest.fixture
async def source(database: Database) -> UUID:
    """A hierarchy to duplicate."""
    return await factories.hierarchy(database, {"a": {}})


@pytest.fixture
async def idle_gateway(settings: Settings, clock: Clock) -> AsyncIterator[Gateway]:
    """A gateway on the injected clock, without a queue runner."""
    async with gateway_of(settings.model_copy(update={"runner": False}), clock) as running:
        yield running


@pytest.fixture
async def connected(idle_gateway: Gateway) -> AsyncIterator[Subscriber]:
    """A subscriber of that gateway."""
    async with subscriber(idle_gateway.url) as opened:
        yield opened


async def requested(
    database: Database, source: UUID, key: str | None = None, name: str | None = None
) -> Requested:
    """Request a duplication under the idempotency key `key`."""
    return await database.write(
        jobs.request_duplication,
        Requester(factories.STORE, request_id="test"),
        Duplication(source, name=name),
        key,
    )


async def succeeded(database: Database, store: str = factories.STORE) -> JobRow:
    """Claim the store's next job and let it succeed."""
    claimed = await factories.claimed_job(database, store=store)
    return await database.write(attempts.succeed, claimed, lambda: JobResult(0))


async def failed(database: Database) -> JobRow:
    """Claim the next job and let it fail."""
    claimed = await factories.claimed_job(database)
    return await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)


async def pruned(database: Database, keep: timedelta = KEEP, limit: int = 500) -> int:
    """Prune everything old; return the number of batches."""
    batches = 0
    while await database.write(retention.prune, keep, limit):
        batches += 1
    return batches


async def all_of(database: Database, table: type[Row]) -> list[Row]:
    """Every row of a table."""
    return await database.read(lambda tx: list(session_of(tx).exec(select(table))))


async def log_of(database: Database, store: str = factories.STORE) -> list[int]:
    """The numbers of the events in a store's log."""

    def read(tx: Transaction) -> list[int]:
        query = select(JobEvent.seq).where(JobEvent.store == store)
        return list(session_of(tx).exec(query.order_by(col(JobEvent.seq))))

    return await database.read(read)


async def bounds_of(database: Database, store: str = factories.STORE) -> LogBounds:
    """The recorded bounds of a store's log."""
    return await database.read(lanes.log_bounds, store)


def cursor(seq: int) -> str:
    """The cursor of an event."""
    return EVENTS.encode((seq,))


async def test_ended_jobs_are_pruned_with_their_errors_keys_and_events_but_not_early(
    database: Database, clock: Clock, source: UUID
) -> None:
    await requested(database, source, "one")
    await succeeded(database)
    await requested(database, source, "two")
    await failed(database)
    cancelled = (await requested(database, source, "three")).job
    await database.write(jobs.cancel, factories.STORE, cancelled.id)
    tables = (Job, JobError, JobEvent, IdempotencyKey)

    clock.advance(KEEP)
    assert await pruned(database) == 0
    assert [len(await all_of(database, table)) for table in tables] == [3, 1, 8, 3]

    clock.advance(MOMENT)
    assert await pruned(database) == 1
    assert [len(await all_of(database, table)) for table in tables] == [0, 0, 0, 0]
    assert await bounds_of(database) == LogBounds(pruned=8, head=8)


async def test_newer_jobs_are_kept_completely(
    database: Database, clock: Clock, source: UUID
) -> None:
    await requested(database, source, "old")
    await failed(database)
    clock.advance(MOMENT)
    newer = (await requested(database, source, "newer")).job
    await failed(database)
    clock.advance(KEEP)

    await pruned(database)

    assert [job.id for job in await all_of(database, Job)] == [newer.id]
    assert [error.job_pk for error in await all_of(database, JobError)] == [newer.pk]
    assert [key.key for key in await all_of(database, IdempotencyKey)] == ["newer"]
    assert await log_of(database) == [4, 5, 6]


async def test_pending_and_started_jobs_are_pruned_only_long_after_their_end(
    database: Database, clock: Clock, source: UUID
) -> None:
    running = (await requested(database, source, "running")).job
    waiting = (await requested(database, source, "waiting")).job
    claimed = await factories.claimed_job(database)
    clock.advance(40 * KEEP)

    await pruned(database)

    assert await log_of(database) == []
    assert {job.id: job.status for job in await all_of(database, Job)} == {
        running.id: JobStatus.STARTED,
        waiting.id: JobStatus.PENDING,
    }
    assert len(await all_of(database, IdempotencyKey)) == 2

    await database.write(attempts.succeed, claimed, lambda: JobResult(0))
    await database.write(jobs.cancel, factories.STORE, waiting.id)
    assert await log_of(database) == [4, 5]
    clock.advance(KEEP)
    assert await pruned(database) == 0
    clock.advance(MOMENT)
    await pruned(database)
    assert await all_of(database, Job) == []
    assert await all_of(database, IdempotencyKey) == []


async def test_each_batch_leaves_a_log_without_gaps_whose_jobs_all_exist(
    database: Database, clock: Clock, source: UUID
) -> None:
    for _ in range(6):
        await requested(database, source)
    for end in (succeeded, failed, succeeded):
        await end(database)
    head = (await bounds_of(database)).head
    assert head == 12
    clock.advance(OLD)

    left = [await log_of(database)]
    while await database.write(retention.prune, KEEP, 5):
        left.append(await log_of(database))
        bounds = await bounds_of(database)
        assert left[-1] == list(range(bounds.pruned + 1, bounds.head + 1))
        logged = {event.job_pk for event in await all_of(database, JobEvent)}
        assert logged <= {job.pk for job in await all_of(database, Job)}

    assert [len(before) - len(after) for before, after in pairwise(left)] == [5, 5, 2]
    statuses = [job.status for job in await all_of(database, Job)]
    assert statuses == [JobStatus.PENDING] * 3


async def test_the_sweep_prunes_until_nothing_old_is_left(
    database: Database, clock: Clock, source: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "CHUNK_EVENTS", 2)
    elsewhere = await factories.hierarchy(database, {"a": {}}, store="other")
    for _ in range(3):
        await requested(database, source)
        await succeeded(database)
        await factories.pending_duplication(database, elsewhere, store="other")
        await succeeded(database, "other")
    clock.advance(OLD)

    await Sweeper(database, KEEP).sweep()

    assert await all_of(database, Job) == []
    assert await all_of(database, JobEvent) == []
    assert await bounds_of(database) == await bounds_of(database, "other") == LogBounds(9, 9)


async def test_stores_without_old_rows_do_not_change(
    database: Database, clock: Clock, source: UUID
) -> None:
    elsewhere = await factories.hierarchy(database, {"a": {}}, store="other")
    await requested(database, source)
    await succeeded(database)
    clock.advance(OLD)
    other = await factories.pending_duplication(database, elsewhere, store="other")
    await succeeded(database, "other")

    await pruned(database)

    assert [job.id for job in await all_of(database, Job)] == [other.id]
    assert await log_of(database, "other") == [1, 2, 3]
    assert await bounds_of(database, "other") == LogBounds(pruned=0, head=3)
    assert await bounds_of(database) == LogBounds(pruned=3, head=3)


async def test_numbers_continue_after_pruned_rows(
    database: Database, clock: Clock, source: UUID
) -> None:
    before = (await requested(database, source)).job
    await succeeded(database)
    clock.advance(OLD)
    await pruned(database)

    after = (await requested(database, source)).job
    await succeeded(database)

    assert await log_of(database) == [4, 5, 6]
    assert after.job_seq == before.job_seq + 1
    assert after.pk != before.pk


async def test_the_key_of_a_pruned_job_creates_a_new_job(
    database: Database, clock: Clock, source: UUID
) -> None:
    keep = timedelta(hours=1)
    first = await requested(database, source, "key")
    await succeeded(database)
    clock.advance(keep + MOMENT)
    assert await requested(database, source, "key") == Requested(
        (await database.read(stored.by_ids, factories.STORE, [first.job.id]))[first.job.id], True
    )

    await pruned(database, keep)

    second = await requested(database, source, "key", name="Another")
    assert not second.replayed
    assert second.job.id != first.job.id
    assert (await requested(database, source, "key", name="Another")).replayed


async def test_a_key_reused_by_a_newer_job_is_kept(
    database: Database, clock: Clock, source: UUID
) -> None:
    await requested(database, source, "key")
    await succeeded(database)
    clock.advance(OLD)
    newer = await requested(database, source, "key")
    assert not newer.replayed

    await pruned(database)

    assert [job.id for job in await all_of(database, Job)] == [newer.job.id]
    assert (await requested(database, source, "key")).replayed


async def test_concurrent_pruning_and_new_jobs_lose_nothing_else(
    database: Database, clock: Clock, source: UUID
) -> None:
    for _ in range(20):
        await requested(database, source)
        await succeeded(database)
    clock.advance(OLD)

    new = await asyncio.gather(
        *(requested(database, source) for _ in range(20)),
        *(pruned(database, limit=3) for _ in range(4)),
    )

    new_ids = {answer.job.id for answer in new if isinstance(answer, Requested)}
    assert {job.id for job in await all_of(database, Job)} == new_ids
    assert await log_of(database) == list(range(61, 81))
    assert await bounds_of(database) == LogBounds(pruned=60, head=80)


@pytest.mark.parametrize(("days", "left"), [(30, 0), (31, 1), (0, 1)])
async def test_a_gateway_keeps_ended_jobs_for_the_configured_days_and_forever_with_0(
    days: int,
    left: int,
    settings: Settings,
    database: Database,
    clock: Clock,
    source: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await requested(database, source)
    await succeeded(database)
    clock.advance(OLD)
    swept = asyncio.Event()
    sweep = Sweeper.sweep

    async def sweep_and_notify(self: Sweeper) -> None:
        await sweep(self)
        swept.set()

    monkeypatch.setattr(Sweeper, "sweep", sweep_and_notify)
    async with gateway_of(settings.model_copy(update={"retention_days": days}), clock):
        await swept.wait()

    assert len(await all_of(database, Job)) == left
    assert len(await all_of(database, JobEvent)) == 3 * left


async def test_only_a_cursor_older_than_the_log_is_refused_as_expired(
    idle_gateway: Gateway, connected: Subscriber, clock: Clock
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}})
    for _ in range(2):
        await requested(database, source)
        await succeeded(database)
    waiting = (await requested(database, source)).job
    clock.advance(OLD)
    newer = (await requested(database, source)).job
    await pruned(database)
    assert await bounds_of(database) == LogBounds(pruned=7, head=8)

    for seq in (0, 6):
        for refused in (
            await connected.subscribe(JOB_UPDATES, id=str(waiting.id), after=cursor(seq)),
            await connected.subscribe(JOB_EVENTS, after=cursor(seq)),
        ):
            with pytest.raises(Refused, match="no longer kept") as refusal:
                await anext(refused)
            assert refusal.value.code == "CURSOR_EXPIRED"
            assert refusal.value.argument == ["after"]

    events = await connected.subscribe(JOB_EVENTS, after=cursor(7))
    created = await anext(events)
    assert (created["type"], created["job"]["id"]) == ("CREATED", str(newer.id))
    updates = await connected.subscribe(JOB_UPDATES, id=str(waiting.id), after=cursor(7))
    await database.write(jobs.cancel, factories.STORE, waiting.id)
    assert [event["type"] for event in await updates.rest()] == ["CANCELLED"]
    assert (await anext(events))["type"] == "CANCELLED"


async def test_the_cursor_of_the_queue_always_works(
    idle_gateway: Gateway, connected: Subscriber, clock: Clock
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}})
    async with client_of(idle_gateway) as client:
        for _ in range(3):
            clock.advance(OLD)
            await pruned(database)
            assert await log_of(database) == []
            queue = (await client.data("{ jobQueue { cursor } }"))["jobQueue"]
            events = await connected.subscribe(JOB_EVENTS, after=queue["cursor"])
            job = (await requested(database, source)).job
            assert (await anext(events))["job"]["id"] == str(job.id)
            await events.stop()
            await succeeded(database)


async def test_an_up_to_date_subscriber_misses_nothing_when_older_events_are_pruned(
    idle_gateway: Gateway, connected: Subscriber, clock: Clock
) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}})
    events = await connected.subscribe(JOB_EVENTS, after=cursor(0))
    job = (await requested(database, source)).job
    updates = await connected.subscribe(JOB_UPDATES, id=str(job.id))
    assert (await anext(events))["type"] == "CREATED"
    assert (await anext(updates))["type"] == "SNAPSHOT"

    clock.advance(OLD)
    await pruned(database)
    assert await log_of(database) == []
    await succeeded(database)

    rest = await updates.rest()
    assert [event["type"] for event in rest] == ["STARTED", "SUCCEEDED"]
    assert await events.take(2) == rest
    assert [event["cursor"] for event in rest] == [cursor(2), cursor(3)]


LARGE = """
subscription($after: String) {
  jobEvents(after: $after) { cursor job { duplication { description } } }
}
"""


async def test_a_subscriber_whose_events_are_pruned_gets_an_error_and_keeps_its_socket(
    idle_gateway: Gateway, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Unread events overflow every buffer between the feed and the subscriber.
    monkeypatch.setattr(feed, "TAIL_EVENTS", 4)
    monkeypatch.setattr(feed, "READ_EVENTS", 4)
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}})

    address = urlsplit(idle_gateway.url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((address.hostname, address.port))
    async with subscriber(idle_gateway.url, sock=narrow, max_queue=1) as stalled:
        await stalled.subscribe(LARGE, after=cursor(0))
        for _ in range(40):
            await factories.pending_duplication(database, source, description="x" * 200_000)
        clock.advance(OLD)
        await pruned(database)

        received = []
        while "errors" not in (message := await stalled.next_of("1"))["payload"]:
            received.append(message["payload"]["data"]["jobEvents"]["cursor"])
        (error,) = message["payload"]["errors"]
        assert error["extensions"]["code"] == "CURSOR_EXPIRED"
        assert (await stalled.next_of("1"))["type"] == "complete"
        assert received == [cursor(seq) for seq in range(1, len(received) + 1)]
        assert len(received) < 40

        again = await stalled.subscribe(LARGE, after=cursor(40))
        await requested(database, source)
        assert (await anext(again))["cursor"] == cursor(41)


async def test_pruning_events_that_the_feed_has_not_read_ends_its_subscriptions(
    database: Database, clock: Clock, source: UUID
) -> None:
    unwoken = Feed(database, poll=3600)
    await requested(database, source)
    events = await unwoken.job_events(factories.STORE, stored.JobFilter(), after=0)
    assert (await anext(events)).seq == 1
    await requested(database, source)
    unwoken.wake([factories.STORE])
    assert (await anext(events)).seq == 2

    def all_at_once(tx: Transaction) -> None:
        request = Requester(factories.STORE, request_id="test"), Duplication(source)
        jobs.request_duplication(tx, *request)
        clock.advance(OLD)
        retention.prune(tx, KEEP, 500)
        jobs.request_duplication(tx, *request)

    await database.write(all_at_once)
    assert await log_of(database) == [4]
    unwoken.wake([factories.STORE])

    with pytest.raises(CursorExpired):
        await anext(events)


async def test_a_pruned_job_is_unknown_everywhere(idle_gateway: Gateway, clock: Clock) -> None:
    database = idle_gateway.database
    source = await factories.hierarchy(database, {"a": {}})
    old = (await requested(database, source)).job
    await factories.ran_job(database)
    clock.advance(OLD)
    newer = (await requested(database, source)).job
    await pruned(database)

    async with client_of(idle_gateway) as client:
        assert await client.data(JOB, id=str(old.id)) == {
            "job": None,
            "node": None,
            "nodes": [None],
        }
        cancel = "mutation($id: ID!) { cancelJob(input: {jobId: $id}) { errors { __typename } } }"
        answer = await client.data(cancel, id=str(old.id))
        assert answer["cancelJob"]["errors"] == [{"__typename": "NotFound"}]
        of_source = await client.data(
            "query($id: ID!) { hierarchy(id: $id) { jobs { totalCount nodes { id } } } }",
            id=str(source),
        )
        assert of_source["hierarchy"]["jobs"] == {"totalCount": 1, "nodes": [{"id": str(newer.id)}]}
        page = await client.data(
            "query($c: String) { jobs(orderBy: CREATED_AT_ASC, after: $c) { nodes { id } } }",
            c=JOBS.encode((old.job_seq,)),
        )
        assert page["jobs"]["nodes"] == [{"id": str(newer.id)}]
        copies = await client.data("{ hierarchies { totalCount } }")
        assert copies["hierarchies"]["totalCount"] == 2

    async with subscriber(idle_gateway.url) as connected:
        for id in (old.id, uuid4()):
            updates = await connected.subscribe(JOB_UPDATES, id=str(id))
            with pytest.raises(Refused) as refusal:
                await anext(updates)
            assert refusal.value.code == "NOT_FOUND"
