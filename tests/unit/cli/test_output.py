import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, cast

import pytest
from rich.console import Console

from app.cli.client.records import Difference, DuplicationDiff, Job, JobEvent, JobListing, JobQueue
from app.cli.output import (
    Lines,
    Terminal,
    ago,
    duration,
    output,
    plain_diff,
    plain_event,
    plain_job,
    plain_queue,
)
from app.cli.streams import json_line
from app.domain.display import printable

JOB_ID = "0b6f7f5e-4a3c-4f0e-9d55-1f2e3d4c5b6a"
SOURCE_ID = "5d0b5bd1-6d8e-4c2f-a1b2-000000000000"
RESULT_ID = "9c1e2f3a-7b8c-4d5e-8f90-000000000000"


def a_job(**changed: Any) -> Job:
    job: dict[str, Any] = {
        "id": JOB_ID,
        "type": "HIERARCHY_DUPLICATE",
        "status": "PENDING",
        "createdAt": "2024-01-11T22:49:10.338Z",
        "startedAt": None,
        "completedAt": None,
        "updatedAt": "2024-01-11T22:49:10.338Z",
        "requestId": "request-1",
        "requestedBy": None,
        "version": 1,
        "canCancel": True,
        "queuePosition": 2,
        "estimatedStartAt": None,
        "progress": None,
        "duplication": {
            "sourceId": SOURCE_ID,
            "source": {"id": SOURCE_ID, "name": "Pets"},
            "name": None,
            "description": None,
            "includeProducts": False,
            "result": None,
        },
        "errors": {"nodes": []},
    }
    return cast(Job, job | changed)


def an_event(kind: str, **changed: Any) -> JobEvent:
    event = {
        "cursor": "c1",
        "type": kind,
        "at": "2024-01-11T22:49:12.000Z",
        "previousStatus": None,
        "job": a_job(**changed),
    }
    return cast(JobEvent, event)


def progress(completed: int, total: int | None = 1000) -> JobEvent:
    return an_event(
        "PROGRESS",
        status="STARTED",
        startedAt="2024-01-11T22:49:11.000Z",
        queuePosition=None,
        progress={
            "completed": completed,
            "total": total,
            "ratio": None if total is None else completed / total,
            "estimatedCompletionAt": None,
        },
    )


def succeeded(name: str) -> JobEvent:
    duplication = a_job()["duplication"]
    assert duplication is not None
    return an_event(
        "SUCCEEDED",
        status="SUCCESS",
        startedAt="2024-01-11T22:49:11.000Z",
        completedAt="2024-01-11T22:49:12.000Z",
        queuePosition=None,
        progress={"completed": 12, "total": 12, "ratio": 1.0, "estimatedCompletionAt": None},
        duplication={
            **duplication,
            "result": {"id": RESULT_ID, "name": name, "nodeCount": 12},
        },
    )


def test_a_pending_job_is_one_plain_line_with_its_queue_position() -> None:
    assert plain_job(a_job()) == (
        f"{JOB_ID} PENDING HIERARCHY_DUPLICATE created=2024-01-11T22:49:10.338Z position=2"
        f" source={SOURCE_ID}"
    )


def test_a_job_of_another_type_has_no_source() -> None:
    line = plain_job(a_job(type="PRODUCT_IMPORT", duplication=None))
    assert line == (f"{JOB_ID} PENDING PRODUCT_IMPORT created=2024-01-11T22:49:10.338Z position=2")


def test_success_names_the_copy_and_counts_its_nodes() -> None:
    assert plain_event(succeeded("Copy of pets")) == (
        f"{JOB_ID} SUCCESS HIERARCHY_DUPLICATE event=SUCCEEDED at=2024-01-11T22:49:12.000Z"
        " started=2024-01-11T22:49:11.000Z completed=2024-01-11T22:49:12.000Z progress=12/12"
        f' source={SOURCE_ID} result={RESULT_ID} nodes=12 name="Copy of pets"'
    )


def test_a_failed_job_shows_its_error_on_the_same_line() -> None:
    errors = {"nodes": [{"id": "e", "code": "NOT_FOUND", "message": "The source\nis gone."}]}
    line = plain_event(an_event("FAILED", status="FAILED", queuePosition=None, errors=errors))
    assert line.endswith(' error="NOT_FOUND: The source is gone."')


def test_a_total_that_is_not_counted_yet_is_a_question_mark() -> None:
    assert " progress=7/? " in plain_event(progress(7, total=None))


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\u2028b", "a\u202eb", 'say "hi"', "a=b"])
def test_no_name_breaks_a_plain_line_or_controls_a_terminal(name: str) -> None:
    line = plain_event(succeeded(name))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert json.loads(line.partition(" name=")[2]) == printable(name)


def test_a_plain_line_has_neither_colour_nor_boxes() -> None:
    assert plain_event(succeeded("Copy")).isascii()


def test_json_is_the_unchanged_record_on_one_line() -> None:
    event = succeeded("Kopie\nfür Tiere")
    assert len(json_line(event).splitlines()) == 1
    assert json.loads(json_line(event)) == event
    assert json.loads(json_line(a_job())) == a_job()


@pytest.mark.usefixtures("capsys")
def test_lines_are_the_output_when_stdout_is_no_terminal() -> None:
    for as_json in (False, True):
        with output(json=as_json) as out:
            assert isinstance(out, Lines)


def test_plain_progress_is_one_line_for_each_whole_percent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines(json=False)
    for completed in range(1000):
        lines.event(progress(completed))
    assert len(capsys.readouterr().out.splitlines()) == 100


