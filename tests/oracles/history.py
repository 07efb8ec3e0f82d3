"""The judge of a store's history: what its jobs and its event log say, held against the queue's
promises. Each promise has a figure of how often it was broken, and all figures are to be 0.

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
from sqlmodel import Session, col

from app.domain.events import JobEventType, event_of
from app.domain.jobs import JobStatus
from app.storage.engine.connect import connect
from app.storage.tables import Job, JobEvent, Lane
from tests import factories

CREATED = (JobEventType.CREATED, None)
STARTED = (JobEventType.STARTED, JobStatus.PENDING)
SUCCEEDED = (JobEventType.SUCCEEDED, JobStatus.STARTED)
FAILED = (JobEventType.FAILED, JobStatus.STARTED)
CANCELLED = (JobEventType.CANCELLED, JobStatus.PENDING)
MOVED = (JobEventType.MOVED, None)

STORIES = frozenset(
    {
        (CREATED,),
        (CREATED, STARTED),
        (CREATED, STARTED, SUCCEEDED),
        (CREATED, STARTED, FAILED),
        (CREATED, CANCELLED),
    }
)
"""The events a job may have had, each with the status before it: one of these, and no others but
any number of moves right behind the first."""

RUN = frozenset({JobEventType.STARTED, JobEventType.SUCCEEDED, JobEventType.FAILED})


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job, as far as it is judged."""

    pk: int
    job_seq: int
    status: JobStatus
    created_at: datetime
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event, as far as it is judged."""

    seq: int
    job_pk: int
    type: JobEventType
    previous_status: JobStatus | None


@dataclass(frozen=True, slots=True)
class LaneRow:
    """What the lane says of its jobs and events."""

    job_seq: int = 0
    event_seq: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Faults:
    """How often each promise was broken."""

    gaps: int
    """Numbers in 1..N that no event has or several have, and events beyond N."""
    both_started: int
    """Jobs that started while another one was started."""
    inversions: int
    """Jobs that started while another had the next turn, which is the one that was moved to the
    front last, else the one created first; or were created behind their successor."""
    cancelled_and_run: int
    """Jobs that were cancelled, and started or ended otherwise."""
    wrong_stories: int
    """Jobs whose events are none of STORIES: one that started twice, for instance."""
    lost: int
    """Jobs without events, events without a job, jobs whose status is not what the last event
    says, and numbers in 1..N that no job has."""
    clock_reversals: int
    """Jobs that look created before their predecessor."""
    miscounted: int
    """By how much the lane's number of pending jobs is wrong."""


@dataclass(frozen=True, slots=True)
class History:
    """A store's history, judged."""

    events: int
    statuses: Mapping[JobStatus, int]
    """How many jobs there are in each status, those with none left out."""
    found: Faults

    @property
    def faults(self) -> dict[str, int]:
        """The figures that are not 0, by name."""
        figures = {field.name: getattr(self.found, field.name) for field in fields(self.found)}
        return {name: number for name, number in figures.items() if number}

    @property
    def jobs(self) -> int:
        """How many jobs there are."""
        return sum(self.statuses.values())

    @property
    def unended(self) -> int:
        """How many jobs are pending or started."""
        return sum(number for status, number in self.statuses.items() if not status.is_final)

    def __str__(self) -> str:
        figures = (
            f"{field.name.replace('_', ' ')} {getattr(self.found, field.name)}"
            for field in fields(self.found)
        )
        return f"{self.jobs} jobs, {self.events} events: {', '.join(figures)}"


def history_of(database_url: str, store: str = factories.STORE) -> History:
    """The store's history as it stands, in one consistent picture."""
    with (
        closing(connect(database_url)) as database,
        Session(database.read_engine) as session,
    ):
        lane = session.execute(
            sa.select(col(Lane.job_seq), col(Lane.event_seq), col(Lane.pending)).where(
                col(Lane.store) == store
            )
        ).first()
        jobs = session.execute(
            sa.select(
                col(Job.pk),
                col(Job.job_seq),
                col(Job.status),
                col(Job.created_at),
                col(Job.started_at),
            ).where(col(Job.store) == store)
        )
        events = session.execute(
            sa.select(
                col(JobEvent.seq),
                col(JobEvent.job_pk),
                col(JobEvent.type),
                col(JobEvent.previous_status),
            ).where(col(JobEvent.store) == store)
        )
        return judged(
            [JobRow(*row) for row in jobs],
            [EventRow(*row) for row in events],
            LaneRow(*lane) if lane else LaneRow(),
        )


