"""Read-only health checks of a database, for `doctor`."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import psycopg
import sqlalchemy as sa
from sqlmodel import col, create_engine

from app.domain.job_times import MAX_LEASE
from app.domain.jobs import JobStatus
from app.storage.engine.connect import parse_url
from app.storage.engine.database import JSON_CODEC, UnusableDatabase
from app.storage.engine.pooler import Pooling, detect_pooling
from app.storage.engine.postgresql import ENCODING, server_clock
from app.storage.engine.postgresql_sessions import (
    SETTINGS,
    SessionSettings,
    Setting,
    added_parameters,
    parameters_of,
    prepare_connections,
    shown_database_url,
)
from app.storage.engine.sqlite import driver_of, machine_clock
from app.storage.engine.transaction import Clock, Transaction
from app.storage.lanes import is_free
from app.storage.tables import Job, Lane

STATEMENT_SECONDS = 10
"""Limit of one statement on PostgreSQL."""


OTHERS = 0o077
"""Permissions of the group and of all other users."""


class NoDatabase(UnusableDatabase):
    """The SQLite file does not exist yet."""


@dataclass(frozen=True, slots=True)
class WaitingStore:
    """A store whose pending jobs could run, but no worker runs them."""

    store: str
    pending: int
    since: datetime
    """Creation time of the oldest one."""


@dataclass(frozen=True, slots=True)
class LostJob:
    """A started job that no worker runs."""

    store: str
    since: datetime
    """Expiry of its lease."""


@dataclass(frozen=True, slots=True)
class PausedQueue:
    """A store whose queue is paused."""

    store: str
    since: datetime
    pending: int


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """The state of all queues."""

    at: datetime
    """Now, by the database's clock."""
    last_created_at: datetime | None
    """Creation time of the newest job, by that clock at the time."""
    running: int
    """Stores with a running job."""
    pending: int
    oldest_pending_at: datetime | None
    lost: Sequence[LostJob]
    waiting: Sequence[WaitingStore]
    paused: Sequence[PausedQueue]


@contextmanager
def read_only_transaction(url: str) -> Iterator[Transaction]:
    """A transaction that can only read. It creates neither the SQLite file nor its WAL.

    Raises UnusableDatabase, NoDatabase.
    """
    parsed = parse_url(url)
    try:
        engine, clock = _open(parsed)
        try:
            with engine.connect() as connection:
                yield Transaction(connection, clock)
        finally:
            engine.dispose()
    except (sa.exc.DBAPIError, OSError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error.strerror
        reason = " ".join(str(cause).split())
        raise UnusableDatabase(
            f"Cannot use the database {shown_database_url(parsed)}: {reason}"
        ) from error


def _open(url: sa.URL) -> tuple[sa.Engine, Clock]:
    if url.get_backend_name() != "sqlite":
        return _postgresql_engine(url), server_clock
    path = Path(str(url.database))
    if not path.exists():
        raise NoDatabase(f"There is no file {path.resolve()}.")
    return _sqlite_engine(path), machine_clock


def _sqlite_engine(path: Path) -> sa.Engine:
    # Without a WAL file no process is writing; immutable keeps SQLite from creating one to read.
    immutable = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    uri = f"file:{quote(str(path.resolve()))}?mode=ro{immutable}"
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        poolclass=sa.pool.StaticPool,
        **JSON_CODEC,
    )


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    engine = create_engine(
        url,
        connect_args=added_parameters(url),
        isolation_level="READ COMMITTED",
        poolclass=sa.pool.NullPool,
        **JSON_CODEC,
    )
    time_limit = Setting("statement_timeout", f"{STATEMENT_SECONDS}s")
    prepare_connections(engine, SessionSettings((*SETTINGS, time_limit)))
    return engine.execution_options(postgresql_readonly=True)


