"""doctor: what is the matter with a set-up, and what to do."""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from importlib import metadata
from platform import python_version
from typing import Annotated

import typer
from packaging.requirements import Requirement
from sqlmodel import Session

from app import __version__, wiring
from app.cli.flags import option, told
from app.settings import Settings, WrongSettings, read, unknown_variables
from app.storage.admin import diagnosis
from app.storage.admin.diagnosis import NoDatabase
from app.storage.engine.database import UnusableDatabase
from app.storage.engine.sqlite import RESERVE_BYTES
from app.storage.migrations import newest_revision, revision_in, revisions

OLDEST_SQLITE = (3, 35)
"""The first that updates and deletes with RETURNING."""

OLDEST_POSTGRESQL = 15

FILE_CHECK_SECONDS = 5.0
"""How long a SQLite file may be read for faults: about 2 GB."""

LITTLE_DISK = 2**30
"""From here on down little of a disk is left."""

SKEW = timedelta(seconds=2)
LOST_FOR = timedelta(seconds=10)
"""How long after its lease ran out a job is lost: whoever runs the queue looks every second."""
WAITING_FOR = timedelta(minutes=1)
"""How long a job may wait in a store where none runs."""
LATE = timedelta(hours=1)
IDLE_SECONDS = 60
MUCH = 1_000
"""More things to sweep or to send than a runner that is alive leaves for long."""

LISTED = 5
"""Stores told of one kind."""


