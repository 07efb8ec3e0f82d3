"""SQLite: one file, with one writer and a few reading connections per process."""

import fcntl
import os
import sqlite3
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlmodel import create_engine
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

from app.domain.display import printable
from app.domain.patterns import matches_pattern
from app.storage.engine.client_reads import SCAN_THREADS, ReadLimit
from app.storage.engine.database import (
    JSON_CODEC,
    Database,
    DatabaseReadOnly,
    DatabaseUnavailable,
    RunnerAlreadyPresent,
    StatementInterrupted,
    StorageFull,
    UnusableDatabase,
)
from app.storage.engine.sqlalchemy_seam import as_sqlalchemy_error, has_statement_listeners
from app.storage.engine.statements import PreparedQuery
from app.storage.engine.transaction import Clock, Transaction
from app.storage.engine.writer import Priority, Writer

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS = 30
"""Time limit of a write's wait for another process's transaction on the same file."""

CACHE_KIB = 16 * 1024
"""Page cache per connection."""

READERS = 4
"""Connections for reads. One event loop uses one at a time."""

WRITERS = 2
"""Connections for writes: the writer keeps one, the other is for migrations."""

WRITES_PER_STORE = 2
"""One runs while the next one is ready."""

CLIENT_READ_SECONDS = 0.06
"""Time limit of a client's read on the event loop, where it delays all other clients."""

INSTRUCTIONS_PER_CHECK = 20_000
"""Instructions of SQLite between two checks of a read's limit. Most take 25 ns, half a millisecond
together; a comparison by a pattern is one instruction that takes up to 0.5 µs per letter of the
text, so filters never run on the event loop."""

MAX_CHECKS = 40
"""Checks after which a client's statements are too long for the event loop, about 20 ms. Unlike a
time, instructions are the same on a busy machine."""

MAX_LOOP_CHARACTERS = 256 * 1024
"""Characters of the texts that a client's read may read on the event loop. Long texts take no
instructions, and a megabyte of them 3 ms until they are encoded."""

RESERVE_BYTES = 16 * 2**20
"""Disk space that bulk work leaves free, so that its failure can be recorded and its rows swept. It
must hold what a full write-ahead log (4 MiB and a chunk) adds to the file: with less room the log
cannot be checkpointed, and no write succeeds."""

PRIVATE = 0o600
"""Mode of a new file: its owner reads and writes it. SQLite copies it to -wal and -shm."""

RUNNER_BYTE = 2**62
"""Offset of the byte that the runner locks, far from data and from the bytes that SQLite locks."""

IN_MEMORY = ("", ":memory:")

BEGIN_READ = "BEGIN"
BEGIN_WRITE = "BEGIN IMMEDIATE"

UNAVAILABLE_CODES = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
)


