"""The database: its connections, and the only two doors to them, `read` and `write`."""

import asyncio
import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa
from sqlmodel import Session, create_engine
from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

from app.storage.writer import Priority, Writer

P = ParamSpec("P")
T = TypeVar("T")

Clock = Callable[[], datetime]
CommitListener = Callable[[frozenset[str]], None]

BUSY_SECONDS = 30
"""How long a write waits for another process's transaction on the same SQLite file."""

CACHE_KIB = 16 * 1024
"""Pages each connection keeps in memory, whatever the size of the file."""


class UnusableDatabase(Exception):
    """The URL names a database that this version cannot work with, or none that can be opened."""


class RunnerAlreadyPresent(Exception):
    """Another process runs the queue on the same SQLite file."""


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def now(session: Session) -> datetime:
    """The instant to write down in this transaction, in UTC, in whole milliseconds.

    Whole ones, because clients see milliseconds: what they read back compares equal.
    """
    clock: Clock = session.info["clock"]
    instant = clock()
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def announce(session: Session, store: str) -> None:
    """Once this transaction commits, tell the listeners that something happened in `store`."""
    session.info["announced"].add(store)


class Database:
    """A SQLite file with one writer and one reading connection, both in WAL mode.

    Reads run on the calling event loop: they are bounded pages by key and take tens of
    microseconds. Writes run on the writer's thread, each in one transaction of its own.
    """

    def __init__(self, url: str, *, clock: Clock = system_clock) -> None:
        self.url = _sqlite_url(url)
        self._clock = clock
        self._listeners: list[CommitListener] = []
        self._writer = Writer()
        self.write_engine = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE")
        self.read_engine = _sqlite_engine(self.url, begin="BEGIN", read_only=True)
        self._runner_lock: int | None = None

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(str(self.url.database))

    async def read(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `fn` finds, all in one consistent picture. Its rows outlive the session."""
        with self._session(self.read_engine) as session:
            return fn(session, *args, **kwargs)

    async def write(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `fn` returns, after its one transaction committed; nothing is kept if it raises."""
        return await self._write(Priority.REQUEST, fn, *args, **kwargs)

    async def write_bulk(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`write`, behind everything urgent: for one chunk of a long piece of work."""
        return await self._write(Priority.BULK, fn, *args, **kwargs)

    def on_commit(self, listener: CommitListener) -> None:
        """Call `listener` on the writing loop with the stores each commit announced: a hint."""
        self._listeners.append(listener)

    def hold_runner(self) -> None:
        """Become the one process that runs this file's queue, until `close` or death.

        The operating system drops the lock of a killed process, so whoever holds it knows that
        no other runner is alive. Raises RunnerAlreadyPresent.
        """
        lock = os.open(f"{self.path.resolve()}.runner", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RunnerAlreadyPresent(
                f"Another process already runs the queue of {self.path}. "
                "Stop it, or start this one with --no-runner."
            ) from None
        self._runner_lock = lock

    def close(self) -> None:
        """Finish the writes that were asked for and close every connection."""
        self._writer.close()
        self.write_engine.dispose()
        self.read_engine.dispose()
        if self._runner_lock is not None:
            os.close(self._runner_lock)
            self._runner_lock = None

    async def _write(
        self,
        priority: Priority,
        fn: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        loop = asyncio.get_running_loop()

        def transaction() -> T:
            with self._session(self.write_engine) as session:
                result = fn(session, *args, **kwargs)
                session.commit()
                stores = frozenset(session.info["announced"])
            if stores:
                loop.call_soon_threadsafe(self._tell, stores)
            return result

        return await self._writer.run(transaction, priority)

    def _tell(self, stores: frozenset[str]) -> None:
        for listener in self._listeners:
            listener(stores)

    def _session(self, engine: sa.Engine) -> Session:
        info = {"clock": self._clock, "announced": set()}
        return Session(engine, expire_on_commit=False, info=info)


def _sqlite_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        url = None
    if (
        url is None
        or url.drivername not in ("sqlite", "sqlite+pysqlite")
        or url.database in (None, "", ":memory:")
    ):
        raise UnusableDatabase(
            "DATABASE_URL must name a SQLite file, such as sqlite:///jobs-gateway.db. "
            "This version works with no other database, and with none in memory."
        )
    return url


def _sqlite_engine(url: sa.URL, *, begin: str, read_only: bool = False) -> sa.Engine:
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        pool_size=1,
        max_overflow=0,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
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
