"""Checks a store's jobs and event log against the guarantees of the queue.

Each guarantee has a count of its violations, and all counts must be 0.

    history = history_of(database_url)
    assert history.faults == {}
    report(f"... {history}")
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise

import sqlalchemy as sa
from sqlmodel import col

from app.domain.events import JobEventType, event_of
from app.domain.jobs import JobStatus
from app.storage.engine.connect import connect
from app.storage.tables import Job, JobEvent, Lane
from tests import factories
from tests.support.entities import read_transaction

CREATED = (JobEventType.CREATED, None)
STARTED = (JobEventType.STARTED, JobStatus.PENDING)
SUCCEEDED = (JobEventType.SUCCEEDED, JobStatus.STARTED)
FAILED = (JobEventType.FAILED, JobStatus.STARTED)
CANCELLED = (JobEventType.CANCELLED, JobStatus.PENDING)
MOVED = (JobEventType.MOVED, None)

EVENT_SEQUENCES = frozenset(
    {
        (CREATED,),
        (CREATED, STARTED),
        (CREATED, STARTED, SUCCEEDED),
        (CREATED, STARTED, FAILED),
        (CREATED, CANCELLED),
    }
)
"""The allowed event sequences of a job, each event with the previous status.

Any number of MOVED events may follow the first event.
"""

RUN = frozenset({JobEventType.STARTED, JobEventType.SUCCEEDED, JobEventType.FAILED})


@dataclass(frozen=True, slots=True)
class JobRow:
    """The checked columns of a job."""

    pk: int
    job_seq: int
    status: JobStatus
    created_at: datetime
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """The checked columns of an event."""

    seq: int
    job_pk: int
    type: JobEventType
    previous_status: JobStatus | None


@dataclass(frozen=True, slots=True)
class LaneRow:
    """The counters of the lane."""

    job_seq: int = 0
    event_seq: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Faults:
    """Number of violations per guarantee."""

    gaps: int
    """Sequence numbers in 1..N with no event or several events, and events above N."""
    both_started: int
    """Jobs that started while another job was running."""
    inversions: int
    """Jobs that started before the first job of the queue, or were created after a successor.

    The first job is the one moved to the front last, else the oldest.
    """
    cancelled_and_run: int
    """Jobs that were cancelled and also started or ended otherwise."""
    wrong_sequences: int
    """Jobs whose events are not in EVENT_SEQUENCES, for instance with two starts."""
    lost: int
    """Jobs without events, events without a job, jobs whose status differs from that of the
    last event, and numbers in 1..N without a job."""
    clock_reversals: int
    """Jobs with an earlier creation time than their predecessor."""
    miscounted: int
    """Error of the lane's number of pending jobs."""


@dataclass(frozen=True, slots=True)
class History:
    """A store's history and its violations."""

    events: int
    statuses: Mapping[JobStatus, int]
    """Number of jobs by status, without statuses that no job has."""
    violations: Faults

    @property
    def faults(self) -> dict[str, int]:
        """The counts that are not 0, by name."""
        figures = {
            field.name: getattr(self.violations, field.name) for field in fields(self.violations)
        }
        return {name: number for name, number in figures.items() if number}

    @property
    def jobs(self) -> int:
        """Number of jobs."""
        return sum(self.statuses.values())

    @property
    def unended(self) -> int:
        """Number of pending or started jobs."""
        return sum(number for status, number in self.statuses.items() if not status.is_final)

    def __str__(self) -> str:
        figures = (
            f"{field.name.replace('_', ' ')} {getattr(self.violations, field.name)}"
            for field in fields(self.violations)
        )
        return f"{self.jobs} jobs, {self.events} events: {', '.join(figures)}"


def history_of(database_url: str, store: str = factories.STORE) -> History:
    """Check the store's current history, read in one snapshot."""
    with (
        closing(connect(database_url)) as database,
        read_transaction(database) as tx,
    ):
        lane_rows = tx.rows(
            sa.select(col(Lane.job_seq), col(Lane.event_seq), col(Lane.pending)).where(
                col(Lane.store) == store
            )
        )
        jobs = tx.rows(
            sa.select(
                col(Job.pk),
                col(Job.job_seq),
                col(Job.status),
                col(Job.created_at),
                col(Job.started_at),
            ).where(col(Job.store) == store)
        )
        events = tx.rows(
            sa.select(
                col(JobEvent.seq),
                col(JobEvent.job_pk),
                col(JobEvent.type),
                col(JobEvent.previous_status),
            ).where(col(JobEvent.store) == store)
        )
        return judge(
            [JobRow(*row) for row in jobs],
            [EventRow(*row) for row in events],
            LaneRow(*lane_rows[0]) if lane_rows else LaneRow(),
        )


