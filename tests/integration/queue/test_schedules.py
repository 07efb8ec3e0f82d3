"""Random schedules of the queue against a small model.

Requests, claims, heartbeats, steps, ends, cancellations, moves, retries, pauses and expired leases.
`--full` takes 10,000 steps per database.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import col, select

from app.domain.errors import DomainError
from app.domain.jobs import (
    FenceLost,
    JobNotCancellable,
    JobNotMovable,
    JobNotRetryable,
    JobStatus,
)
from app.services import attempts, jobs, queue
from app.services.attempts import Completion, Step
from app.services.jobs import Requester
from app.storage import lanes
from app.storage.engine.connect import connect
from app.storage.engine.transaction import Transaction
from app.storage.jobs import JobFilter
from app.storage.migrations import upgrade
from app.storage.tables import Job, JobEvent, JobRow
from tests import factories
from tests.support.databases import DATABASES, NewDatabase
from tests.support.entities import session_of

LEASE = timedelta(seconds=30)


@dataclass
class Lane:
    """The model of one store."""

    source: UUID
    statuses: dict[UUID, JobStatus] = field(default_factory=dict)
    """In the order of creation."""
    moved: list[UUID] = field(default_factory=list)
    """Jobs that were moved to the front, the last moved first."""
    retries: dict[UUID, UUID] = field(default_factory=dict)
    """The newest retry of each job."""
    paused: bool = False
    claim: JobRow | None = None
    lease_until: datetime | None = None
    held: bool = False
    """True while a worker has the claim; False after its release."""
    attempts: int = 0
    zombies: list[JobRow] = field(default_factory=list)
    events: int = 0

    def pending(self) -> list[UUID]:
        order = [*self.moved, *(id for id in self.statuses if id not in self.moved)]
        return [id for id in order if self.statuses[id] is JobStatus.PENDING]


class Queue(RuleBasedStateMachine):
    new_database_url: ClassVar[Callable[[], str]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = datetime(2026, 11, 22, tzinfo=UTC)
        self.database = connect(type(self).new_database_url(), clock=lambda _: self.now)
        upgrade(self.database)
        self.lanes = {
            store: Lane(self.runner.run(factories.hierarchy(self.database, {"a": {}}, store=store)))
            for store in ("north", "south")
        }

    def teardown(self) -> None:
        self.database.close()
        self.runner.close()

    def write(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.runner.run(self.database.write(fn, *args))

    def refused(self, fn: Callable[..., Any], *args: Any) -> DomainError | None:
        try:
            self.write(fn, *args)
        except DomainError as error:
            return error
        return None

    stores = st.sampled_from(["north", "south"])

    @rule(store=stores)
    def request(self, store: str) -> None:
        lane = self.lanes[store]
        job = self.runner.run(
            factories.pending_duplication(self.database, lane.source, store=store)
        )
        lane.statuses[job.id] = JobStatus.PENDING
        lane.events += 1

    @rule(store=stores)
    def claim(self, store: str) -> None:
        lane = self.lanes[store]
        claimed: JobRow | None = self.write(attempts.claim, store, uuid4(), LEASE)
        if lane.claim and lane.lease_until and lane.lease_until > self.now:
            assert claimed is None
        elif lane.claim:
            assert claimed is not None
            assert claimed.id == lane.claim.id
            lane.zombies.append(lane.claim)
            lane.attempts += 1
        elif lane.paused or not lane.pending():
            assert claimed is None
        else:
            assert claimed is not None
            assert claimed.id == lane.pending()[0]
            lane.statuses[claimed.id] = JobStatus.STARTED
            lane.events += 1
            lane.attempts = 1
        if claimed:
            lane.claim, lane.lease_until, lane.held = claimed, self.now + LEASE, True
            assert claimed.attempts == lane.attempts

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(store=stores)
    @precondition(lambda self: any(lane.claim for lane in self.lanes.values()))
    def step(self, store: str) -> None:
        lane = self.lanes[store]
        if lane.claim:
            # A worker with an expired lease continues until another one takes over.
            lane.claim = self.write(attempts.advance, lane.claim, lambda: Step({}, 1, 2))
            lane.attempts = 0

    @rule(store=stores, succeeds=st.booleans())
    @precondition(lambda self: any(lane.claim for lane in self.lanes.values()))
    def end(self, store: str, succeeds: bool) -> None:
        lane = self.lanes[store]
        if lane.claim is None:
            return
        if succeeds:
            self.write(attempts.succeed, lane.claim, lambda: Completion(2))
        else:
            self.write(attempts.fail, lane.claim, "BROKEN", "It broke.", lambda: None)
        lane.statuses[lane.claim.id] = JobStatus.SUCCESS if succeeds else JobStatus.FAILED
        lane.zombies.append(lane.claim)
        lane.claim = lane.lease_until = None
        lane.held = False
        lane.events += 1

    @rule(store=stores)
    @precondition(lambda self: any(lane.claim for lane in self.lanes.values()))
    def heartbeat(self, store: str) -> None:
        lane = self.lanes[store]
        if lane.claim is None:
            return
        refusal = self.refused(attempts.heartbeat, lane.claim, LEASE)
        if lane.held:
            assert refusal is None
            lane.lease_until = self.now + LEASE
        else:
            assert isinstance(refusal, FenceLost)

    @rule(store=stores)
    @precondition(lambda self: any(lane.claim for lane in self.lanes.values()))
    def release(self, store: str) -> None:
        lane = self.lanes[store]
        if lane.claim:
            self.write(attempts.release, lane.claim)
            if lane.held:
                lane.lease_until, lane.held = self.now, False
                lane.attempts = max(0, lane.attempts - 1)

    @rule(store=stores, seconds=st.integers(1, 60))
    @precondition(lambda self: any(lane.claim for lane in self.lanes.values()))
    def snooze(self, store: str, seconds: int) -> None:
        lane = self.lanes[store]
        if lane.claim:
            self.write(attempts.snooze, lane.claim, timedelta(seconds=seconds))
            if lane.held:
                lane.lease_until, lane.held = self.now + timedelta(seconds=seconds), False

    @rule(store=stores, data=st.data())
    def cancel(self, store: str, data: st.DataObject) -> None:
        lane = self.lanes[store]
        if not lane.statuses:
            return
        job_id = data.draw(st.sampled_from(list(lane.statuses)))
        refusal = self.refused(jobs.cancel, store, job_id)
        if lane.statuses[job_id] is JobStatus.PENDING:
            assert refusal is None
            lane.statuses[job_id] = JobStatus.CANCELLED
            lane.events += 1
        else:
            assert isinstance(refusal, JobNotCancellable)
            assert refusal.status is lane.statuses[job_id]

    @rule(store=stores, data=st.data())
    def cancel_matching(self, store: str, data: st.DataObject) -> None:
        lane = self.lanes[store]
        statuses = data.draw(st.sets(st.sampled_from(list(JobStatus)), max_size=2))
        done = self.write(jobs.cancel_matching, store, JobFilter(status=statuses))
        outcomes = {outcome.job.id: outcome.refusal is None for outcome in done.outcomes}
        assert done.remaining == 0
        assert outcomes == {
            id: status is JobStatus.PENDING
            for id, status in lane.statuses.items()
            if status in statuses
        }
        assert list(outcomes.values()) == sorted(outcomes.values(), reverse=True)
        for id in [id for id, cancelled in outcomes.items() if cancelled]:
            lane.statuses[id] = JobStatus.CANCELLED
            lane.events += 1

    @rule(store=stores, data=st.data())
    def move(self, store: str, data: st.DataObject) -> None:
        lane = self.lanes[store]
        if not lane.statuses:
            return
        job_id = data.draw(st.sampled_from(list(lane.statuses)))
        refusal = self.refused(queue.move_to_front, store, job_id)
        if lane.statuses[job_id] is not JobStatus.PENDING:
            assert isinstance(refusal, JobNotMovable)
            assert refusal.status is lane.statuses[job_id]
            return
        assert refusal is None
        if lane.pending()[0] != job_id:
            lane.moved = [job_id, *(id for id in lane.moved if id != job_id)]
            lane.events += 1

    @rule(store=stores, data=st.data())
    def retry(self, store: str, data: st.DataObject) -> None:
        lane = self.lanes[store]
        if not lane.statuses:
            return
        job_id = data.draw(st.sampled_from(list(lane.statuses)))
        if lane.statuses[job_id] is not JobStatus.FAILED:
            refusal = self.refused(jobs.retry, Requester(store, "again"), job_id, lambda _: None)
            assert isinstance(refusal, JobNotRetryable)
            assert refusal.status is lane.statuses[job_id]
            return
        retried = self.write(jobs.retry, Requester(store, "again"), job_id, lambda _: None)
        known = lane.retries.get(job_id)
        if known and lane.statuses[known] not in (JobStatus.FAILED, JobStatus.CANCELLED):
            assert (retried.job.id, retried.replayed) == (known, True)
            return
        assert not retried.replayed
        assert retried.job.id not in lane.statuses
        lane.retries[job_id] = retried.job.id
        lane.statuses[retried.job.id] = JobStatus.PENDING
        lane.events += 1

    @rule(store=stores, paused=st.booleans())
    def pause_or_resume(self, store: str, paused: bool) -> None:
        if paused:
            self.write(queue.pause, Requester(store, "pausing"), None)
        else:
            self.write(queue.resume, store)
        self.lanes[store].paused = paused

    @rule(store=stores, data=st.data())
    @precondition(lambda self: any(lane.zombies for lane in self.lanes.values()))
    def write_as_a_zombie(self, store: str, data: st.DataObject) -> None:
        lane = self.lanes[store]
        if lane.zombies:
            zombie = data.draw(st.sampled_from(lane.zombies))
            for write in (
                (attempts.heartbeat, zombie, LEASE),
                (attempts.advance, zombie, lambda: Step({"zombie": True}, 9, 9)),
                (attempts.succeed, zombie, lambda: Completion(9)),
                (attempts.fail, zombie, "ZOMBIE", "Zombie.", lambda: None),
            ):
                assert isinstance(self.refused(*write), FenceLost)

    @invariant()
    def the_store_matches_the_model(self) -> None:
        def read(tx: Transaction, store: str) -> tuple[list[Job], list[JobEvent], dict[int, Any]]:
            rows = (
                session_of(tx)
                .exec(select(Job).where(Job.store == store).order_by(col(Job.job_seq)))
                .all()
            )
            events = (
                session_of(tx)
                .exec(select(JobEvent).where(JobEvent.store == store).order_by(col(JobEvent.seq)))
                .all()
            )
            pks = [job.pk for job in rows if job.pk]
            return list(rows), list(events), lanes.queue_positions(tx, store, pks)

        for store, lane in self.lanes.items():
            rows, events, queue_positions = self.runner.run(self.database.read(read, store))
            assert {job.id: job.status for job in rows} == lane.statuses
            assert [job.id for job in rows] == list(lane.statuses)
            assert all(a.created_at <= b.created_at for a, b in pairwise(rows))
            retried = {job.id: job.retry_of for job in rows}
            assert all(retried[new] == old for old, new in lane.retries.items())
            assert [event.seq for event in events] == list(range(1, lane.events + 1))
            positions = {
                job.id: queue_positions[job.pk].position
                for job in rows
                if job.pk in queue_positions
            }
            assert positions == {id: position for position, id in enumerate(lane.pending(), 1)}
            assert not any((job.checkpoint or {}).get("zombie") for job in rows)
            assert all(
                job.started_at is None and job.completed_at is None
                for job in rows
                if job.status is JobStatus.CANCELLED
            )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", DATABASES)
def test_any_schedule_leaves_the_store_matching_the_model(
    kind: str, new_database: NewDatabase, scaled: Callable[[int, int, int], int]
) -> None:
    class OverOneKind(Queue):
        @staticmethod
        def new_database_url() -> str:
            return new_database(kind)

    run_state_machine_as_test(
        OverOneKind,
        settings=settings(
            max_examples=scaled(4, 12, 200),
            stateful_step_count=scaled(30, 30, 50),
            deadline=None,
        ),
    )
