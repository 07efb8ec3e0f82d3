"""The queue's order, its lanes, and jobs whose handler or worker fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlmodel import col, select

from app.domain.errors import NotFound
from app.domain.job_times import MAX_HELD_BACK
from app.domain.jobs import (
    MAX_ATTEMPTS_WITHOUT_PROGRESS,
    FenceLost,
    JobNotCancellable,
    JobStatus,
    JobType,
)
from app.queue import worker
from app.queue.attempt import Attempt
from app.queue.dispatcher import Dispatcher
from app.queue.handler import Dependencies, Handler
from app.queue.handlers import find_handlers
from app.services import attempts, copies, jobs, queue
from app.services.attempts import Completion, Step
from app.services.feed import Feed
from app.storage import jobs as stored
from app.storage import lanes
from app.storage.admin.diagnosis import queue_health
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.jobs import JobFilter
from app.storage.sql.keyset import KeysetWindow
from app.storage.tables import JobError, JobEvent, JobRow
from tests import factories
from tests.support.clock import Clock
from tests.support.entities import session_of

LEASE = timedelta(seconds=30)


@pytest.fixture
def database(clocked_database: Database) -> Database:
    """A database on the injected clock."""
    return clocked_database


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Skip pauses, as the clock stands still; record their attempt counts."""
    noted: list[int] = []

    def retry_delay(attempts: int) -> timedelta:
        noted.append(attempts)
        return timedelta(0)

    monkeypatch.setattr(worker, "retry_delay", retry_delay)
    return noted


class Scripted:
    """A handler scripted by the test, which records its jobs."""

    type = JobType.HIERARCHY_DUPLICATE

    def __init__(self) -> None:
        self.ran: list[UUID] = []
        self.running: dict[str, int] = {}
        self.max_running: dict[str, int] = {}
        self.abandoned: list[UUID] = []
        self.entered = asyncio.Queue[str]()
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        self.steps_before_error = 0

    async def run(self, attempt: Attempt) -> None:
        store = attempt.job.store
        self.ran.append(attempt.job.id)
        self.running[store] = self.running.get(store, 0) + 1
        self.max_running[store] = max(self.max_running.get(store, 0), self.running[store])
        self.entered.put_nowait(store)
        try:
            if self.gate:
                await self.gate.wait()
            for done in range(self.steps_before_error):
                await attempt.step(_step, done)
            if self.error:
                raise self.error
            await attempt.succeed(lambda _tx, _job: Completion(0))
        finally:
            self.running[store] -= 1

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        self.abandoned.append(job.id)


def _step(_tx: Transaction, _job: JobRow, done: int) -> Step:
    return Step({"done": done}, done, 10)


@asynccontextmanager
async def dispatching(
    database: Database, *handlers: Handler, **options: Any
) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(
        database, {h.type: h for h in handlers}, lease=LEASE, poll=0.01, **options
    )
    database.on_commit(dispatcher.wake)
    running = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        await running


async def ended(database: Database, *job_ids: UUID, store: str = factories.STORE) -> list[JobRow]:
    """Wait until the jobs have ended; return them."""
    feed = Feed(database)
    database.on_commit(feed.wake)
    for job_id in job_ids:
        async for _ in await feed.job_updates(store, job_id, None):
            pass
    jobs_by_id = await database.read(stored.by_ids, store, job_ids)
    return [jobs_by_id[job_id] for job_id in job_ids]


async def errors_of(database: Database, job: JobRow) -> list[tuple[str, str]]:
    """The codes and messages of a job's errors."""

    def read(tx: Transaction) -> list[tuple[str, str]]:
        errors = session_of(tx).exec(select(JobError).where(JobError.job_pk == job.pk))
        return [(error.code, error.message) for error in errors]

    return await database.read(read)


async def events_of(database: Database, store: str = factories.STORE) -> list[JobEvent]:
    def read(tx: Transaction) -> list[JobEvent]:
        query = select(JobEvent).where(JobEvent.store == store).order_by(col(JobEvent.seq))
        return list(session_of(tx).exec(query))

    return await database.read(read)


