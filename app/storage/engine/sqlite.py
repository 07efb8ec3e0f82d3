"""SQLite: one file, with one writer and a few reading connections a process."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlmodel import Session, create_engine
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

from app.storage.engine.database import (
    JSON,
    Clock,
    Database,
    DatabaseUnavailable,
    RunnerAlreadyPresent,
    StorageFull,
    write_gathered,
)
from app.storage.engine.writer import Priority, Writer
from app.storage.sql.sqlalchemy_seam import as_sqlalchemy_error, has_statement_listeners
from app.storage.sql.statements import STATEMENT_RUNNER, CompiledStatement

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS = 30
"""How long a write waits for another process's transaction on the same file."""

CACHE_KIB = 16 * 1024
"""Pages each connection keeps in memory, whatever the size of the file."""

READERS = 4
"""Reads at the same time: of one event loop there is one."""

SCANS = 2
"""Reads that may take long, side by side."""

RESERVE_BYTES = 16 * 2**20
"""What bulk work leaves of the disk, so that its failure can be written and what it has left behind
be swept. It must hold what a full log of writes, 4 MiB and a chunk, adds to the file: without that
room the log can never be emptied again, and nothing be written."""

BEGIN_READ = "BEGIN"
BEGIN_WRITE = "BEGIN IMMEDIATE"

Reader = tuple[Session, sa.Connection]
"""A session that is used again and again, and the connection it is on: one picture, however it is
asked."""

OUT_OF_REACH = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
)


