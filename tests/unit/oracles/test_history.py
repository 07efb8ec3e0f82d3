"""The judge of histories finds nothing in a good one, and in a bad one what is wrong with it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import Session, col

from app.domain.events import JobEventType, event_of
from app.domain.jobs import JobStatus
from app.storage.engine.database import Database
from app.storage.tables import Job, JobEvent
from tests import factories
from tests.oracles.history import EventRow, History, JobRow, LaneRow, history_of, judge

BEGINNING = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass
class Told:
    """A history to spoil: rows as a store would hold them."""

    jobs: list[JobRow]
    events: list[EventRow]
    lane: LaneRow

    @property
    def history(self) -> History:
        return judge(self.jobs, self.events, self.lane)


def told(story: str) -> Told:
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
    return Told(jobs, events, LaneRow(len(jobs), len(events), pending))


GOOD = "1+ 2+ 3+ 1! 4+ 2x 1. 5+ 6+ 3! 3- 4! 4. 5!"


def test_a_good_history_has_no_faults() -> None:
    history = told(GOOD).history
    assert history.faults == {}
    assert (history.jobs, history.unended, history.events) == (6, 2, 14)
    assert str(history).startswith("6 jobs, 14 events: gaps 0, both started 0, ")


def test_a_history_in_which_jobs_were_moved_has_no_faults() -> None:
    history = told("1+ 2+ 3+ 4+ 3^ 2^ 3^ 5+ 4^ 4x 3! 3. 1^ 1! 1- 2! 2. 5^").history
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
def test_a_story_that_may_not_be_is_found(story: str, faults: dict[str, int]) -> None:
    assert told(story).history.faults == faults


def test_a_number_that_no_event_has_is_a_gap() -> None:
    spoiled = told(GOOD)
    spoiled.events[6] = replace(spoiled.events[6], seq=30)
    assert spoiled.history.faults["gaps"] == 2


def test_a_number_that_two_events_have_is_a_gap() -> None:
    spoiled = told(GOOD)
    spoiled.events.append(spoiled.events[0])
    assert spoiled.history.faults["gaps"] == 1


def test_events_that_the_lane_counted_and_nobody_wrote_are_gaps() -> None:
    spoiled = told(GOOD)
    spoiled.lane = replace(spoiled.lane, event_seq=16)
    assert spoiled.history.faults == {"gaps": 2}


def test_a_job_without_events_is_lost() -> None:
    spoiled = told("1+ 1! 1.")
    spoiled.jobs.append(JobRow(2, 2, JobStatus.PENDING, BEGINNING + timedelta(days=1), None))
    spoiled.lane = LaneRow(job_seq=2, event_seq=3, pending=1)
    assert spoiled.history.faults == {"lost": 1, "wrong_sequences": 1}


def test_a_job_that_is_gone_is_lost() -> None:
    spoiled = told("1+ 2+")
    del spoiled.jobs[1]
    assert spoiled.history.faults["lost"] == 2


def test_a_job_whose_status_no_event_tells_is_lost() -> None:
    spoiled = told("1+ 1! 1.")
    spoiled.jobs[0] = replace(spoiled.jobs[0], status=JobStatus.STARTED)
    assert spoiled.history.faults == {"lost": 1}


def test_a_cancelled_job_that_has_a_start_was_run() -> None:
    spoiled = told("1+ 1x")
    spoiled.jobs[0] = replace(spoiled.jobs[0], started_at=BEGINNING)
    assert spoiled.history.faults == {"cancelled_and_run": 1}


def test_an_event_that_names_the_wrong_status_before_it_is_a_wrong_story() -> None:
    spoiled = told("1+ 1! 1.")
    spoiled.events[1] = replace(spoiled.events[1], previous_status=None)
    assert spoiled.history.faults == {"wrong_sequences": 1}


def test_a_job_that_looks_older_than_its_predecessor_is_found() -> None:
    spoiled = told("1+ 2+ 3+")
    spoiled.jobs[1] = replace(spoiled.jobs[1], created_at=BEGINNING)
    assert spoiled.history.faults == {"clock_reversals": 1}


def test_a_wrong_number_of_pending_jobs_is_found() -> None:
    spoiled = told("1+ 2+ 3+")
    spoiled.lane = replace(spoiled.lane, pending=1)
    assert spoiled.history.faults == {"miscounted": 2}


async def test_a_history_is_that_of_one_store_of_a_real_database(database: Database) -> None:
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


async def test_what_is_wrong_in_a_real_database_is_found(database: Database) -> None:
    source = await factories.hierarchy(database, {})
    for _ in range(2):
        await factories.pending_duplication(database, source)
    await factories.ran_job(database)

    def spoil(session: Session) -> None:
        session.exec(sa.delete(JobEvent).where(col(JobEvent.seq) == 1))
        session.exec(sa.update(Job).values(status=JobStatus.CANCELLED))

    await database.write(spoil)
    url = database.url.render_as_string(hide_password=False)
    assert history_of(url).faults == {
        "gaps": 1,
        "cancelled_and_run": 1,
        "wrong_sequences": 1,
        "lost": 2,
        "miscounted": 1,
    }