def judge(jobs: Iterable[JobRow], events: Iterable[EventRow], lane: LaneRow) -> History:
    """Check a history from its rows, in any order."""
    jobs = sorted(jobs, key=lambda job: job.job_seq)
    events = sorted(events, key=lambda event: event.seq)
    numbers = {job.pk: job.job_seq for job in jobs}
    sequences: dict[int, list[EventRow]] = {job.pk: [] for job in jobs}
    for event in events:
        sequences.setdefault(event.job_pk, []).append(event)
    statuses = Counter(job.status for job in jobs)
    return History(
        events=len(events),
        statuses=statuses,
        violations=Faults(
            gaps=_differences([event.seq for event in events], lane.event_seq),
            both_started=_both_started(events),
            inversions=_inversions(events, numbers),
            cancelled_and_run=_cancelled_and_run(jobs, sequences),
            wrong_sequences=sum(
                not _is_allowed([(event.type, event.previous_status) for event in sequence])
                for sequence in sequences.values()
            ),
            lost=_lost(jobs, sequences) + _differences(list(numbers.values()), lane.job_seq),
            clock_reversals=sum(
                later.created_at < earlier.created_at for earlier, later in pairwise(jobs)
            ),
            miscounted=abs(lane.pending - statuses[JobStatus.PENDING]),
        ),
    )


def _differences(numbers: Sequence[int], last: int) -> int:
    """Count the differences between `numbers` and 1..last."""
    actual, expected = Counter(numbers), Counter(range(1, last + 1))
    return (actual - expected).total() + (expected - actual).total()


def _both_started(events: Sequence[EventRow]) -> int:
    running: set[int] = set()
    overlaps = 0
    for event in events:
        if event.type is JobEventType.STARTED:
            overlaps += bool(running)
            running.add(event.job_pk)
        elif event.type.is_last:
            running.discard(event.job_pk)
    return overlaps


def _is_allowed(sequence: Sequence[tuple[JobEventType, JobStatus | None]]) -> bool:
    rest = list(sequence)
    while rest[1:2] == [MOVED]:
        del rest[1]
    return tuple(rest) in EVENT_SEQUENCES


def _inversions(events: Sequence[EventRow], numbers: Mapping[int, int]) -> int:
    pending: dict[int, int] = {}
    newest = front = 0
    inversions = 0
    for event in events:
        if event.type is JobEventType.MOVED:
            front -= 1
            pending[event.job_pk] = front
            continue
        rank = pending.pop(event.job_pk, 0)
        if event.type is JobEventType.CREATED:
            number = pending[event.job_pk] = numbers.get(event.job_pk, 0)
            inversions += number < newest
            newest = max(newest, number)
        if event.type is JobEventType.STARTED:
            inversions += any(pending_rank < rank for pending_rank in pending.values())
    return inversions


def _cancelled_and_run(jobs: Sequence[JobRow], sequences: Mapping[int, Sequence[EventRow]]) -> int:
    both = {
        job_pk
        for job_pk, sequence in sequences.items()
        if (types := {event.type for event in sequence}) & RUN and JobEventType.CANCELLED in types
    }
    started = {job.pk for job in jobs if job.status is JobStatus.CANCELLED and job.started_at}
    return len(both | started)


def _lost(jobs: Sequence[JobRow], sequences: Mapping[int, Sequence[EventRow]]) -> int:
    expected = {job.pk: event_of(job.status) for job in jobs}

    def last_of(sequence: Sequence[EventRow]) -> JobEventType | None:
        """The type of the last event that changed the status (a move does not)."""
        types = [event.type for event in sequence if event.type is not JobEventType.MOVED]
        return types[-1] if types else None

    return sum(
        not sequence or last_of(sequence) is not expected.get(job_pk)
        for job_pk, sequence in sequences.items()
    )
