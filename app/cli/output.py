"""How jobs and their events are shown: to a person at a terminal, or to a program line by line."""

import re
import sys
from collections.abc import AsyncIterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from app.cli.client import FINAL, HierarchyRef, Job, JobEvent, JobQueue

# What could move the cursor, break a line or reorder what follows it.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_BARE_WORD = re.compile(r"[^\s\"=\\]+")
_STYLES = {
    "PENDING": "yellow",
    "STARTED": "cyan",
    "SUCCESS": "green",
    "FAILED": "red",
    "CANCELLED": "dim",
}


def printable(text: str) -> str:
    """The text on one line, unable to steer a terminal."""
    return _UNPRINTABLE.sub(" ", text)


def json_line(record: Job | JobEvent) -> str:
    """The record as the gateway sent it."""
    return orjson.dumps(record).decode()


def plain_job(job: Job) -> str:
    """`ID STATUS TYPE key=value ...`; a key without a value is left out, text may be quoted."""
    return _plain(job, {"created": job["createdAt"]})


def plain_event(event: JobEvent) -> str:
    """Like plain_job, of the job as of the event."""
    return _plain(event["job"], {"event": event["type"], "at": event["at"]})


def _plain(job: Job, when: dict[str, str]) -> str:
    fields: dict[str, str | int | None] = {
        **when,
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
            fields["nodes"] = result.get("nodeCount")
        fields["name"] = result["name"] if result else duplication["name"]
    if "errors" in job and job["errors"]["nodes"]:
        fields["error"] = "; ".join(f"{e['code']}: {e['message']}" for e in job["errors"]["nodes"])
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
    """Within a day how long ago, before that the local date."""
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
    """A place to show jobs. Leaving it, also by an exception, tidies a terminal up."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def job(self, job: Job, *, headline: str) -> None:
        """One job that something was just done to; the headline is for people."""

    async def jobs(self, jobs: AsyncIterable[Job]) -> None: ...

    def update(self, event: JobEvent) -> None:
        """A change of the one job that is watched."""

    def event(self, event: JobEvent) -> None:
        """A change of any job of the store."""


def output(*, json: bool) -> Output:
    if json:
        return Lines(json=True)
    console = Console(highlight=False)
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        return Terminal(console)
    return Lines(json=False)


class Lines:
    """One record a line: JSON as it was sent, or plain text.

    Plain text thins PROGRESS out to one line for each whole percent.
    """

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._percent: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def job(self, job: Job, *, headline: str) -> None:
        self._write(json_line(job) if self._json else plain_job(job))

    async def jobs(self, jobs: AsyncIterable[Job]) -> None:
        async for job in jobs:
            self._write(json_line(job) if self._json else plain_job(job))

    def update(self, event: JobEvent) -> None:
        self.event(event)

    def event(self, event: JobEvent) -> None:
        if self._json:
            self._write(json_line(event))
        elif not self._is_small_step(event):
            self._write(plain_event(event))

    def _is_small_step(self, event: JobEvent) -> bool:
        job = event["job"]
        if event["type"] != "PROGRESS":
            self._percent.pop(job["id"], None)
            return False
        ratio = job["progress"] and job["progress"]["ratio"]
        percent = int(100 * (ratio or 0))
        before = self._percent.get(job["id"], -1)
        self._percent[job["id"]] = percent
        return percent <= before

    def _write(self, line: str) -> None:
        # Flushed, so that a pipe sees a change when it happens.
        print(line, flush=True)


class Terminal:
    """Tables, and one bar at the bottom for the job that runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[done]}", markup=False),
            TextColumn("{task.fields[eta]}", style="dim", markup=False),
            console=console,
            transient=True,
            # Else what belongs into a redirected stderr would land on the terminal.
            redirect_stderr=sys.stderr.isatty(),
        )
        self._bar = self._progress.add_task("", total=None, visible=False, done="", eta="")
        self._shown: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def job(self, job: Job, *, headline: str) -> None:
        self._console.print(Text(headline), soft_wrap=True)

    async def jobs(self, jobs: AsyncIterable[Job]) -> None:
        rows = [job async for job in jobs]
        if not rows:
            return
        now = datetime.now(UTC)
        # Ids are there to be copied, so they are never cut: a narrow terminal shows what a job is
        # about below its id.
        is_wide = self._console.width >= 140
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
        table.add_column("Job", min_width=36, overflow="fold")
        for heading in ("Status", "Created"):
            table.add_column(heading, no_wrap=True)
        for heading in ("Took", "Progress"):
            table.add_column(heading, no_wrap=True, justify="right")
        if is_wide:
            table.add_column("Type", no_wrap=True)
            table.add_column("Source → result", overflow="fold")
        for job in rows:
            about = _copying(job)
            table.add_row(
                Text(job["id"])
                if is_wide
                else Text.assemble(job["id"], "\n", about or _type(job), overflow="fold"),
                _status(job),
                ago(_instant(job["createdAt"]), now),
                _took(job, now),
                _standing(job),
                *((_type(job), about) if is_wide else ()),
            )
        self._console.print(table)

    def queue(self, queue: JobQueue, *, cut_at: int | None) -> None:
        """The line below a list; cut_at is where the list ends though there may be more."""
        text = "" if cut_at is None else f"The newest {cut_at:,} (--limit). "
        text += f"{queue['pending']:,} pending" if queue["pending"] else "None pending"
        if queue["oldestPendingAt"]:
            text += f", the oldest {ago(_instant(queue['oldestPendingAt']), datetime.now(UTC))}"
        text += ", one running" if queue["running"] else ", none running"
        self._console.print(Text(f"{text}.", style="dim"))

    def update(self, event: JobEvent) -> None:
        job = event["job"]
        if job["status"] not in FINAL:
            self._show_bar(event)
            return
        self._progress.stop()
        if job["status"] != "SUCCESS":
            return
        result = job["duplication"] and job["duplication"]["result"]
        took = _took(job, datetime.now(UTC)).plain
        if result is None:
            self._console.print(f"Done in {took}.")
            return
        line = Text.assemble(
            ("Copied", "green"), f" in {took} to ", (printable(result["name"]), "bold")
        )
        line.append(f"\n{result['id']}")
        if (nodes := result.get("nodeCount")) is not None:
            line.append(f"  {nodes:,} node{'' if nodes == 1 else 's'}")
        self._console.print(line, soft_wrap=True)

    def event(self, event: JobEvent) -> None:
        job = event["job"]
        if job["status"] == "STARTED":
            self._show_bar(event)
        elif self._shown == job["id"]:
            self._progress.update(self._bar, visible=False)
            self._shown = None
        if event["type"] == "PROGRESS":
            return
        line = Text.assemble(
            (f"{_instant(event['at']).astimezone():%H:%M:%S}", "dim"),
            f"  {job['id']}  ",
            (f"{job['status']:9}", _STYLES.get(job["status"], "")),
        )
        details: list[Text] = []
        if job["status"] in FINAL and job["startedAt"]:
            details.append(Text.assemble("in ", _took(job, datetime.now(UTC))))
        elif job["queuePosition"]:
            details.append(_standing(job))
        details.append(_copying(job) or _type(job))
        if "errors" in job:
            details += [Text(printable(e["message"]), "red") for e in job["errors"]["nodes"]]
        for detail in filter(None, details):
            line.append("  ").append_text(detail)
        self._console.print(line, soft_wrap=True)

    def _show_bar(self, event: JobEvent) -> None:
        job = event["job"]
        # Both instants are the server's, so its clock need not agree with ours.
        at = _instant(event["at"])
        completed, total, done, eta = 0, None, "", ""
        if job["status"] == "PENDING":
            position = job["queuePosition"]
            text = f"Waiting, position {position}" if position else "Waiting"
            if start := job["estimatedStartAt"]:
                eta = f"starts in about {duration((_instant(start) - at).total_seconds())}"
        else:
            text = "Running" if job["duplication"] is None else "Copying"
            if progress := job["progress"]:
                completed, total = progress["completed"], progress["total"]
                done = f"{completed:,}" if total is None else f"{completed:,}/{total:,}"
                if progress["ratio"] is not None:
                    done += f"  {progress['ratio']:.0%}"
                if end := progress["estimatedCompletionAt"]:
                    eta = f"{duration((_instant(end) - at).total_seconds())} left"
        self._shown = job["id"]
        # None means "leave it" to Progress.update; only a reset can make a bar pulse again.
        if total is None:
            self._progress.reset(self._bar, total=None, visible=True)
        self._progress.update(
            self._bar,
            description=text,
            completed=completed,
            total=total,
            done=done,
            eta=eta,
            visible=True,
        )
        self._progress.start()


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _type(job: Job) -> Text:
    return Text(job["type"].lower().replace("_", " "))


