"""What is the matter with a database, seen by somebody who changes nothing in it."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlmodel import Session, col, create_engine, select

from app.domain.hierarchies import HierarchyState
from app.domain.jobs import JobStatus
from app.domain.webhooks import DeliveryStatus
from app.storage import events
from app.storage.engine.connect import checked_url
from app.storage.engine.database import JSON, Clock, UnusableDatabase, now
from app.storage.engine.postgresql import CONNECTION, server_clock
from app.storage.engine.sqlite import machine_clock
from app.storage.tables import DeletedNode, Hierarchy, Job, Lane, WebhookDelivery

STATEMENT_SECONDS = 10
"""How long PostgreSQL may look for one answer."""

COUNTED = 10_000
"""So far things are counted: whether there are more makes no difference."""


class NoDatabase(UnusableDatabase):
    """There is no file yet."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A store whose pending jobs could be run and are not."""

    store: str
    pending: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Lost:
    """A store whose started job nobody runs."""

    store: str
    since: datetime
    """When its lease ran out."""


@dataclass(frozen=True, slots=True)
class Paused:
    """A store whose queue is paused."""

    store: str
    since: datetime
    pending: int


@dataclass(frozen=True, slots=True)
class Queues:
    """The queues of all stores."""

    at: datetime
    """Now, by the database's clock."""
    last_created_at: datetime | None
    """When the latest job was asked for, by that clock as it was then."""
    running: int
    """Stores whose job somebody runs."""
    pending: int
    oldest_pending_at: datetime | None
    lost: Sequence[Lost]
    waiting: Sequence[Waiting]
    paused: Sequence[Paused]


@dataclass(frozen=True, slots=True)
class SweepBacklog:
    """What is to be deleted or delivered, as far as it is counted."""

    hierarchies: int
    cut_nodes: int
    stores_with_old_events: int
    deliveries: int


@contextmanager
def looking(url: str) -> Iterator[Session]:
    """A session that can read and nothing else. It makes no file, and no log of writes beside one.

    Raises UnusableDatabase, NoDatabase.
    """
    parsed = checked_url(url)
    try:
        engine, clock = _opened(parsed)
        try:
            with Session(engine, info={"clock": clock}) as session:
                session.connection()
                yield session
        finally:
            engine.dispose()
    except (sa.exc.DBAPIError, OSError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error.strerror
        name = parsed.render_as_string(hide_password=True)
        said = " ".join(str(cause).split())
        raise UnusableDatabase(f"Cannot use the database {name}: {said}") from error


def _opened(url: sa.URL) -> tuple[sa.Engine, Clock]:
    if url.get_backend_name() != "sqlite":
        return _server(url), server_clock
    path = Path(str(url.database))
    if not path.exists():
        raise NoDatabase(f"There is no file {path.resolve()}.")
    return _file(path), machine_clock


def _file(path: Path) -> sa.Engine:
    # Without a log of writes nobody writes now, and nothing has to be made to read it.
    quiet = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    uri = f"file:{quote(str(path.resolve()))}?mode=ro{quiet}"
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        poolclass=sa.pool.StaticPool,
        **JSON,
    )


def _server(url: sa.URL) -> sa.Engine:
    options = (
        f"{CONNECTION['options']} -c default_transaction_read_only=on"
        f" -c statement_timeout={STATEMENT_SECONDS}s"
    )
    return create_engine(
        url,
        connect_args={**CONNECTION, "options": options},
        poolclass=sa.pool.NullPool,
        **JSON,
    )


def skew(session: Session) -> timedelta:
    """By how much the database's clock is ahead of this machine's, as far as the way there and back
    lets it be known."""
    before = datetime.now(UTC)
    there = now(session)
    return there - (before + (datetime.now(UTC) - before) / 2)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A SQLite file."""

    version: tuple[int, ...]
    """Of the SQLite that reads it here."""
    path: Path
    bytes: int
    free_bytes: int
    """Left of its disk."""
    has_log: bool
    """Whether writes go to a log beside it (WAL), as ours do."""


def file_info(session: Session) -> FileInfo:
    """The file that is read."""
    path = Path(session.execute(sa.text("PRAGMA database_list")).all()[0][2])
    disk = os.statvfs(path)
    with path.open("rb") as file:
        header = file.read(20)
    return FileInfo(
        sqlite3.sqlite_version_info,
        path,
        path.stat().st_size,
        disk.f_bavail * disk.f_frsize,
        # Version 2 of the format for writing and reading.
        header[18:20] == b"\x02\x02",
    )


def faults_in_file(session: Session, seconds: float) -> Sequence[str] | None:
    """What is wrong in the file itself; None where it could not all be read in so many seconds."""
    connection: Any = session.connection().connection.driver_connection
    deadline = monotonic() + seconds
    connection.set_progress_handler(lambda: monotonic() > deadline, 10_000)
    try:
        faults = [row[0] for row in session.execute(sa.text("PRAGMA quick_check(5)"))]
        dangling = session.execute(sa.text("PRAGMA foreign_key_check")).first()
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
        faults.append(f"a row of {dangling[0]} belongs to one of {dangling[2]} that is not there")
    return faults


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A PostgreSQL server."""

    version: int
    """Its major version."""
    is_standby: bool
    idle_limit: bool
    """Whether it ends connections that are idle inside a transaction, as ours ask it to."""
    connections: int
    max_connections: int
    longest_idle_seconds: float
    """How long a connection to the database has been idle inside a transaction, at most."""
    bytes: int