def test_json_keeps_every_step_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(json=True)
    for completed in range(20):
        lines.event(progress(completed))
    assert len(capsys.readouterr().out.splitlines()) == 20


def test_a_change_of_status_is_shown_at_any_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines(json=False)
    lines.event(progress(990))
    lines.event(succeeded("Copy"))
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        "STARTED",
        "SUCCESS",
    ]


class Screen:
    """A terminal of `width` columns and its visible lines."""

    def __init__(self, width: int = 80) -> None:
        self._file = StringIO()
        console = Console(file=self._file, width=width, force_terminal=True, color_system=None)
        self.terminal = Terminal(console)

    def lines(self) -> list[str]:
        """The visible lines after all updates."""
        self.terminal.close()
        return [line.rstrip() for line in self._file.getvalue().splitlines() if line.strip()]


def a_queue(reason: str | None = None) -> JobQueue:
    return {
        "pending": 1,
        "running": None,
        "oldestPendingAt": "2024-01-11T22:49:10.338Z",
        "cursor": "c0",
        "pause": {"at": "2024-01-11T22:50:00.000Z", "reason": reason, "by": None}
        if reason
        else None,
    }


def a_listing(*jobs: Job) -> JobListing:
    return JobListing(a_queue(), list(jobs))


def test_a_queue_is_one_line_of_words_and_its_reason_is_quoted() -> None:
    assert plain_queue(a_queue()) == "RUNNING pending=1"
    assert plain_queue(a_queue("new\nprices")) == (
        'PAUSED pending=1 since=2024-01-11T22:50:00.000Z reason="new prices"'
    )


def test_a_terminal_shows_why_a_queue_is_paused() -> None:
    screen = Screen(width=120)
    screen.terminal.queue(a_queue("new prices"))
    (line,) = screen.lines()
    assert line.endswith("none running. Paused 2024-01-11: new prices")


def test_a_difference_is_shown_by_its_path_and_its_aspects() -> None:
    changed: Difference = {
        "kind": "CHANGED",
        "path": ["Plants", "Trees"],
        "aspects": ["NAME", "SORT_ORDER"],
    }
    added: Difference = {"kind": "ONLY_IN_COPY", "path": ["Plants", "Moss\x1b[2J"], "aspects": []}
    diff: DuplicationDiff = {
        "onlyInSource": 0,
        "onlyInCopy": 1,
        "changed": 1,
        "differences": [changed, added],
    }
    assert list(plain_diff(diff)) == [
        "onlyInSource=0 onlyInCopy=1 changed=1",
        "CHANGED Plants > Trees (name, sort_order)",
        r"ONLY_IN_COPY Plants > Moss\x1b[2J",
    ]


def test_a_terminal_shows_the_queue_position_of_a_new_job() -> None:
    screen = Screen()
    screen.terminal.job(a_job())
    screen.terminal.job(a_job(status="CANCELLED", queuePosition=None))
    assert screen.lines() == [
        f"Job {JOB_ID} is PENDING, position 2.",
        f"Job {JOB_ID} is CANCELLED.",
    ]


def test_a_terminal_shows_the_outcome_of_a_watched_job() -> None:
    screen = Screen()
    screen.terminal.update(succeeded("Copy of pets"))
    assert screen.lines() == ["Copied 12 nodes to Copy of pets in 1.0 s", RESULT_ID]


def test_a_wide_terminal_has_each_job_on_one_line_and_a_narrow_one_on_two() -> None:
    for width, lines in ((120, 3), (80, 4)):
        screen = Screen(width)
        screen.terminal.jobs(a_listing(a_job()), limit=1)
        shown = screen.lines()
        assert len(shown) == lines
        assert shown[1].startswith(f"{JOB_ID}  PENDING")
        assert "Pets" in "".join(shown)
        assert shown[-1].startswith("The newest 1 (--limit). 1 pending, the oldest 2024-01-")


def test_a_terminal_shows_each_change_of_status_and_the_error_of_a_failed_job() -> None:
    screen = Screen(width=160)
    errors = {"nodes": [{"id": "e", "code": "NOT_FOUND", "message": "The source\nis gone."}]}
    screen.terminal.event(an_event("CREATED"))
    screen.terminal.event(an_event("FAILED", status="FAILED", queuePosition=None, errors=errors))
    created, failed = screen.lines()
    assert created.endswith(f"  {JOB_ID}  PENDING    position 2  Pets")
    assert failed.endswith(f"  {JOB_ID}  FAILED     Pets  The source is gone.")


def test_a_terminal_removes_its_progress_bar_at_the_end() -> None:
    screen = Screen()
    screen.terminal.update(progress(250))
    screen.terminal.update(succeeded("Copy"))
    shown = "".join(screen.lines())
    assert "Running" in shown
    assert "250/1,000  25%" in shown
    assert shown.endswith(f"\x1b[2KCopied 12 nodes to Copy in 1.0 s{RESULT_ID}")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0 s"), (0.42, "0.4 s"), (12.3, "12 s"), (59.7, "1m 00s"), (3725, "1h 02m")],
)
def test_a_duration_has_a_readable_precision(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_time_is_shown_by_its_age() -> None:
    now = datetime(2024, 1, 11, 22, 49, tzinfo=UTC)
    assert ago(now + timedelta(seconds=3), now) == "just now"
    assert ago(now - timedelta(seconds=42), now) == "42s ago"
    assert ago(now - timedelta(minutes=59, seconds=59), now) == "59m ago"
    assert ago(now - timedelta(hours=23), now) == "23h ago"
    nine_days_ago = now - timedelta(days=9)
    assert ago(nine_days_ago, now) == f"{nine_days_ago.astimezone():%Y-%m-%d}"