async def test_jobs_of_a_store_run_one_at_a_time_in_the_order_of_creation(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    queued = [await factories.pending_duplication(database, source) for _ in range(20)]
    handler = Scripted()
    async with dispatching(database, handler):
        await ended(database, *(job.id for job in queued))
    assert handler.ran == [job.id for job in queued]
    assert handler.max_running == {factories.STORE: 1}


async def test_stores_do_not_wait_for_each_other(database: Database) -> None:
    handler = Scripted()
    handler.gate = asyncio.Event()
    for store in ("north", "south"):
        source = await factories.hierarchy(database, {"a": {}}, store=store)
        await factories.pending_duplication(database, source, store=store)
    async with dispatching(database, handler):
        assert {await handler.entered.get(), await handler.entered.get()} == {"north", "south"}
        handler.gate.set()


async def test_no_more_stores_run_at_once_than_the_concurrency_allows(database: Database) -> None:
    handler = Scripted()
    queued: dict[str, UUID] = {}
    for store in ("a", "b", "c", "d"):
        source = await factories.hierarchy(database, {"a": {}}, store=store)
        queued[store] = (await factories.pending_duplication(database, source, store=store)).id
    peak = 0
    async with dispatching(database, handler, concurrency=2):
        for store, job_id in queued.items():
            await ended(database, job_id, store=store)
            peak = max(peak, sum(handler.running.values()))
    assert peak <= 2
    assert len(handler.ran) == 4


async def test_a_domain_error_fails_the_job_with_its_code_and_message(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    queued = await factories.pending_duplication(database, source)
    handler = Scripted()
    handler.error = NotFound("hierarchy", "x")
    async with dispatching(database, handler):
        (job,) = await ended(database, queued.id)
    assert job.status is JobStatus.FAILED
    assert await errors_of(database, job) == [("NOT_FOUND", "No hierarchy has the id x.")]
    assert handler.abandoned == [job.id]


async def test_a_handler_that_always_raises_fails_its_job_and_the_lane_continues(
    database: Database, pauses: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    broken = await factories.pending_duplication(database, source)
    handler = Scripted()
    handler.error = RuntimeError("a bug")
    async with dispatching(database, handler):
        (job,) = await ended(database, broken.id)
        handler.error = None
        (after,) = await ended(database, (await factories.pending_duplication(database, source)).id)
    assert job.status is JobStatus.FAILED
    assert handler.ran.count(broken.id) == MAX_ATTEMPTS_WITHOUT_PROGRESS
    assert handler.abandoned == [broken.id]
    assert pauses == [1, 2, 3, 4, 5]
    assert after.status is JobStatus.SUCCESS
    assert sum("a bug" in str(record.exc_info) for record in caplog.records) == 5


async def test_a_handler_that_never_returns_fails_its_job_and_the_lane_continues(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    stuck = await factories.pending_duplication(database, source)
    handler = Scripted()
    handler.gate = asyncio.Event()
    async with dispatching(database, handler, time_limit=timedelta(seconds=0.05)):
        (job,) = await ended(database, stuck.id)
    handler.gate = None
    # Without the limit, which a slow machine may exceed even for this job.
    async with dispatching(database, handler):
        (after,) = await ended(database, (await factories.pending_duplication(database, source)).id)
    assert job.status is JobStatus.FAILED
    assert handler.ran.count(stuck.id) == 1
    assert handler.abandoned == [stuck.id]
    assert await errors_of(database, job) == [
        ("TIME_LIMIT", "No step finished within 0.05 seconds.")
    ]
    assert after.status is JobStatus.SUCCESS


class Steady:
    """A handler that finishes short steps for `seconds`."""

    type = JobType.HIERARCHY_DUPLICATE

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def run(self, attempt: Attempt) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self.seconds
        while clock() < until:
            await attempt.step(_step, 1)
        await attempt.succeed(lambda _tx, _job: Completion(1))

    def abandon(self, tx: Transaction, job: JobRow) -> None:
        pass


async def test_the_time_limit_applies_to_each_step_and_not_to_the_job(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    queued = await factories.pending_duplication(database, source)
    # A step takes milliseconds: none comes near the limit, all together exceed it.
    limit = timedelta(seconds=1.5)
    steady = Steady(limit.total_seconds() * 1.2)
    async with dispatching(database, steady, time_limit=limit):
        (job,) = await ended(database, queued.id)
    assert job.status is JobStatus.SUCCESS
    assert job.attempts == 0


async def test_an_attempt_reports_each_finished_step(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    claimed = await factories.claimed_job(database)
    steps: list[int] = []
    attempt = Attempt(database, claimed, asyncio.Event(), lambda: steps.append(len(steps)))
    for done in range(3):
        await attempt.step(_step, done)
    with pytest.raises(ZeroDivisionError):
        await attempt.step(lambda _tx, _job: 1 // 0)  # type: ignore[arg-type,return-value]
    assert steps == [0, 1, 2]


async def test_only_attempts_without_a_finished_step_are_counted(database: Database) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    job = await factories.pending_duplication(database, source)
    for _ in range(2 * MAX_ATTEMPTS_WITHOUT_PROGRESS):
        claimed = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
        assert claimed is not None
        assert (claimed.id, claimed.attempts) == (job.id, 1)
        await database.write(attempts.advance, claimed, lambda: Step({}, 0, 1))
        await database.write(attempts.release, claimed)


async def test_a_job_without_a_handler_fails(database: Database) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    queued = await factories.pending_duplication(database, source)
    async with dispatching(database):
        (job,) = await ended(database, queued.id)
    assert job.status is JobStatus.FAILED


def test_every_handler_is_registered_by_its_type(database: Database) -> None:
    assert {
        type_: handler.type for type_, handler in find_handlers(Dependencies(database)).items()
    } == {JobType.HIERARCHY_DUPLICATE: JobType.HIERARCHY_DUPLICATE}


async def test_a_job_with_an_expired_lease_is_taken_over_and_its_old_worker_is_fenced(
    database: Database, clock: Clock
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    first = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
    assert first is not None
    assert await database.write(attempts.claim, factories.STORE, uuid4(), LEASE) is None
    clock.advance(LEASE)
    second = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
    assert second is not None
    assert second.id == first.id
    with pytest.raises(FenceLost):
        await database.write(attempts.heartbeat, first, LEASE)
    with pytest.raises(FenceLost):
        await database.write(attempts.advance, first, lambda: Step({"by": "zombie"}, 1, 1))
    with pytest.raises(FenceLost):
        await database.write(attempts.succeed, first, lambda: Completion(0))
    with pytest.raises(FenceLost):
        await database.write(attempts.fail, first, "X", "x", lambda: None)
    (now,) = (await database.read(stored.by_ids, factories.STORE, [first.id])).values()
    assert (now.status, now.epoch, now.checkpoint) == (JobStatus.STARTED, second.epoch, None)
    assert [event.type for event in await events_of(database)] == ["created", "started"]


async def test_a_heartbeat_extends_the_lease(database: Database, clock: Clock) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    claimed = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
    assert claimed is not None
    clock.advance(LEASE * 0.9)
    await database.write(attempts.heartbeat, claimed, LEASE)
    clock.advance(LEASE * 0.9)
    assert await database.write(attempts.claim, factories.STORE, uuid4(), LEASE) is None


async def test_a_released_job_can_be_claimed_at_once(database: Database) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    job = await factories.pending_duplication(database, source)
    first = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
    assert first is not None
    await database.write(attempts.release, first)
    second = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
    assert second is not None
    assert second.id == job.id
    assert second.epoch > first.epoch


async def test_a_clock_set_back_a_little_does_not_make_a_later_job_look_earlier(
    database: Database, clock: Clock
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    first = await factories.pending_duplication(database, source)
    clock.advance(-MAX_HELD_BACK)
    second = await factories.pending_duplication(database, source)
    assert second.created_at == first.created_at
    assert second.job_seq > first.job_seq
    # The clock has not caught up yet: the bound counts from the time of the clock.
    clock.advance(MAX_HELD_BACK / 2)
    third = await factories.pending_duplication(database, source)
    assert third.created_at == first.created_at


async def test_jobs_have_the_present_time_again_once_a_clock_is_set_back_by_hours(
    database: Database, clock: Clock
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    clock.advance(timedelta(hours=2))
    early = [await factories.pending_duplication(database, source) for _ in range(2)]
    clock.advance(-timedelta(hours=2))
    late = [await factories.pending_duplication(database, source) for _ in range(2)]
    assert {job.created_at for job in late} == {clock.now}
    # The order is that of the numbers, whatever the times say.
    listed = await database.read(
        stored.listing, factories.STORE, JobFilter(), True, KeysetWindow(10)
    )
    assert [job.id for _, job in listed.rows] == [job.id for job in (*early, *late)]
    for job in (*early, *late):
        claimed = await factories.claimed_job(database)
        assert claimed.id == job.id
        ended = await database.write(attempts.succeed, claimed, lambda: Completion(1))
        assert ended.started_at
        assert ended.completed_at
        assert ended.created_at <= ended.started_at <= ended.completed_at <= ended.updated_at


@pytest.mark.parametrize("hours", [-2, 2])
async def test_no_time_of_a_job_precedes_an_earlier_one_when_the_clock_is_set(
    database: Database, clock: Clock, hours: int
) -> None:
    jump = timedelta(hours=hours)
    source = await factories.hierarchy(database, {"a": {}})
    moved = await factories.pending_duplication(database, source)
    cancelled = await factories.pending_duplication(database, source)
    clock.advance(jump)
    moved = await database.write(queue.move_to_front, factories.STORE, moved.id)
    cancelled = await database.write(jobs.cancel, factories.STORE, cancelled.id)
    assert cancelled.created_at <= cancelled.updated_at
    assert moved.created_at <= moved.updated_at
    claimed = await factories.claimed_job(database)
    clock.advance(-jump)
    stepped = await database.write(attempts.advance, claimed, lambda: Step({}, 1, 2))
    assert stepped.started_at
    assert stepped.created_at <= stepped.started_at <= stepped.updated_at
    clock.advance(jump)
    failed = await database.write(attempts.fail, stepped, "X", "x", lambda: None)
    assert failed.started_at
    assert failed.completed_at
    assert failed.created_at <= failed.started_at <= failed.completed_at <= failed.updated_at


@pytest.mark.parametrize("hours", [-2, 2])
async def test_the_job_of_a_dead_worker_is_claimed_although_the_clock_was_set(
    database: Database, clock: Clock, hours: int
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    job = await factories.pending_duplication(database, source)
    await factories.claimed_job(database)
    assert await database.read(lanes.claimable_stores) == []
    clock.advance(timedelta(hours=hours))
    assert await database.read(lanes.claimable_stores) == [factories.STORE]
    health = await database.read(queue_health, timedelta(seconds=10), 10)
    assert (health.running, [lost.store for lost in health.lost]) == (0, [factories.STORE])
    assert health.lost[0].since <= clock.now
    assert (await factories.claimed_job(database)).id == job.id


async def test_a_live_worker_keeps_its_job_when_its_clock_is_set(
    database: Database, clock: Clock
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    claimed = await factories.claimed_job(database)
    for hours in (2, -2):
        clock.advance(timedelta(hours=hours))
        await database.write(attempts.heartbeat, claimed, LEASE)
        assert await database.read(lanes.claimable_stores) == []
        assert await database.write(attempts.claim, factories.STORE, uuid4(), LEASE) is None


async def test_stopping_releases_the_running_job_after_its_step(database: Database) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    queued = await factories.pending_duplication(database, source)
    handler = Scripted()
    handler.gate = asyncio.Event()
    handler.steps_before_error = 3
    async with dispatching(database, handler) as dispatcher:
        await handler.entered.get()
        dispatcher.stop()
        handler.gate.set()
    job = (await database.read(stored.by_ids, factories.STORE, [queued.id]))[queued.id]
    assert job.status is JobStatus.STARTED
    claimed = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
    assert claimed is not None
    assert claimed.id == queued.id


async def test_concurrent_cancelling_and_claiming_give_each_job_one_outcome(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    queued = [await factories.pending_duplication(database, source) for _ in range(60)]
    handler = Scripted()

    async def cancel(job: JobRow) -> None:
        with suppress(JobNotCancellable):
            await database.write(jobs.cancel, factories.STORE, job.id)

    async with dispatching(database, handler):
        await asyncio.gather(*(cancel(job) for job in reversed(queued)))
        ended_jobs = await ended(database, *(job.id for job in queued))
    cancelled = {job.id for job in ended_jobs if job.status is JobStatus.CANCELLED}
    assert set(handler.ran) == {job.id for job in queued} - cancelled
    assert len(handler.ran) == len(set(handler.ran))
    events = await events_of(database)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_pending_jobs_are_counted(database: Database) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    for _ in range(3):
        await factories.pending_duplication(database, source)
    pending = JobFilter(status=[JobStatus.PENDING])
    assert await database.read(stored.count, factories.STORE, pending) == 3


async def test_stores_take_turns_if_they_exceed_the_concurrency(
    database: Database, clock: Clock
) -> None:
    handler = Scripted()
    sources = {store: await factories.hierarchy(database, {"a": {}}, store=store) for store in "ab"}
    order = []
    for store in "aba":
        clock.advance(timedelta(seconds=1))
        job = await factories.pending_duplication(database, sources[store], store=store)
        order.append((store, job.id))
    async with dispatching(database, handler, concurrency=1):
        for store, job_id in order:
            await ended(database, job_id, store=store)
    assert handler.ran == [job_id for _, job_id in order]


async def test_a_copy_that_can_never_be_published_fails_and_the_lane_continues(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    queued = await factories.pending_duplication(database, source)

    def broken(*_: object) -> Completion:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(copies, "publish", broken)
        async with dispatching(database, *find_handlers(Dependencies(database)).values()):
            (job,) = await ended(database, queued.id)
    assert job.status is JobStatus.FAILED
    # The first attempt reached the last step.
    assert len(caplog.records) == 1 + MAX_ATTEMPTS_WITHOUT_PROGRESS
    async with dispatching(database, *find_handlers(Dependencies(database)).values()):
        (after,) = await ended(database, (await factories.pending_duplication(database, source)).id)
    assert after.status is JobStatus.SUCCESS


async def test_a_heartbeat_after_a_release_does_not_reclaim_the_job(
    database: Database,
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    claimed = await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
    assert claimed is not None
    await database.write(attempts.release, claimed)
    with pytest.raises(FenceLost):
        await database.write(attempts.heartbeat, claimed, LEASE)
    assert await database.write(attempts.claim, factories.STORE, uuid4(), LEASE)
