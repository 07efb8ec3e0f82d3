"""doctor: check a set-up, and suggest remedies."""

import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from importlib import metadata
from platform import python_version
from typing import Annotated

import typer
from packaging.requirements import Requirement

from app import __version__, wiring
from app.api.auth.registered_clients import UnusableClients, is_open_to_others, read_clients
from app.cli.flags import mistake_line, option, unknown_variable_line
from app.cli.streams import print_line
from app.settings import Settings, WrongSettings, read, unknown_variables
from app.storage.admin import backlog, diagnosis
from app.storage.admin.diagnosis import NoDatabase
from app.storage.engine.database import UnusableDatabase
from app.storage.engine.pooler import Pooling
from app.storage.engine.sqlite import RESERVE_BYTES
from app.storage.engine.transaction import Transaction
from app.storage.migrations import NEWER_REMEDY, newest_revision, revision_in, revisions

MIN_SQLITE_VERSION = (3, 35)
"""The first with UPDATE and DELETE ... RETURNING."""

MIN_POSTGRESQL_VERSION = 15

FILE_CHECK_SECONDS = 5.0
"""Max time of the integrity check of a SQLite file: enough for about 2 GB."""

MIN_FREE_BYTES = 2**30

MAX_SKEW = timedelta(seconds=2)
LOST_AFTER = timedelta(seconds=10)
"""Time from the expiry of a job's lease until it counts as lost. Workers check every second."""
MAX_WAIT = timedelta(minutes=1)
"""Max wait of a pending job in a store where no job runs."""
MAX_QUEUE_AGE = timedelta(hours=1)
MAX_IDLE_SECONDS = 60
MAX_BACKLOG = 1_000
"""Max rows to sweep, and max deliveries to send. A working queue soon leaves fewer."""

MAX_STORES_LISTED = 5
"""Max stores listed per kind of finding."""