def judged(jobs: Iterable[JobRow], events: Iterable[EventRow], lane: LaneRow) -> History:
    """The history that these rows tell, in whatever order they come."""
    jobs = sorted(jobs, key=lambda job: job.job_seq)
    events = sorted(events, key=lambda event: event.seq)
    numbers = {job.pk: job.job_seq for job in jobs}
    stories: dict[int, list[EventRow]] = {job.pk: [] for job in jobs}
    for event in events:
        stories.setdefault(event.job_pk, []).append(event)
    statuses = Counter(job.status for job in jobs)
    return History(
        events=len(events),
        statuses=statuses,
        found=Faults(
            gaps=_apart([event.seq for event in events], lane.event_seq),
            both_started=_both_started(events),
            inversions=_inversions(events, numbers),
            cancelled_and_run=_cancelled_and_run(jobs, stories),
            wrong_stories=sum(
                not _may_be([(event.type, event.previous_status) for event in story])
                for story in stories.values()
            ),
            lost=_lost(jobs, stories) + _apart(list(numbers.values()), lane.job_seq),
            clock_reversals=sum(
                later.created_at < earlier.created_at for earlier, later in pairwise(jobs)
            ),
            miscounted=abs(lane.pending - statuses[JobStatus.PENDING]),
        ),
    )


def _apart(numbers: Sequence[int], last: int) -> int:
    """In how many places these are not exactly 1..last."""
    found, wanted = Counter(numbers), Counter(range(1, last + 1))
    return (found - wanted).total() + (wanted - found).total()


def _both_started(events: Sequence[EventRow]) -> int:
    running: set[int] = set()
    moments = 0
    for event in events:
        if event.type is JobEventType.STARTED:
            moments += bool(running)
            running.add(event.job_pk)
        elif event.type.is_last:
            running.discard(event.job_pk)
    return moments


def _may_be(story: Sequence[tuple[JobEventType, JobStatus | None]]) -> bool:
    rest = list(story)
    while rest[1:2] == [MOVED]:
        del rest[1]
    return tuple(rest) in STORIES


def _inversions(events: Sequence[EventRow], numbers: Mapping[int, int]) -> int:
    pending: dict[int, int] = {}
    newest = front = 0
    inversions = 0
    for event in events:
        if event.type is JobEventType.MOVED:
            front -= 1
            pending[event.job_pk] = front
            continue
        turn = pending.pop(event.job_pk, 0)
        if event.type is JobEventType.CREATED:
            number = pending[event.job_pk] = numbers.get(event.job_pk, 0)
            inversions += number < newest
            newest = max(newest, number)
        if event.type is JobEventType.STARTED:
            inversions += any(other < turn for other in pending.values())
    return inversions


def _cancelled_and_run(jobs: Sequence[JobRow], stories: Mapping[int, Sequence[EventRow]]) -> int:
    both = {
        job_pk
        for job_pk, story in stories.items()
        if (types := {event.type for event in story}) & RUN and JobEventType.CANCELLED in types
    }
    started = {job.pk for job in jobs if job.status is JobStatus.CANCELLED and job.started_at}
    return len(both | started)


def _lost(jobs: Sequence[JobRow], stories: Mapping[int, Sequence[EventRow]]) -> int:
    said = {job.pk: event_of(job.status) for job in jobs}

    def last_of(story: Sequence[EventRow]) -> JobEventType | None:
        """What it says of the status: a move says nothing."""
        types = [event.type for event in story if event.type is not JobEventType.MOVED]
        return types[-1] if types else None

    return sum(
        not story or last_of(story) is not said.get(job_pk) for job_pk, story in stories.items()
    )
