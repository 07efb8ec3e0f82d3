"""Output of jobs and events: tables and a progress bar on a terminal, else one line each."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol, TypeVar, cast

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from app.cli.client.records import DuplicationDiff, Job, JobEvent, JobListing, JobQueue
from app.cli.streams import is_terminal, print_json, print_line
from app.domain.display import printable
from app.domain.jobs import JobStatus

R = TypeVar("R")

FINAL = frozenset(status.name for status in JobStatus if status.is_final)

_BARE_WORD = re.compile(r"[^\s\"=\\]+")
_STYLES = {
    "PENDING": "yellow",
    "STARTED": "cyan",
    "SUCCESS": "green",
    "FAILED": "red",
    "CANCELLED": "dim",
}


def plain_job(job: Job) -> str:
    """Return `ID STATUS TYPE key=value ...`, without empty values; text may be quoted."""
    return _plain(job, {"created": job["createdAt"]})


def plain_event(event: JobEvent) -> str:
    """Return the job at an event, in the format of plain_job."""
    return _plain(event["job"], {"event": event["type"], "at": event["at"]})


def plain_queue(queue: JobQueue) -> str:
    """Return `PAUSED` or `RUNNING`, then `key=value ...`, without empty values."""
    pause = queue["pause"]
    fields = {
        "pending": str(queue["pending"]),
        "job": queue["running"]["id"] if queue["running"] else None,
        "since": pause["at"] if pause else None,
        "reason": pause["reason"] if pause else None,
        "by": pause["by"] if pause else None,
    }
    words = [f"{key}={_word(value)}" for key, value in fields.items() if value is not None]
    return " ".join(["PAUSED" if pause else "RUNNING", *words])


def plain_diff(diff: DuplicationDiff) -> Iterator[str]:
    """Yield a line of counts, then a line `KIND path (aspects)` per difference."""
    yield (
        f"onlyInSource={diff['onlyInSource']} onlyInCopy={diff['onlyInCopy']} "
        f"changed={diff['changed']}"
    )
    for difference in diff["differences"]:
        path = printable(" > ".join(difference["path"]))
        aspects = ", ".join(difference["aspects"]).lower()
        yield f"{difference['kind']} {path}" + (f" ({aspects})" if aspects else "")


def _plain(job: Job, times: dict[str, str]) -> str:
    fields: dict[str, str | int | None] = {
        **times,
        "started": job["startedAt"],
        "completed": job["completedAt"],
        "position": job["queuePosition"],
    }
    if progress := job["progress"]:
        total = "?" if progress["total"] is None else progress["total"]
        fields["progress"] = f"{progress['completed']}/{total}"
        if job["status"] == "STARTED":
            fields["estimated_completion"] = progress["estimatedCompletionAt"]
    if duplication := job["duplication"]:
        fields["source"] = duplication["sourceId"]
        if result := duplication["result"]:
            fields["result"] = result["id"]
            fields["nodes"] = result["nodeCount"]
        fields["name"] = result["name"] if result else duplication["name"]
    if errors := job["errors"]["nodes"]:
        fields["error"] = "; ".join(f"{error['code']}: {error['message']}" for error in errors)
    words = [f"{key}={_word(str(value))}" for key, value in fields.items() if value is not None]
    return " ".join([job["id"], job["status"], job["type"], *words])


def _word(value: str) -> str:
    value = printable(value)
    return value if _BARE_WORD.fullmatch(value) else orjson.dumps(value).decode()


def duration(seconds: float) -> str:
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole // 60 % 60:02}m"


def ago(then: datetime, now: datetime) -> str:
    """Return the elapsed time if less than a day, else the local date."""
    seconds = (now - then).total_seconds()
    if seconds < 1:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f}s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f}h ago"
    return f"{then.astimezone():%Y-%m-%d}"


class Output(Protocol):
    """Prints records to standard output."""

    def job(self, job: Job) -> None:
        """Print the job of a mutation."""

    def jobs(self, listing: JobListing, limit: int) -> None:
        """Print a listing of at most `limit` jobs."""

    def queue(self, queue: JobQueue) -> None:
        """Print the queue of a mutation."""

    def diff(self, diff: DuplicationDiff) -> None:
        """Print the differences between two trees."""

    def update(self, event: JobEvent) -> None:
        """Print an event of the one watched job."""

    def event(self, event: JobEvent) -> None:
        """Print an event of any job of the store."""


@contextmanager
def output(*, json: bool) -> Iterator[Output]:
    """Return a Terminal if standard output is one, else Lines."""
    console = Console(highlight=False)
    if json or not is_terminal(sys.stdout) or console.is_dumb_terminal:
        yield Lines(json=json)
        return
    terminal = Terminal(console)
    try:
        yield terminal
    finally:
        terminal.close()


class Lines:
    """One record per line: JSON as received, or plain text.

    Plain text has at most one PROGRESS line per percent.
    """

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._progress: tuple[str, int] | None = None

    def job(self, job: Job) -> None:
        print_json(job) if self._json else print_line(plain_job(job))

    def jobs(self, listing: JobListing, limit: int) -> None:
        for job in listing.jobs:
            self.job(job)

    def queue(self, queue: JobQueue) -> None:
        print_json(queue) if self._json else print_line(plain_queue(queue))

    def diff(self, diff: DuplicationDiff) -> None:
        if self._json:
            print_json(diff)
            return
        for line in plain_diff(diff):
            print_line(line)

    def update(self, event: JobEvent) -> None:
        self.event(event)

    def event(self, event: JobEvent) -> None:
        if self._json:
            print_json(event)
            return
        progress = event["job"]["id"], _percent(event["job"])
        if event["type"] != "PROGRESS" or progress != self._progress:
            print_line(plain_event(event))
        self._progress = progress


def _escaped(record: R) -> R:
    """Return a record for a terminal: each text in it is printable."""
    match record:
        case str():
            return cast(R, printable(record))
        case dict():
            return cast(R, {key: _escaped(value) for key, value in record.items()})
        case list():
            return cast(R, [_escaped(item) for item in record])
    return record


class Terminal:
    """Tables, and a progress bar for the watched or running job."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[done]}", markup=False),
            TextColumn("{task.fields[eta]}", style="dim", markup=False),
            console=console,
            transient=True,
            # Otherwise rich prints to the terminal what belongs into a redirected stderr.
            redirect_stderr=is_terminal(sys.stderr),
        )
        self._task = self._bar.add_task("", done="", eta="")

    def close(self) -> None:
        """Stop the progress bar."""
        self._bar.stop()

    def job(self, job: Job) -> None:
        job = _escaped(job)
        line = Text.assemble(f"Job {job['id']} is ", _status(job))
        if job["queuePosition"]:
            line.append(f", position {job['queuePosition']}")
        if start := job["estimatedStartAt"]:
            line.append(f", due {_clock(start)}")
        self._console.print(line.append("."))

    def jobs(self, listing: JobListing, limit: int) -> None:
        if not listing.jobs:
            return
        listing = JobListing(_escaped(listing.queue), _escaped(listing.jobs))
        now = datetime.now(UTC)
        # Ids are never cut, since users copy them; a narrow terminal shows the description of a job
        # below its id.
        is_wide = self._console.width >= 110
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
        table.add_column("Job", min_width=36, overflow="fold")
        table.add_column("Status", no_wrap=True)
        table.add_column("Created", no_wrap=True)
        table.add_column("Took", no_wrap=True, justify="right")
        table.add_column("Progress", no_wrap=True, justify="right")
        if is_wide:
            table.add_column("About", overflow="fold")
        for job in listing.jobs:
            created = Text(ago(_instant(job["createdAt"]), now))
            cells = _status(job), created, _took(job, now), _progress(job)
            if is_wide:
                table.add_row(job["id"], *cells, _description(job))
            else:
                id = Text.assemble(job["id"], "\n", _description(job), overflow="fold")
                table.add_row(id, *cells)
        self._console.print(table)
        limited = f"The newest {limit:,} (--limit). " if len(listing.jobs) == limit else ""
        self._console.print(Text(limited + _queue_summary(listing.queue, now), "dim"))

    def queue(self, queue: JobQueue) -> None:
        self._console.print(Text(_queue_summary(_escaped(queue), datetime.now(UTC))))

    def diff(self, diff: DuplicationDiff) -> None:
        for line in plain_diff(diff):
            self._console.print(Text(line))

    def update(self, event: JobEvent) -> None:
        event = _escaped(event)
        job = event["job"]
        if event["type"] == "SNAPSHOT":
            self.job(job)
        if job["status"] not in FINAL:
            self._show_bar(event)
            return
        self._bar.stop()
        result = job["duplication"] and job["duplication"]["result"]
        if job["status"] == "SUCCESS" and result:
            nodes = result["nodeCount"]
            line = Text.assemble(
                ("Copied ", "green"),
                f"{nodes:,} node{'' if nodes == 1 else 's'} to ",
                (result["name"], "bold"),
                " in ",
                _took(job, _instant(event["at"])),
                f"\n{result['id']}",
            )
            self._console.print(line)

    def event(self, event: JobEvent) -> None:
        event = _escaped(event)
        job = event["job"]
        if event["type"] != "PROGRESS":
            words = [
                Text(_clock(event["at"]), "dim"),
                Text(job["id"]),
                Text(f"{job['status']:9}", _STYLES.get(job["status"], "")),
                _took(job, _instant(event["at"])) if job["status"] in FINAL else _progress(job),
                _description(job),
                *(Text(error["message"], "red") for error in job["errors"]["nodes"]),
            ]
            self._console.print(Text("  ").join(word for word in words if word))
        if job["status"] == "STARTED":
            self._show_bar(event)
        elif job["status"] in FINAL:
            self._bar.update(self._task, visible=False)

    def _show_bar(self, event: JobEvent) -> None:
        job = event["job"]
        progress = job["progress"]
        completed, total, done, eta = 0, 1, "", ""
        if progress and progress["total"]:
            completed, total = progress["completed"], progress["total"]
            done = f"{completed:,}/{total:,}  {_percent(job)}%"
        if progress and (end := progress["estimatedCompletionAt"]):
            # Both times are the server's: its clock may differ from this machine's.
            left = _instant(end) - _instant(event["at"])
            eta = f"{duration(left.total_seconds())} left"
        self._bar.update(
            self._task,
            description="Waiting" if job["status"] == "PENDING" else "Running",
            completed=completed,
            total=total,
            done=done,
            eta=eta,
            visible=True,
        )
        self._bar.start()


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _clock(instant: str) -> str:
    return f"{_instant(instant).astimezone():%H:%M:%S}"