def clock_skew(tx: Transaction) -> timedelta:
    """Time by which the database's clock is ahead of this machine's.

    Accurate to half a round trip.
    """
    before = datetime.now(UTC)
    database_time = tx.now()
    return database_time - (before + (datetime.now(UTC) - before) / 2)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A SQLite file."""

    version: tuple[int, ...]
    """Version of the SQLite library in this process."""
    path: Path
    bytes: int
    free_bytes: int
    """Free space of its disk."""
    uses_wal: bool
    """True in WAL mode, which the gateway sets."""
    open_to_others: Sequence[Path]
    """The file, -wal and -shm, as far as other users may read or write them."""
    links: int
    """Names of the file in folders: SQLite finds its log by the name."""


def file_info(tx: Transaction) -> FileInfo:
    path = Path(tx.rows(sa.text("PRAGMA database_list"))[0][2])
    disk = os.statvfs(path)
    with path.open("rb") as file:
        header = file.read(20)
    return FileInfo(
        sqlite3.sqlite_version_info,
        path,
        path.stat().st_size,
        disk.f_bavail * disk.f_frsize,
        # The write and read versions of the file format: 2 is WAL.
        header[18:20] == b"\x02\x02",
        [file for file in _files_of(path) if file.stat().st_mode & OTHERS],
        path.stat().st_nlink,
    )


def _files_of(path: Path) -> Iterator[Path]:
    """Yield the file at a path and those that SQLite keeps next to it."""
    for suffix in ("", "-wal", "-shm"):
        if (file := Path(f"{path}{suffix}")).exists():
            yield file


def file_faults(tx: Transaction, seconds: float) -> Sequence[str] | None:
    """Check the file's integrity. Return None if that takes more than `seconds`."""
    connection = driver_of(tx.connection)
    deadline = monotonic() + seconds
    connection.set_progress_handler(lambda: monotonic() > deadline, 10_000)
    try:
        faults = [fault for (fault,) in tx.rows(sa.text("PRAGMA quick_check(5)"))]
        dangling = tx.rows(sa.text("PRAGMA foreign_key_check"))
    except sa.exc.DatabaseError as error:
        match getattr(error.orig, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_INTERRUPT:
                return None
            case sqlite3.SQLITE_CORRUPT:
                return [str(error.orig)]
        raise
    finally:
        connection.set_progress_handler(None, 0)
    faults = [fault for fault in faults if fault != "ok"]
    if dangling:
        table, _, missing, _ = dangling[0]
        faults.append(f"a row of {table} refers to a missing row of {missing}")
    return faults


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A PostgreSQL server."""

    version: int
    """Major version."""
    is_standby: bool
    is_read_only: bool
    """True if the database or the user is set read-only."""
    holds_unicode: bool
    """True if the database's encoding can store every character."""
    connections: int
    max_connections: int
    longest_idle_seconds: float
    """Longest time a connection to this database is idle in a transaction."""
    bytes: int


def server_info(tx: Transaction) -> ServerInfo:
    [row] = tx.rows(
        sa.text(
            "SELECT current_setting('server_version_num')::int / 10000, pg_is_in_recovery(),"
            " current_setting('default_transaction_read_only')::boolean,"
            " current_setting('server_encoding') = :encoding,"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
            " current_setting('max_connections')::int,"
            " (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)"
            "   ::double precision FROM pg_stat_activity"
            "   WHERE datname = current_database() AND state LIKE 'idle in transaction%'),"
            " pg_database_size(current_database())"
        ),
        {"encoding": ENCODING},
    )
    return ServerInfo(*row)


@dataclass(frozen=True, slots=True)
class ServerPath:
    """The way to a PostgreSQL database."""

    pooling: Pooling
    database: tuple[object, ...]
    """Identity of the database in its running server."""


def server_path(url: str) -> ServerPath:
    """Examine the way to a PostgreSQL database. Raises UnusableDatabase."""
    parsed = parse_url(url)
    try:
        # In a thread: the caller's may run an event loop.
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(asyncio.run, _server_path(parsed)).result()
    except (psycopg.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise UnusableDatabase(
            f"Cannot use the database {shown_database_url(parsed)}: {reason}"
        ) from error


async def _server_path(url: sa.URL) -> ServerPath:
    parameters = parameters_of(url)
    connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
    async with connection:
        pooling = await detect_pooling(connection, parameters)
        [identity] = await (await connection.execute(_IDENTITY, prepare=False)).fetchall()
        return ServerPath(pooling, identity)


_IDENTITY = """
SELECT pg_postmaster_start_time()::text, oid FROM pg_database WHERE datname = current_database()
"""


def queue_health(tx: Transaction, lost_for: timedelta, max_stores: int) -> QueueHealth:
    """Read the state of all queues.

    Each list has at most `max_stores` stores, longest first. A started job is lost if its lease
    expired more than `lost_for` ago.
    """
    at = tx.now()
    started = sa.exists().where(
        col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.STARTED
    )
    since = (
        sa.select(col(Job.created_at))
        .where(col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
        .scalar_subquery()
        .label("since")
    )
    latest = at + MAX_LEASE
    free = is_free(at, latest)
    held = sa.and_(col(Lane.holder).is_not(None), ~free)
    lost = tx.rows(
        sa.select(col(Lane.store), col(Lane.lease_until))
        .where(started, is_free(at - lost_for, latest))
        .order_by(col(Lane.lease_until))
        .limit(max_stores)
    )
    waiting = tx.rows(
        sa.select(col(Lane.store), col(Lane.pending), since)
        .where(col(Lane.pending) > 0, col(Lane.paused_at).is_(None), free, ~started)
        .order_by(since)
        .limit(max_stores)
    )
    paused = tx.rows(
        sa.select(col(Lane.store), col(Lane.paused_at), col(Lane.pending))
        .where(col(Lane.paused_at).is_not(None))
        .order_by(col(Lane.paused_at))
        .limit(max_stores)
    )
    [(running, pending, last, oldest)] = tx.rows(
        sa.select(
            sa.func.coalesce(sa.func.sum(sa.case((held, 1), else_=0)), 0),
            sa.func.coalesce(sa.func.sum(col(Lane.pending)), 0),
            sa.func.max(col(Lane.last_created_at)),
            sa.func.min(since),
        )
    )
    return QueueHealth(
        at,
        last,
        int(running),
        int(pending),
        oldest,
        # A lease that ends later is of a time before the clock was set back.
        [LostJob(store, min(until, at)) for store, until in lost if until],
        [WaitingStore(*row) for row in waiting],
        [PausedQueue(store, at, pending) for store, at, pending in paused if at],
    )