class Verdict(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it."""

    verdict: Verdict
    about: str
    said: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict.value:<8} {self.about:<11} {self.said}"
        return f"{line}\n{'':<20} -> {self.remedy}" if self.remedy else line


def doctor(database_url: Annotated[str | None, option("database_url")] = None) -> None:
    """Look for what is wrong with a set-up, and say what to do.

    It looks at the settings, as `serve` finds them in the environment, the database, the clocks,
    and the queue. It changes nothing, and ends with 1 if there is a problem. In brackets:
    environment variable, default.
    """
    given = {} if database_url is None else {"database_url": database_url}
    has_problem = False
    for finding in _findings(given):
        print(finding, flush=True)
        has_problem |= finding.verdict is Verdict.PROBLEM
    raise typer.Exit(1 if has_problem else 0)


def _findings(given: dict[str, str]) -> Iterator[Finding]:
    yield from _versions()
    for name, nearest in unknown_variables(os.environ):
        said = f"{name} is no setting."
        yield Finding(Verdict.WARNING, "settings", said, f"Is {nearest} meant?")
    settings: Settings | None = None
    try:
        settings = read(given, wiring.check)
        wiring.check(settings)
        yield Finding(Verdict.OK, "settings", "without a mistake")
    except WrongSettings as wrong:
        is_named = all("database_url" not in mistake.settings for mistake in wrong.mistakes)
        settings = (settings or wrong.usable) if is_named else None
        for mistake in wrong.mistakes:
            remedy = "Set it right: `jobs-gateway serve --help` lists all settings."
            yield Finding(Verdict.PROBLEM, "settings", told(mistake, given), remedy)
    if settings is not None:
        yield from _database(settings)


def _versions() -> Iterator[Finding]:
    yield Finding(Verdict.OK, "versions", f"jobs-gateway {__version__}, Python {python_version()}")
    for requirement in map(Requirement, metadata.requires("jobs-gateway") or ()):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = "none"
        if version == "none" or not requirement.specifier.contains(version, prereleases=True):
            yield Finding(
                Verdict.WARNING,
                "versions",
                f"{requirement.name} is {version}, and {requirement.specifier} was tested",
                "Install jobs-gateway anew, in an environment of its own.",
            )


def _database(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url
    try:
        with diagnosis.looking(url) as session:
            embedded = url.startswith("sqlite")
            yield from _sqlite(session) if embedded else _postgresql(session)
            migrated = yield from _migrations(session, embedded)
            yield from _clock(session)
            if migrated:
                yield from _queues(session)
                yield from _backlog(session, settings)
    except NoDatabase as error:
        yield Finding(
            Verdict.WARNING, "database", str(error), "`jobs-gateway serve` makes it when it starts."
        )
    except UnusableDatabase as error:
        yield Finding(
            Verdict.PROBLEM,
            "database",
            str(error),
            "See that DATABASE_URL names it, that it runs, and that this user may use it.",
        )


def _sqlite(session: Session) -> Iterator[Finding]:
    about = "database"
    file = diagnosis.file_info(session)
    version, oldest = (".".join(map(str, one)) for one in (file.version, OLDEST_SQLITE))
    yield Finding(Verdict.OK, about, f"SQLite {version}, {file.path}, {_size(file.bytes)}")
    if file.version < OLDEST_SQLITE:
        remedy = "Use a Python whose sqlite3 is built with a later SQLite."
        yield Finding(Verdict.PROBLEM, about, f"SQLite {oldest} or later is needed", remedy)
    if not file.has_log:
        yield Finding(
            Verdict.WARNING,
            about,
            "The file is not in WAL mode: readers and writers wait for each other.",
            "`jobs-gateway serve` sets it, unless the file system cannot share memory (NFS): "
            "then move the file.",
        )
    left = f"{_size(file.free_bytes)} left on its disk"
    if file.free_bytes >= LITTLE_DISK:
        yield Finding(Verdict.OK, "disk", left)
    else:
        full = file.free_bytes < RESERVE_BYTES
        remedy = "Make room there, or move the file: copies fail where there is none."
        yield Finding(Verdict.PROBLEM if full else Verdict.WARNING, "disk", left, remedy)
    faults = diagnosis.faults_in_file(session, FILE_CHECK_SECONDS)
    if faults is None:
        yield Finding(
            Verdict.OK,
            "integrity",
            f"not checked: it takes longer than {FILE_CHECK_SECONDS:g} s. "
            f"`sqlite3 {file.path} 'PRAGMA integrity_check'` does.",
        )
    elif faults:
        remedy = "Stop the gateway, keep a copy of the file, and restore the last backup."
        yield Finding(Verdict.PROBLEM, "integrity", "; ".join(faults), remedy)
    else:
        yield Finding(Verdict.OK, "integrity", "the file is whole")


def _postgresql(session: Session) -> Iterator[Finding]:
    about = "database"
    server = diagnosis.server_info(session)
    yield Finding(Verdict.OK, about, f"PostgreSQL {server.version}, {_size(server.bytes)}")
    if server.version < OLDEST_POSTGRESQL:
        said = f"PostgreSQL {OLDEST_POSTGRESQL} or later is needed"
        yield Finding(Verdict.PROBLEM, about, said, "Upgrade the server.")
    if server.is_standby:
        remedy = "Let DATABASE_URL name the primary."
        yield Finding(Verdict.PROBLEM, about, "The server is a standby: it only reads.", remedy)
    if not server.idle_limit:
        yield Finding(
            Verdict.WARNING,
            about,
            "Connections that stop inside a transaction are not ended, and keep jobs from running.",
            "A pooler drops what ours asks for: let it pass on `options`, or set "
            "idle_in_transaction_session_timeout = '5s' for the user.",
        )
    if server.longest_idle_seconds > IDLE_SECONDS:
        yield Finding(
            Verdict.WARNING,
            about,
            f"A connection has been idle inside a transaction for {server.longest_idle_seconds:.0f}"
            " s: it may hold locks that jobs wait for.",
            "Find it in pg_stat_activity, and end what forgot it.",
        )
    used = f"{server.connections} of {server.max_connections} connections are used"
    if server.connections > 0.8 * server.max_connections:
        remedy = "Raise max_connections, or run fewer processes: each takes up to 13."
        yield Finding(Verdict.WARNING, "connections", used, remedy)
    else:
        yield Finding(Verdict.OK, "connections", used)


def _migrations(session: Session, embedded: bool) -> Generator[Finding, None, bool]:
    revision, newest = revision_in(session), newest_revision()
    if revision == newest:
        yield Finding(Verdict.OK, "migrations", f"at revision {newest}, the newest")
        return True
    said = f"at revision {revision or 'none'}, and this version works with {newest}"
    if revision is None or revision in revisions():
        yield Finding(
            Verdict.WARNING if embedded else Verdict.PROBLEM,
            "migrations",
            said,
            "`jobs-gateway migrate` brings it there"
            + (", and so does whatever opens it next." if embedded else "."),
        )
    else:
        yield Finding(
            Verdict.PROBLEM,
            "migrations",
            said,
            "A later version has migrated it: install that one, or restore the backup from before.",
        )
    return False


def _clock(session: Session) -> Iterator[Finding]:
    skew = diagnosis.skew(session)
    way = "ahead of" if skew > timedelta(0) else "behind"
    said = f"the database's is {abs(skew.total_seconds()):.1f} s {way} this machine's"
    if abs(skew) > SKEW:
        remedy = (
            "Let both keep time (NTP): tokens and logs go by this machine's, jobs by the other."
        )
        yield Finding(Verdict.WARNING, "clock", said, remedy)
    else:
        yield Finding(Verdict.OK, "clock", said)


def _queues(session: Session) -> Iterator[Finding]:
    queues = diagnosis.queues(session, LOST_FOR, LISTED)
    at = queues.at
    if queues.last_created_at and queues.last_created_at > at + SKEW:
        yield Finding(
            Verdict.WARNING,
            "clock",
            f"The latest job was asked for {_span(queues.last_created_at - at)} from now: "
            "the clock was set back.",
            "Nothing is lost; times of jobs stand still until the clock has caught up.",
        )
    oldest = queues.oldest_pending_at
    age = f", the oldest for {_span(at - oldest)}" if oldest else ""
    late = oldest is not None and at - oldest > LATE
    said = f"{queues.running} stores run a job, {queues.pending} jobs wait{age}"
    yield Finding(
        Verdict.WARNING if late else Verdict.OK,
        "queue",
        said,
        "If what is told below is not why: more workers run more stores side by side."
        if late
        else "",
    )
    for lost in queues.lost:
        yield Finding(
            Verdict.PROBLEM,
            "queue",
            f"The job of store {lost.store!r} was lost {_span(at - lost.since)} ago, and nobody "
            "has taken it over.",
            "Start `jobs-gateway worker`, or `serve` without --no-runner, for that store.",
        )
    for waiting in queues.waiting:
        if at - waiting.since > WAITING_FOR:
            yield Finding(
                Verdict.WARNING if queues.running else Verdict.PROBLEM,
                "queue",
                f"{waiting.pending} jobs of store {waiting.store!r} wait, for "
                f"{_span(at - waiting.since)}, and nobody runs them.",
                "Start `jobs-gateway worker`, or `serve` without --no-runner; their "
                "JOBS_GATEWAY_STORES must be empty or name the store.",
            )
    for paused in queues.paused:
        yield Finding(
            Verdict.WARNING,
            "queue",
            f"The queue of store {paused.store!r} has been paused for {_span(at - paused.since)}; "
            f"{paused.pending} jobs wait.",
            "Resume it (resumeQueue) once its reason is gone.",
        )


def _backlog(session: Session, settings: Settings) -> Iterator[Finding]:
    # What is due now may be on its way out: a day later it should be gone.
    keep = timedelta(days=settings.retention_days + 1) if settings.retention_days else None
    left = diagnosis.backlog(session, keep)
    said = f"{left.hierarchies} hierarchies and {left.cut_nodes} nodes are to be swept"
    remedy = "Whoever runs the queue sweeps: see that it is alive, and that the disk is not full."
    if left.hierarchies + left.cut_nodes > MUCH or left.stores_with_old_events:
        said += f", and old events of {left.stores_with_old_events} stores"
        yield Finding(Verdict.WARNING, "sweeping", said, remedy)
    else:
        yield Finding(Verdict.OK, "sweeping", said)
    said = f"{left.deliveries} are due"
    if left.deliveries > MUCH or (left.deliveries and not settings.webhooks):
        yield Finding(
            Verdict.WARNING,
            "webhooks",
            said,
            "See that their receivers answer, and that whoever runs the queue has "
            "JOBS_GATEWAY_WEBHOOKS.",
        )
    elif settings.webhooks or left.deliveries:
        yield Finding(Verdict.OK, "webhooks", said)


def _span(time: timedelta) -> str:
    seconds = time.total_seconds()
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _size(bytes: int) -> str:
    return f"{bytes / 2**30:.1f} GiB" if bytes >= 2**30 else f"{bytes / 2**20:.1f} MiB"