class SQLite(Database):
    """A SQLite file in WAL mode.

    Reads run on the event loop: they are bounded pages by key and take tens of microseconds. Scans
    run on threads of their own, writes on the writer's thread. The clock is this machine's.
    """

    client_read_seconds = CLIENT_READ_SECONDS
    client_read_checks = MAX_CHECKS
    client_read_characters = MAX_LOOP_CHARACTERS
    writes_per_store = WRITES_PER_STORE
    embedded = True

    def __init__(self, url: sa.URL, clock: Clock | None = None) -> None:
        super().__init__(url, clock or machine_clock)
        _create_private(self.path)
        self._writer = Writer()
        self.write_engine = _engine(url, begin=BEGIN_WRITE, connections=WRITERS)
        self.read_engine = _engine(url, begin=BEGIN_READ, read_only=True, connections=READERS)
        self.scan_engine = _engine(url, begin=BEGIN_READ, read_only=True, connections=SCAN_THREADS)
        self._readers: list[sa.Connection] = []
        """Unused connections for reads."""
        self._write_connection: sa.Connection | None = None
        """The writer's connection, while it is unused."""
        self._read_limit: ReadLimit | None = None
        """The limit of the client's read that runs on the event loop."""
        self._runner_lock: int | None = None
        self._opened_file: tuple[int, int] | None = None
        sa.event.listen(self.write_engine, "connect", self._on_connect)
        sa.event.listen(self.read_engine, "connect", self._check_limits)

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(str(self.url.database))

    @property
    def name(self) -> str:
        return printable(str(self.path.resolve()))

    async def listen(self) -> None:
        """Return at once: other processes send no notifications, so waiters also poll."""

    def acquire_runner_lock(self) -> bool:
        """Lock the file itself for this runner, under all its names.

        The operating system releases the lock of a killed process, so no other runner is alive.
        """
        try:
            if self._runner_lock is None:
                self._runner_lock = _open_to_lock(self.path)
            is_locked = _lock(self._runner_lock)
        except OSError as error:
            raise UnusableDatabase(
                f"The database {self.name} cannot be locked for the queue: {error.strerror}."
            ) from error
        if not is_locked:
            raise RunnerAlreadyPresent(
                f"Another process already runs the queue of {self.name}, and SQLite takes one. "
                "Stop it, start this one as `serve --no-runner`, or move to PostgreSQL."
            )
        return True

    def was_replaced(self) -> bool:
        """Return True if the file was removed or replaced.

        SQLite continues in the old file, where no other process sees its writes.
        """
        return self._opened_file not in (None, self._file_at_path())

    def close(self) -> None:
        self._writer.close()
        self._stop_reads()
        self._scans.close()
        for connection in (*self._readers, *filter(None, [self._write_connection])):
            connection.close()
        self._readers, self._write_connection = [], None
        for engine in (self.write_engine, self.read_engine, self.scan_engine):
            engine.dispose()
        # Last: closing any descriptor of the file drops the locks that SQLite has on it.
        if self._runner_lock is not None:
            os.close(self._runner_lock)
            self._runner_lock = None

    def _on_connect(self, _connection: object, _record: object) -> None:
        self._opened_file = self._opened_file or self._file_at_path()

    def _file_at_path(self) -> tuple[int, int] | None:
        """Return device and inode of the file at the path, if it exists."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    async def _run_read(self, transaction: Callable[[], T]) -> T:
        return transaction()

    async def _run_client_read(
        self, store: str, fn: Callable[[Transaction], T], limit: ReadLimit
    ) -> T:
        # Beginning a turn for each short read would take a tenth of its time.
        if self.turns.is_over:
            await self.turns.wait_if_over(store)
            limit.start()
        self._read_limit = limit
        try:
            return self._read_transaction(self.read_engine, fn)()
        finally:
            self._read_limit = None
            limit.record()
            self.turns.count(limit.began)

    def _check_limits(self, connection: sqlite3.Connection, _record: object) -> None:
        """Interrupt statements of reads that reach their limit."""

        def must_end() -> bool:
            return self._read_limit is not None and self._read_limit.count_check()

        connection.set_progress_handler(must_end, INSTRUCTIONS_PER_CHECK)

    def _interrupter(self, tx: Transaction) -> Callable[[], None]:
        return driver_of(tx.connection).interrupt

    async def _run_write(self, transaction: Callable[[], T], priority: Priority) -> T:
        return await self._writer.run(transaction, priority)

    def _read_transaction(
        self,
        engine: sa.Engine,
        fn: Callable[Concatenate[Transaction, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callable[[], T]:
        if engine is not self.read_engine or has_statement_listeners(engine):
            # Listeners see only the statements that SQLAlchemy runs.
            return super()._read_transaction(engine, fn, *args, **kwargs)
        return lambda: self._read_by_driver(lambda tx: fn(tx, *args, **kwargs))

    def _read_by_driver(self, fn: Callable[[Transaction], T]) -> T:
        """Run `fn` in a transaction that the driver begins and ends.

        SQLAlchemy takes 100 µs for that, as long as reading a job and encoding it.
        """
        with self._classifying_errors():
            connection = self._readers.pop() if self._readers else self.read_engine.connect()
            driver = driver_of(connection)
            try:
                driver.execute(BEGIN_READ)
                return fn(Transaction(connection, self._clock, driver.execute))
            finally:
                # Statements that SQLAlchemy ran began its transaction.
                if connection.in_transaction():
                    connection.rollback()
                driver.rollback()
                self._readers.append(connection)

    @contextmanager
    def _write_transaction(self) -> Iterator[Transaction]:
        """Open a transaction that the driver begins and commits.

        SQLAlchemy takes as long for that as a short write takes for everything else. The statements
        that it runs are in the same transaction.
        """
        if self._traced or has_statement_listeners(self.write_engine):
            with super()._write_transaction() as tx:
                yield tx
            return
        connection, self._write_connection = self._write_connection, None
        connection = connection or self.write_engine.connect()
        driver = driver_of(connection)
        try:
            tx = Transaction(connection, self._clock, driver.execute)
            driver.execute(BEGIN_WRITE)
            yield tx
            tx.finish()
            if connection.in_transaction():
                connection.commit()
            else:
                driver.commit()
        except BaseException:
            connection.close()
            raise
        self._write_connection = connection

    @contextmanager
    def _classifying_errors(self) -> Iterator[None]:
        with super()._classifying_errors():
            try:
                yield
            except sqlite3.Error as error:
                raise as_sqlalchemy_error(error) from error

    def _check_room(self, tx: Transaction) -> None:
        [(page_size, pages, unused)] = tx.rows(_PAGES)
        disk = os.statvfs(self.path)
        # Used pages that are only in the write-ahead log so far will need room in the file.
        used = (pages - unused) * page_size
        room = disk.f_bavail * disk.f_frsize + self.path.stat().st_size - used
        if room < RESERVE_BYTES:
            raise StorageFull("The disk is full but for a small reserve.")

    def _classified(self, error: sa.exc.DBAPIError) -> Exception:
        # The low byte of an extended result code is the primary one.
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            return StatementInterrupted("A statement took too long.")
        if code == sqlite3.SQLITE_FULL:
            return StorageFull("The disk is full.")
        if code == sqlite3.SQLITE_READONLY:
            return DatabaseReadOnly("The database file is read-only now.")
        if code in UNAVAILABLE_CODES:
            return DatabaseUnavailable("The database file cannot be used now.")
        return error


def file_url(url: sa.URL) -> sa.URL:
    """Return the URL of a SQLite file by its path alone. Raises UnusableDatabase.

    SQLAlchemy has decoded the percent escapes of its path.
    """
    name, options = url.database or "", dict(url.query)
    if url.host or url.username or url.password or url.port:
        raise UnusableDatabase(
            "A SQLite URL has no host: write sqlite:///name.db for a file in the current folder, "
            "sqlite:////folder/name.db for any other."
        )
    if name.startswith("file:"):
        options.pop("uri", None)
        name = name.removeprefix("file:")
        if name.startswith("//"):
            host, _, path = name[2:].partition("/")
            if host not in ("", "localhost"):
                raise UnusableDatabase("A SQLite file is on this machine: its URI has no host.")
            name = f"/{path}"
    if options.get("mode") == "rwc":
        del options["mode"]
    if name in IN_MEMORY or options.get("mode") == "memory":
        raise UnusableDatabase("In-memory databases are not supported: name a file.")
    if options:
        raise UnusableDatabase(
            f"The SQLite URL has the unsupported parameter {printable(sorted(options)[0])}: the "
            "gateway creates its file, writes it, and sets all parameters by itself."
        )
    if "\0" in name:
        raise UnusableDatabase("The name of a SQLite file cannot contain a null character.")
    return sa.URL.create(url.drivername, database=name)


def _create_private(path: Path) -> None:
    """Create the file if it is missing. Raises UnusableDatabase.

    An existing file is not opened: closing it would drop the locks of its SQLite connections.
    """
    name = printable(str(path))
    try:
        try:
            kind = path.stat().st_mode
        except FileNotFoundError:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE))
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnusableDatabase(f"Cannot use the database {name}: {reason}.") from error
    if stat.S_ISDIR(kind):
        raise UnusableDatabase(f"Cannot use the database {name}: it is a folder.")
    if not stat.S_ISREG(kind):
        raise UnusableDatabase(f"Cannot use the database {name}: it is not a regular file.")


def _open_to_lock(path: Path) -> int:
    """Open the file, which all its names share. Return the descriptor.

    Elsewhere than on Linux a lock would end with any descriptor of the file, or would lock SQLite
    out: there, a file with a similar name is locked.
    """
    if sys.platform == "linux":
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    return os.open(f"{path.resolve()}.runner", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE)


def _lock(descriptor: int) -> bool:
    """Lock exclusively until the descriptor is closed. Return False if another one has the lock."""
    try:
        if sys.platform == "linux":
            # struct flock; an OFD lock is the descriptor's, and SQLite's locks are the process's.
            lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, RUNNER_BYTE, 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


_PAGES = PreparedQuery(
    lambda _: sa.select(
        sa.literal_column("page_size", sa.Integer),
        sa.literal_column("page_count", sa.Integer),
        sa.literal_column("freelist_count", sa.Integer),
    ).select_from(sa.text("pragma_page_size, pragma_page_count, pragma_freelist_count"))
)


def driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """Return the driver's connection."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def machine_clock(_tx: Transaction) -> datetime:
    return datetime.now(UTC)


def _engine(url: sa.URL, *, begin: str, read_only: bool = False, connections: int = 1) -> sa.Engine:
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        pool_size=connections,
        max_overflow=0,
        # Logged errors of statements would contain clients' values.
        hide_parameters=True,
        **JSON_CODEC,
    )

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        # The driver begins transactions late and deferred; `on_begin` begins them instead.
        connection.isolation_level = None
        _switch_to_wal(connection)
        for pragma in (
            "synchronous = NORMAL",
            "foreign_keys = ON",
            f"cache_size = -{CACHE_KIB}",
            *(["query_only = ON"] if read_only else []),
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        connection.create_function(matches_pattern.__name__, 4, matches_pattern, deterministic=True)

    def on_begin(connection: sa.Connection) -> None:
        driver = driver_of(connection)
        if not driver.in_transaction:
            connection.exec_driver_sql(begin)

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
    return engine


@retry(
    retry=retry_if_exception_message("database is locked"),
    stop=stop_after_delay(BUSY_SECONDS),
    wait=wait_fixed(0.01),
    reraise=True,
)
def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, and retry: SQLite fails at once while another process switches a new file."""
    connection.execute("PRAGMA journal_mode = WAL").close()