class SQLite(Database):
    """A SQLite file in WAL mode.

    Reads run on the calling event loop: they are bounded pages by key and take tens of
    microseconds. Scans run on threads of their own, writes on the writer's. Its clock is this
    machine's.
    """

    embedded = True

    def __init__(self, url: sa.URL, clock: Clock | None = None) -> None:
        super().__init__(url, clock or machine_clock)
        self._writer = Writer()
        self.write_engine = _engine(url, begin=BEGIN_WRITE)
        self.read_engine = _engine(url, begin=BEGIN_READ, read_only=True, connections=READERS)
        self.scan_engine = _engine(url, begin=BEGIN_READ, read_only=True, connections=SCANS)
        self._readers: list[Reader] = []
        self._scans = ThreadPoolExecutor(SCANS, thread_name_prefix="scan")
        self._runner_lock: int | None = None
        self._opened: tuple[int, int] | None = None
        sa.event.listen(self.write_engine, "connect", self._on_connect)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(str(self.url.database))

    @property
    def name(self) -> str:
        return str(self.path.resolve())

    async def listen(self) -> None:
        """Other processes on the same file tell nothing; whoever waits also looks by itself."""

    def acquire_runner_lock(self) -> bool:
        """The operating system drops the lock of a killed process, so whoever holds it knows that
        no other runner is alive."""
        lock = os.open(f"{self.path.resolve()}.runner", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RunnerAlreadyPresent(
                f"Another process already runs the queue of {self.path}, and SQLite takes one. "
                "Stop it, start this one as `serve --no-runner`, or move to PostgreSQL."
            ) from None
        self._runner_lock = lock
        return True

    def was_replaced(self) -> bool:
        """SQLite goes on in a file that was removed or replaced, and nobody else sees what it
        writes there."""
        return self._opened not in (None, self._file())

    def close(self) -> None:
        self._writer.close()
        self._scans.shutdown()
        for _, connection in self._readers:
            connection.close()
        self._readers = []
        for engine in (self.write_engine, self.read_engine, self.scan_engine):
            engine.dispose()
        if self._runner_lock is not None:
            os.close(self._runner_lock)
            self._runner_lock = None

    def _on_connect(self, _connection: object, _record: object) -> None:
        self._opened = self._opened or self._file()

    def _file(self) -> tuple[int, int] | None:
        """Which file is at the path now, if there is one."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    async def _run_read(self, transaction: Callable[[], T]) -> T:
        return transaction()

    async def _run_scan(self, transaction: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._scans, transaction)

    async def _run_write(self, transaction: Callable[[], T], priority: Priority) -> T:
        return await self._writer.run(transaction, priority)

    def _reading(
        self,
        engine: sa.Engine,
        fn: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callable[[], T]:
        if engine is not self.read_engine or has_statement_listeners(engine):
            # Somebody listens to the statements that SQLAlchemy runs.
            return super()._reading(engine, fn, *args, **kwargs)
        return lambda: self._look(lambda session: fn(session, *args, **kwargs))

    def _look(self, fn: Callable[[Session], T]) -> T:
        """`fn` in a transaction that the driver begins and ends: SQLAlchemy takes 100 µs for that,
        as long as it takes to find a job and to tell of it."""
        reader = self._readers.pop() if self._readers else self._new_reader()
        session, connection = reader
        driver: Any = connection.connection.driver_connection
        with self._translated():
            try:
                driver.execute(BEGIN_READ)
                return fn(session)
            finally:
                # It joined if it was asked for entities, and has them no longer than its reader.
                if session.in_transaction():
                    session.close()
                driver.rollback()
                self._readers.append(reader)

    def _new_reader(self) -> Reader:
        connection = self.read_engine.connect()
        session = Session(connection, **self._terms())
        driver: Any = connection.connection.driver_connection

        def run(text: str, values: Any) -> Any:
            if session.in_transaction():
                return connection.exec_driver_sql(text, values)
            return driver.execute(text, values)

        session.info[STATEMENT_RUNNER] = run
        return session, connection

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """Begun and committed by the driver itself: SQLAlchemy takes as long for that as a short
        write for all else. What is written through the session is in the same transaction."""
        if self._traced:
            with super()._writing() as session:
                yield session
            return
        with (
            self._translated(),
            self.write_engine.connect() as connection,
            Session(connection, **self._terms()) as session,
        ):
            driver: Any = connection.connection.driver_connection
            session.info[STATEMENT_RUNNER] = driver.execute
            driver.execute(BEGIN_WRITE)
            yield session
            write_gathered(session)
            if session.in_transaction():
                session.commit()
            else:
                driver.commit()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with super()._translated():
            try:
                yield
            except sqlite3.Error as error:
                raise as_sqlalchemy_error(error) from error

    def _check_room(self, session: Session) -> None:
        [(page, pages, unused)] = _PAGES.rows(session, {})
        disk = os.statvfs(self.path)
        # Pages that are still in the log of writes only will take their room in the file.
        room = disk.f_bavail * disk.f_frsize + self.path.stat().st_size - (pages - unused) * page
        if room < RESERVE_BYTES:
            raise StorageFull("The disk is full but for a small reserve.")

    def _meaning(self, error: sa.exc.DBAPIError) -> Exception:
        # The low byte is the kind, the rest a detail of it.
        kind = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if kind == sqlite3.SQLITE_FULL:
            return StorageFull("The disk is full.")
        if kind in OUT_OF_REACH:
            return DatabaseUnavailable("The database file cannot be used now.")
        return error


_PAGES = CompiledStatement(
    lambda _: sa.text(
        "SELECT page_size, page_count, freelist_count"
        " FROM pragma_page_size, pragma_page_count, pragma_freelist_count"
    )
)


def machine_clock(_session: Session) -> datetime:
    return datetime.now(UTC)


def _engine(url: sa.URL, *, begin: str, read_only: bool = False, connections: int = 1) -> sa.Engine:
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        pool_size=connections,
        max_overflow=0,
        # Else the log would have what clients sent, from any statement that fails.
        hide_parameters=True,
        **JSON,
    )

    def on_connect(connection: Any, _record: object) -> None:
        # The driver's own transactions begin late and deferred; `begin` below replaces them.
        connection.isolation_level = None
        # SQLite's own knows no letters beyond ASCII, and what is compared case aside goes by it.
        connection.create_function("lower", 1, _lower, deterministic=True)
        _switch_to_wal(connection)
        for pragma in (
            "synchronous = NORMAL",
            "foreign_keys = ON",
            f"cache_size = -{CACHE_KIB}",
            *(["query_only = ON"] if read_only else []),
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    def on_begin(connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            connection.exec_driver_sql(begin)

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
    return engine


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


@retry(
    retry=retry_if_exception_message("database is locked"),
    stop=stop_after_delay(BUSY_SECONDS),
    wait=wait_fixed(0.01),
    reraise=True,
)
def _switch_to_wal(connection: Any) -> None:
    """SQLite refuses it at once, without waiting, while another process does it to a new file."""
    connection.execute("PRAGMA journal_mode = WAL").close()