def server_info(session: Session) -> ServerInfo:
    """The server that is asked."""
    row = session.execute(
        sa.text(
            "SELECT current_setting('server_version_num')::int / 10000, pg_is_in_recovery(),"
            " current_setting('idle_in_transaction_session_timeout') <> '0',"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
            " current_setting('max_connections')::int,"
            " (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)"
            "   FROM pg_stat_activity"
            "   WHERE datname = current_database() AND state LIKE 'idle in transaction%'),"
            " pg_database_size(current_database())"
        )
    ).one()
    version, is_standby, idle_limit, connections, max_connections, idle, bytes = row
    return ServerInfo(
        version, is_standby, idle_limit, connections, max_connections, float(idle), bytes
    )


def queues(session: Session, lost_for: timedelta, listed: int) -> Queues:
    """The queues as they stand; of what is listed, so many and the longest first."""
    at = now(session)
    started = sa.exists().where(
        col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.STARTED
    )
    since = (
        select(Job.created_at)
        .where(col(Job.store) == col(Lane.store), col(Job.status) == JobStatus.PENDING)
        .order_by(col(Job.job_seq))
        .limit(1)
        .scalar_subquery()
        .label("since")
    )
    free = sa.or_(col(Lane.lease_until).is_(None), col(Lane.lease_until) <= at)
    held = sa.and_(col(Lane.holder).is_not(None), col(Lane.lease_until) > at)
    lost = session.execute(
        sa.select(col(Lane.store), col(Lane.lease_until))
        .where(started, col(Lane.lease_until) < at - lost_for)
        .order_by(col(Lane.lease_until))
        .limit(listed)
    ).all()
    waiting = session.execute(
        sa.select(col(Lane.store), col(Lane.pending), since)
        .where(col(Lane.pending) > 0, col(Lane.paused_at).is_(None), free, ~started)
        .order_by(since)
        .limit(listed)
    ).all()
    paused = session.execute(
        sa.select(col(Lane.store), col(Lane.paused_at), col(Lane.pending))
        .where(col(Lane.paused_at).is_not(None))
        .order_by(col(Lane.paused_at))
        .limit(listed)
    ).all()
    running, pending, last, oldest = session.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(sa.case((held, 1), else_=0)), 0),
            sa.func.coalesce(sa.func.sum(col(Lane.pending)), 0),
            sa.func.max(col(Lane.last_created_at)),
            sa.func.min(since),
        )
    ).one()
    return Queues(
        at,
        last,
        int(running),
        int(pending),
        oldest,
        [Lost(*row) for row in lost],
        [Waiting(*row) for row in waiting],
        [Paused(*row) for row in paused],
    )


def backlog(session: Session, keep: timedelta | None) -> SweepBacklog:
    """What waits to be swept, where events are kept for so long (None: for ever), or sent."""

    def counted(statement: Any) -> int:
        return int(
            session.execute(
                sa.select(sa.func.count()).select_from(statement.limit(COUNTED).subquery())
            ).scalar_one()
        )

    discarded = (HierarchyState.DISCARDED, HierarchyState.ABANDONED)
    due = (
        col(WebhookDelivery.status) == DeliveryStatus.PENDING,
        col(WebhookDelivery.due_at) <= now(session),
    )
    return SweepBacklog(
        counted(select(Hierarchy.pk).where(col(Hierarchy.state).in_(discarded))),
        counted(select(DeletedNode.node_no)),
        0 if keep is None else len(events.stores_with_older(session, now(session) - keep)),
        counted(select(WebhookDelivery.pk).where(*due)),
    )