def _status(job: Job) -> Text:
    return Text(job["status"], _STYLES.get(job["status"], ""))


def _percent(job: Job) -> int:
    progress = job["progress"]
    return int(100 * progress["ratio"]) if progress and progress["ratio"] else 0


def _took(job: Job, now: datetime) -> Text:
    if job["startedAt"] is None:
        return Text()
    end = _instant(job["completedAt"]) if job["completedAt"] else now
    return Text(duration((end - _instant(job["startedAt"])).total_seconds()))


def _progress(job: Job) -> Text:
    """Return a pending job's position, else the progress."""
    match job["status"]:
        case "PENDING":
            # None if the job has started in the meantime.
            return Text(f"position {job['queuePosition'] or 1}")
        case "STARTED" | "FAILED":
            return Text(f"{_percent(job)}%" if job["progress"] and job["progress"]["total"] else "")
    return Text(f"{job['progress']['completed']:,}" if job["progress"] else "")


def _description(job: Job) -> Text:
    """Return source and copy of a duplication, else the job's type."""
    duplication = job["duplication"]
    if duplication is None:
        return Text(job["type"].lower().replace("_", " "))
    source, result = duplication["source"], duplication["result"]
    text = Text(source["name"] if source else duplication["sourceId"])
    if result:
        text.append(f" → {result['name']}")
    elif name := duplication["name"]:
        text.append(" → ").append(name, "dim")
    return text


def _queue_summary(queue: JobQueue, now: datetime) -> str:
    pending = f"{queue['pending']:,} pending" if queue["pending"] else "None pending"
    if oldest := queue["oldestPendingAt"]:
        pending += f", the oldest {ago(_instant(oldest), now)}"
    summary = f"{pending}, {'one' if queue['running'] else 'none'} running."
    if pause := queue["pause"]:
        summary += f" Paused {ago(_instant(pause['at']), now)}"
        summary += f": {pause['reason']}" if pause["reason"] else "."
    return summary