class Verdict(Enum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, and its remedy if it needs one."""

    verdict: Verdict
    about: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict.value:<8} {self.about:<11} {self.text}"
        return f"{line}\n{'':<20} -> {self.remedy}" if self.remedy else line


def doctor(database_url: Annotated[str | None, option("database_url")] = None) -> None:
    """Check a set-up, and suggest remedies for its problems.

    Checks the settings in the environment (those of `serve`), the database, the clocks and the
    queue. It changes nothing, and exits with 1 if there is a problem. In brackets: environment
    variable, default.
    """
    flags = {} if database_url is None else {"database_url": database_url}
    has_problem = False
    for finding in _findings(flags):
        print_line(str(finding))
        has_problem |= finding.verdict is Verdict.PROBLEM
    raise typer.Exit(1 if has_problem else 0)


def _findings(flags: dict[str, str]) -> Iterator[Finding]:
    yield from _versions()
    for name, nearest in unknown_variables(os.environ):
        yield Finding(Verdict.WARNING, "settings", unknown_variable_line(name, nearest))
    settings: Settings | None = None
    try:
        settings = read(flags, wiring.check)
        wiring.check(settings)
        yield Finding(Verdict.OK, "settings", "no mistakes")
    except WrongSettings as wrong:
        url_is_valid = all("database_url" not in mistake.settings for mistake in wrong.mistakes)
        settings = (settings or wrong.usable) if url_is_valid else None
        for mistake in wrong.mistakes:
            remedy = "Correct it: `jobs-gateway serve --help` lists all settings."
            text = mistake_line(mistake, flags)
            yield Finding(Verdict.PROBLEM, "settings", text, remedy)
    if settings is not None:
        yield from _clients(settings)
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
                f"{requirement.name} is {version}; tested with {requirement.specifier}",
                "Install jobs-gateway again, in its own environment.",
            )


def _clients(settings: Settings) -> Iterator[Finding]:
    path = settings.clients
    if path is None:
        return
    # An unusable list is a mistake in the settings, which is reported as such.
    with suppress(UnusableClients):
        about, number = "clients", len(read_clients(path))
        if is_open_to_others(path):
            text = f"other users of this machine can read or change {path}"
            yield Finding(Verdict.WARNING, about, text, f"Run `chmod 600 {path}`.")
        else:
            yield Finding(Verdict.OK, about, f"{number} may log in")


def _database(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url
    try:
        with diagnosis.read_only_transaction(url) as tx:
            is_sqlite = url.startswith("sqlite")
            yield from _sqlite(tx) if is_sqlite else _postgresql(tx)
            if not is_sqlite:
                yield from _pooler(settings)
            migrated = yield from _migrations(tx, is_sqlite)
            yield from _clock(tx)
            if migrated:
                yield from _queues(tx)
                yield from _backlog(tx, settings)
    except NoDatabase as error:
        yield Finding(
            Verdict.WARNING, "database", str(error), "`jobs-gateway serve` creates it at start."
        )
    except UnusableDatabase as error:
        yield Finding(
            Verdict.PROBLEM,
            "database",
            str(error),
            "Check DATABASE_URL, that the server runs, and that this user has access.",
        )


def _sqlite(tx: Transaction) -> Iterator[Finding]:
    about = "database"
    file = diagnosis.file_info(tx)
    version, oldest = (".".join(map(str, parts)) for parts in (file.version, MIN_SQLITE_VERSION))
    yield Finding(Verdict.OK, about, f"SQLite {version}, {file.path}, {_size(file.bytes)}")
    if file.version < MIN_SQLITE_VERSION:
        remedy = "Use a Python whose sqlite3 is built with a later SQLite."
        yield Finding(Verdict.PROBLEM, about, f"SQLite {oldest} or later is needed", remedy)
    if not file.uses_wal:
        yield Finding(
            Verdict.WARNING,
            about,
            "The file is not in WAL mode: readers and writers wait for each other.",
            "`jobs-gateway serve` sets it. If the file system cannot share memory (NFS), move the "
            "file.",
        )
    if file.open_to_others:
        names = " ".join(map(str, file.open_to_others))
        text = f"other users of this machine can read {names}"
        yield Finding(Verdict.WARNING, "files", text, f"Run `chmod 600 {names}`.")
    if file.links > 1:
        yield Finding(
            Verdict.WARNING,
            "files",
            f"The file has {file.links} names (hard links), and a log per name: a process that "
            "opens another name damages it.",
            f"Find the others with `find / -samefile {file.path}`, and copy instead of linking.",
        )
    free = f"{_size(file.free_bytes)} free on the file's disk"
    if file.free_bytes >= MIN_FREE_BYTES:
        yield Finding(Verdict.OK, "disk", free)
    else:
        full = file.free_bytes < RESERVE_BYTES
        remedy = "Free space, or move the file: copies fail on a full disk."
        yield Finding(Verdict.PROBLEM if full else Verdict.WARNING, "disk", free, remedy)
    faults = diagnosis.file_faults(tx, FILE_CHECK_SECONDS)
    if faults is None:
        yield Finding(
            Verdict.OK,
            "integrity",
            f"not checked, as it takes longer than {FILE_CHECK_SECONDS:g} s: run "
            f"`sqlite3 {file.path} 'PRAGMA integrity_check'`",
        )
    elif faults:
        remedy = "Stop the gateway, save a copy of the file, and restore the last backup."
        yield Finding(Verdict.PROBLEM, "integrity", "; ".join(faults), remedy)
    else:
        yield Finding(Verdict.OK, "integrity", "the file is intact")


def _postgresql(tx: Transaction) -> Iterator[Finding]:
    about = "database"
    server = diagnosis.server_info(tx)
    yield Finding(Verdict.OK, about, f"PostgreSQL {server.version}, {_size(server.bytes)}")
    if server.version < MIN_POSTGRESQL_VERSION:
        text = f"PostgreSQL {MIN_POSTGRESQL_VERSION} or later is needed"
        yield Finding(Verdict.PROBLEM, about, text, "Upgrade the server.")
    if server.is_standby:
        remedy = "Set DATABASE_URL to the primary."
        yield Finding(Verdict.PROBLEM, about, "The server is a read-only standby.", remedy)
    if server.is_read_only:
        remedy = "Reset default_transaction_read_only of the database and of the user."
        yield Finding(Verdict.PROBLEM, about, "The database is set read-only.", remedy)
    if not server.holds_unicode:
        yield Finding(
            Verdict.PROBLEM,
            about,
            "The encoding of the database cannot store every character.",
            "Create a database with ENCODING 'UTF8', and restore a dump of the old one there.",
        )
    if server.longest_idle_seconds > MAX_IDLE_SECONDS:
        yield Finding(
            Verdict.WARNING,
            about,
            f"A connection has been idle inside a transaction for {server.longest_idle_seconds:.0f}"
            " s: it may hold locks that jobs wait for.",
            "Find it in pg_stat_activity, and end its client.",
        )
    used = f"{server.connections} of {server.max_connections} connections are in use"
    if server.connections > 0.8 * server.max_connections:
        remedy = "Raise max_connections, or run fewer processes: each uses up to 13."
        yield Finding(Verdict.WARNING, "connections", used, remedy)
    else:
        yield Finding(Verdict.OK, "connections", used)


def _pooler(settings: Settings) -> Iterator[Finding]:
    about = "pooler"
    path = diagnosis.server_path(settings.database_url)
    if path.pooling is not Pooling.NONE:
        text = f"connections go through a pooler in {path.pooling.value} mode"
        yield Finding(Verdict.OK, about, text)
    remedy = "Set JOBS_GATEWAY_LISTEN_URL to the server itself."
    if settings.listen_url is None:
        if path.pooling is Pooling.TRANSACTION:
            text = "Changes of other processes are noticed by polling, each second."
            yield Finding(Verdict.WARNING, about, text, remedy)
        return
    try:
        listen_path = diagnosis.server_path(settings.listen_url)
    except UnusableDatabase as error:
        yield Finding(Verdict.PROBLEM, about, f"JOBS_GATEWAY_LISTEN_URL: {error}", remedy)
        return
    if listen_path.database != path.database:
        text = "JOBS_GATEWAY_LISTEN_URL leads to another database than DATABASE_URL."
        yield Finding(Verdict.PROBLEM, about, text, remedy)
    elif listen_path.pooling is Pooling.TRANSACTION:
        text = "JOBS_GATEWAY_LISTEN_URL leads to a pooler that lends a session per transaction."
        yield Finding(Verdict.WARNING, about, text, remedy)


def _migrations(tx: Transaction, is_sqlite: bool) -> Generator[Finding, None, bool]:
    revision, newest = revision_in(tx), newest_revision()
    if revision == newest:
        yield Finding(Verdict.OK, "migrations", f"at revision {newest}, the newest")
        return True
    text = f"at revision {revision or 'none'}; this version needs {newest}"
    if revision is None or revision in revisions():
        yield Finding(
            Verdict.WARNING if is_sqlite else Verdict.PROBLEM,
            "migrations",
            text,
            "Run `jobs-gateway migrate`"
            + (", or any command that opens the file." if is_sqlite else "."),
        )
    else:
        yield Finding(
            Verdict.PROBLEM,
            "migrations",
            text,
            NEWER_REMEDY,
        )
    return False


def _clock(tx: Transaction) -> Iterator[Finding]:
    skew = diagnosis.clock_skew(tx)
    clocks = ["the database's", "this machine's"]
    ahead, other = clocks if skew > timedelta(0) else reversed(clocks)
    text = f"{ahead} is {abs(skew.total_seconds()):.1f} s ahead of {other}"
    if abs(skew) > MAX_SKEW:
        remedy = "Synchronize both (NTP): tokens and logs use this machine's, jobs the database's."
        yield Finding(Verdict.WARNING, "clock", text, remedy)
    else:
        yield Finding(Verdict.OK, "clock", text)


def _queues(tx: Transaction) -> Iterator[Finding]:
    queues = diagnosis.queue_health(tx, LOST_AFTER, MAX_STORES_LISTED)
    at = queues.at
    if queues.last_created_at and queues.last_created_at > at + MAX_SKEW:
        yield Finding(
            Verdict.WARNING,
            "clock",
            f"The latest job was created {_duration(queues.last_created_at - at)} in the future: "
            "the clock was set back.",
            "No job is lost, and the order stays; new jobs get the present time again.",
        )
    oldest = queues.oldest_pending_at
    age = f", the oldest for {_duration(at - oldest)}" if oldest else ""
    late = oldest is not None and at - oldest > MAX_QUEUE_AGE
    text = f"{queues.running} jobs running, {queues.pending} pending{age}"
    yield Finding(
        Verdict.WARNING if late else Verdict.OK,
        "queue",
        text,
        "If the lines below do not explain it, start more workers to run more stores at once."
        if late
        else "",
    )
    for lost in queues.lost:
        yield Finding(
            Verdict.PROBLEM,
            "queue",
            f"The job of store {lost.store!r} was lost {_duration(at - lost.since)} ago, and no "
            "worker has taken it over.",
            "Start `jobs-gateway worker`, or `serve` without --no-runner, for that store.",
        )
    for waiting in queues.waiting:
        if at - waiting.since > MAX_WAIT:
            yield Finding(
                Verdict.WARNING if queues.running else Verdict.PROBLEM,
                "queue",
                f"{waiting.pending} jobs of store {waiting.store!r} have waited for "
                f"{_duration(at - waiting.since)}, and no worker runs them.",
                "Start `jobs-gateway worker`, or `serve` without --no-runner; its "
                "JOBS_GATEWAY_STORES must be empty or contain the store.",
            )
    for paused in queues.paused:
        yield Finding(
            Verdict.WARNING,
            "queue",
            f"The queue of store {paused.store!r} has been paused for "
            f"{_duration(at - paused.since)}; {paused.pending} jobs wait.",
            "Resume it with `jobs-gateway resume` when the reason is gone.",
        )


def _backlog(tx: Transaction, settings: Settings) -> Iterator[Finding]:
    # Expired rows may be in the middle of a sweep; a day later they must be gone.
    keep = timedelta(days=settings.retention_days + 1) if settings.retention_days else None
    left = backlog.sweep_backlog(tx, keep)
    text = f"{left.hierarchies} deleted hierarchies and {left.deleted_nodes} nodes to sweep"
    remedy = "The queue's processes sweep: check that one runs, and that the disk is not full."
    if left.hierarchies + left.deleted_nodes > MAX_BACKLOG or left.stores_with_old_events:
        text += f", and old events of {left.stores_with_old_events} stores"
        yield Finding(Verdict.WARNING, "sweeping", text, remedy)
    else:
        yield Finding(Verdict.OK, "sweeping", text)
    text = f"{left.deliveries} due"
    if left.deliveries > MAX_BACKLOG or (left.deliveries and not settings.webhooks):
        yield Finding(
            Verdict.WARNING,
            "webhooks",
            text,
            "Check that the receivers respond, and that the queue's processes have "
            "JOBS_GATEWAY_WEBHOOKS.",
        )
    elif settings.webhooks or left.deliveries:
        yield Finding(Verdict.OK, "webhooks", text)


def _duration(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _size(bytes: int) -> str:
    return f"{bytes / 2**30:.1f} GiB" if bytes >= 2**30 else f"{bytes / 2**20:.1f} MiB"
