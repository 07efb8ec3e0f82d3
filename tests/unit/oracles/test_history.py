"""The history oracle reports every fault of a bad history and none of a good one."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.domain.events import JobEventType, event_of
from app.domain.jobs import JobStatus
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.tables import Job, JobEvent
from tests import factories
from tests.oracles.history import EventRow, History, JobRow, LaneRow, history_of, judge

BEGINNING = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass
class StoredHistory:
    """A history to corrupt: rows as a store would hold them."""

    jobs: list[JobRow]
    events: list[EventRow]
    lane: LaneRow

    @property
    def history(self) -> History:
        return judge(self.jobs, self.events, self.lane)


def stored_history(story: str) -> StoredHistory:
    """The history of jobs 1, 2, ...: `1+ 1! 1. 2+ 2x` creates, starts, ends and cancels them, `1-`
    fails one, and `1^` moves one to the front."""
    marks = {
        "+": JobStatus.PENDING,
        "!": JobStatus.STARTED,
        ".": JobStatus.SUCCESS,
        "-": JobStatus.FAILED,
        "x": JobStatus.CANCELLED,
    }
    statuses: dict[int, JobStatus] = {}
    ran: set[int] = set()
    events: list[EventRow] = []
    for seq, word in enumerate(story.split(), 1):
        job = int(word[:-1])
        if word.endswith("^"):
            events.append(EventRow(seq, job, JobEventType.MOVED, None))
            continue
        status = marks[word[-1]]
        events.append(EventRow(seq, job, event_of(status), statuses.get(job)))
        statuses[job] = status
        if status is JobStatus.STARTED:
            ran.add(job)
    jobs = [
        JobRow(
            job,
            job,
            status,
            BEGINNING + timedelta(seconds=job),
            BEGINNING + timedelta(hours=1) if job in ran else None,
        )
        for job, status in statuses.items()
    ]
    pending = list(statuses.values()).count(JobStatus.PENDING)
    return StoredHistory(jobs, events, LaneRow(len(jobs), len(events), pending))


GOOD = "1+ 2+ 3+ 1! 4+ 2x 1. 5+ 6+ 3! 3- 4! 4. 5!"


def test_a_good_history_has_no_faults() -> None:
    history = stored_history(GOOD).history
    assert history.faults == {}
    assert (history.jobs, history.unended, history.events) == (6, 2, 14)
    assert str(history).startswith("6 jobs, 14 events: gaps 0, both started 0, ")


def test_a_history_in_which_jobs_were_moved_has_no_faults() -> None:
    history = stored_history("1+ 2+ 3+ 4+ 3^ 2^ 3^ 5+ 4^ 4x 3! 3. 1^ 1! 1- 2! 2. 5^").history
    assert history.faults == {}
    assert (history.jobs, history.unended) == (5, 1)


@pytest.mark.parametrize(
    ("story", "faults"),
    [
        ("1+ 2+ 1! 2! 1. 2.", {"both_started": 1}),
        ("1+ 2+ 2! 2. 1! 1.", {"inversions": 1}),
        ("2+ 1+ 1! 1. 2! 2.", {"inversions": 1}),
        ("1+ 1x 1!", {"cancelled_and_run": 1, "wrong_sequences": 1}),
        ("1+ 1! 1x", {"cancelled_and_run": 1, "wrong_sequences": 1}),
        ("1+ 1! 1. 1! 1.", {"wrong_sequences": 1}),
        ("1+ 1! 1! 1.", {"wrong_sequences": 1, "both_started": 1}),
        ("1+ 1! 1. 1.", {"wrong_sequences": 1}),
        ("1+ 1x 1x", {"wrong_sequences": 1}),
        ("1! 1.", {"wrong_sequences": 1}),
        ("1+ 1.", {"wrong_sequences": 1}),
        ("1+ 2+ 3+ 3^ 1! 1. 3! 3.", {"inversions": 1}),
        ("1+ 2+ 3+ 3^ 2^ 3! 3. 2! 2.", {"inversions": 1}),
        ("1+ 2+ 3+ 3^ 1^ 1! 1. 2! 2.", {"inversions": 1}),
        ("1+ 1! 1^ 1.", {"wrong_sequences": 1}),
        ("1+ 1x 1^", {"wrong_sequences": 1}),
        ("1^ 1+", {"wrong_sequences": 1}),
    ],
)
def test_an_impossible_sequence_is_reported(story: str, faults: dict[str, int]) -> None:
    assert stored_history(story).history.faults == faults


def test_a_number_that_no_event_has_is_a_gap() -> None:
    corrupted = stored_history(GOOD)
    corrupted.events[6] = replace(corrupted.events[6], seq=30)
    assert corrupted.history.faults["gaps"] == 2


def test_a_number_that_two_events_have_is_a_gap() -> None:
    corrupted = stored_history(GOOD)
    corrupted.events.append(corrupted.events[0])
    assert corrupted.history.faults["gaps"] == 1


def test_events_counted_by_the_lane_but_never_written_are_gaps() -> None:
    corrupted = stored_history(GOOD)
    corrupted.lane = replace(corrupted.lane, event_seq=16)
    assert corrupted.history.faults == {"gaps": 2}


def test_a_job_without_events_is_lost() -> None:
    corrupted = stored_history("1+ 1! 1.")
    corrupted.jobs.append(JobRow(2, 2, JobStatus.PENDING, BEGINNING + timedelta(days=1), None))
    corrupted.lane = LaneRow(job_seq=2, event_seq=3, pending=1)
    assert corrupted.history.faults == {"lost": 1, "wrong_sequences": 1}


def test_a_deleted_job_is_lost() -> None:
    corrupted = stored_history("1+ 2+")
    del corrupted.jobs[1]
    assert corrupted.history.faults["lost"] == 2


def test_a_job_whose_status_no_event_has_is_lost() -> None:
    corrupted = stored_history("1+ 1! 1.")
    corrupted.jobs[0] = replace(corrupted.jobs[0], status=JobStatus.STARTED)
    assert corrupted.history.faults == {"lost": 1}


def test_a_cancelled_job_that_has_a_start_was_run() -> None:
    corrupted = stored_history("1+ 1x")
    corrupted.jobs[0] = replace(corrupted.jobs[0], started_at=BEGINNING)
    assert corrupted.history.faults == {"cancelled_and_run": 1}


def test_an_event_with_a_wrong_previous_status_is_a_wrong_story() -> None:
    corrupted = stored_history("1+ 1! 1.")
    corrupted.events[1] = replace(corrupted.events[1], previous_status=None)
    assert corrupted.history.faults == {"wrong_sequences": 1}


def test_a_job_older_than_its_predecessor_is_a_clock_reversal() -> None:
    corrupted = stored_history("1+ 2+ 3+")
    corrupted.jobs[1] = replace(corrupted.jobs[1], created_at=BEGINNING)
    assert corrupted.history.faults == {"clock_reversals": 1}


def test_a_wrong_number_of_pending_jobs_is_a_miscount() -> None:
    corrupted = stored_history("1+ 2+ 3+")
    corrupted.lane = replace(corrupted.lane, pending=1)
    assert corrupted.history.faults == {"miscounted": 2}


async def test_a_history_covers_one_store_of_a_real_database(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    for store in ("north", "south"):
        source = await factories.hierarchy(database, {}, store=store)
        for _ in range(3):
            await factories.pending_duplication(database, source, store=store)
    await factories.ran_job(database, store="north")
    await factories.claimed_job(database, store="north")

    history = history_of(url, "north")
    assert history.faults == {}
    assert history.statuses == {
        JobStatus.SUCCESS: 1,
        JobStatus.STARTED: 1,
        JobStatus.PENDING: 1,
    }
    assert history.events == 6
    assert history_of(url, "nowhere").jobs == 0


async def test_faults_in_a_real_database_are_reported(database: Database) -> None:
    source = await factories.hierarchy(database, {})
    for _ in range(2):
        await factories.pending_duplication(database, source)
    await factories.ran_job(database)

    def corrupt(tx: Transaction) -> None:
        tx.changed(sa.delete(JobEvent).where(col(JobEvent.seq) == 1))
        tx.changed(sa.update(Job).values(status=JobStatus.CANCELLED))

    await database.write(corrupt)
    url = database.url.render_as_string(hide_password=False)
    assert history_of(url).faults == {
        "gaps": 1,
        "cancelled_and_run": 1,
        "wrong_sequences": 1,
        "lost": 2,
        "miscounted": 1,
    }