def _status(job: Job) -> Text:
    return Text(job["status"], _STYLES.get(job["status"], ""))


def _took(job: Job, now: datetime) -> Text:
    if job["startedAt"] is None:
        return Text()
    end = _instant(job["completedAt"]) if job["completedAt"] else now
    return Text(duration((end - _instant(job["startedAt"])).total_seconds()))


def _standing(job: Job) -> Text:
    """How far a job that runs has come, or where it waits."""
    if job["queuePosition"] is not None:
        return Text(f"position {job['queuePosition']}")
    progress = job["progress"]
    if progress is None or job["status"] in ("PENDING", "CANCELLED"):
        return Text()
    if job["status"] != "SUCCESS" and progress["ratio"] is not None:
        return Text(f"{progress['ratio']:.0%}")
    return Text(f"{progress['completed']:,}")


def _copying(job: Job) -> Text:
    duplication = job["duplication"]
    if duplication is None:
        return Text()

    def called(hierarchy: HierarchyRef | None) -> str | None:
        return printable(hierarchy["name"]) if hierarchy else None

    source = called(duplication["source"]) or duplication["sourceId"]
    result = called(duplication["result"]) or printable(duplication["name"] or "")
    style = "" if duplication["result"] else "dim"
    return Text.assemble(source, *((" → ", (result, style)) if result else ()))
