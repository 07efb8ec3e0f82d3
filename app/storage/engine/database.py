"""Databases: `read`, `write` and their variants, and the functions of a transaction."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa
from opentelemetry.trace import Tracer
from sqlmodel import Session

from app.storage.engine.tracing import trace_statements
from app.storage.engine.writer import Priority
from app.storage.sql.sqlalchemy_seam import (
    as_sqlalchemy_error,
    driver_error,
    is_connection_lost,
    is_derived,
)
from app.storage.sql.statements import STATEMENT_RUNNER, StatementRunner

P = ParamSpec("P")
T = TypeVar("T")

Clock = Callable[[Session], datetime]
CommitListener = Callable[[frozenset[str]], None]

JSON_CODEC: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}
"""Conversion of JSON columns by engines."""


class UnusableDatabase(Exception):
    """The database cannot be opened, or not be used by this version."""


class RunnerAlreadyPresent(Exception):
    """Another process already runs the queue of the same SQLite file."""


class DatabaseUnavailable(Exception):
    """The database does not answer at present. A write may have been committed or not."""


class StorageFull(Exception):
    """The disk is full, and the transaction was rolled back."""


def now(session: Session) -> datetime:
    """Return the time of the database's clock in UTC, in whole milliseconds.

    Clients see milliseconds, so the values they read compare equal to the stored ones.
    """
    clock: Clock = session.info["clock"]
    instant = clock(session)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def announce(session: Session, store: str) -> None:
    """Notify listeners of a change in `store` when this transaction commits."""
    session.info["announced"].add(store)


def before_commit(session: Session, write: Callable[[], None]) -> None:
    """Call `write` as the last action of this transaction before it commits."""
    session.info["before_commit"].append(write)


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Call `callback` after this transaction commits, in its thread; it must be quick."""
    session.info["after_commit"].append(callback)


class Database(ABC):
    """A database. `engine.connect` returns the subclass for a URL.

    `read`, `write` and their variants run a function of a session in one transaction. They raise
    DatabaseUnavailable and StorageFull besides the function's own errors.
    """

    write_engine: sa.Engine
    read_engine: sa.Engine
    scan_engine: sa.Engine

    embedded: bool
    """True if the gateway owns it: it creates the database, and migrates it at start."""

    def __init__(self, url: sa.URL, clock: Clock) -> None:
        self.url = url
        self._clock = clock
        self._listeners: list[CommitListener] = []
        self._traced = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The database's name for logs and messages, without secrets."""

    async def read(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in one consistent snapshot. Its rows remain usable after the session."""

        return await self._run_read(self._read_transaction(self.read_engine, fn, *args, **kwargs))

    async def scan(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` as `read` does, where it may examine many rows without delaying other reads."""
        return await self._run_scan(self._read_transaction(self.scan_engine, fn, *args, **kwargs))

    async def write(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` and commit; roll back if it raises."""
        return await self._write(Priority.REQUEST, fn, *args, **kwargs)

    async def write_bulk(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run one chunk of long work as `write` does, after most other writes.

        Raises StorageFull if little room is left.
        """

        def with_room(session: Session) -> T:
            self._check_room(session)
            return fn(session, *args, **kwargs)

        return await self._write(Priority.BULK, with_room)

    async def write_cleanup(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` as `write_bulk` does, without its check: the work frees room."""
        return await self._write(Priority.BULK, fn, *args, **kwargs)

    def trace(self, tracer: Tracer) -> None:
        """Make a span of each statement that runs inside another span."""
        for engine in {self.write_engine, self.read_engine, self.scan_engine}:
            # A derived engine shares the events of its parent.
            if not is_derived(engine):
                trace_statements(engine, tracer)
        self._traced = True

    def on_commit(self, listener: CommitListener) -> None:
        """Call `listener` on the event loop with the stores that commits announce.

        A hint: at once for commits of this process, through `listen` for those of others.
        """
        self._listeners.append(listener)

    @abstractmethod
    async def listen(self) -> None:
        """Pass on announcements of other processes' commits, until cancelled."""

    @abstractmethod
    def acquire_runner_lock(self) -> bool:
        """Acquire the runner lock. Return True if it is exclusive.

        Raises RunnerAlreadyPresent if another process has an exclusive lock.
        """

    def was_replaced(self) -> bool:
        """Return True if the database file was removed or replaced."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Finish pending writes and close every connection."""

    @abstractmethod
    def _classified(self, error: sa.exc.DBAPIError) -> Exception:
        """Return DatabaseUnavailable or StorageFull for such an error, else the error itself."""

    def _check_room(self, session: Session) -> None:  # noqa: B027, not abstract: a server checks its own room
        """Raise StorageFull if bulk work would use the room that short writes need."""

    @abstractmethod
    async def _run_read(self, transaction: Callable[[], T]) -> T:
        """Run a transaction on a thread for reads."""

    @abstractmethod
    async def _run_scan(self, transaction: Callable[[], T]) -> T:
        """Run a transaction on a thread where it may take long."""

    @abstractmethod
    async def _run_write(self, transaction: Callable[[], T], priority: Priority) -> T:
        """Run a transaction on a thread for writes, in order of priority."""

    def _read_transaction(
        self,
        engine: sa.Engine,
        fn: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callable[[], T]:
        def transaction() -> T:
            with self._session(engine) as session:
                return fn(session, *args, **kwargs)

        return self._in_span(transaction)

    async def _write(
        self,
        priority: Priority,
        fn: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        loop = asyncio.get_running_loop()

        def transaction() -> T:
            with self._write_session() as session:
                result = fn(session, *args, **kwargs)
            for callback in session.info["after_commit"]:
                callback()
            if stores := frozenset(session.info["announced"]):
                loop.call_soon_threadsafe(self._notify_listeners, stores)
            return result

        return await self._run_write(self._in_span(transaction), priority)

    def _in_span(self, transaction: Callable[[], T]) -> Callable[[], T]:
        """Keep the caller's span for a transaction that runs on another thread."""
        return partial(copy_context().run, transaction) if self._traced else transaction

    def _notify_listeners(self, stores: frozenset[str]) -> None:
        for listener in self._listeners:
            listener(stores)

    @contextmanager
    def _write_session(self) -> Iterator[Session]:
        """Open a session whose transaction is committed at the end."""
        with self._session(self.write_engine) as session:
            if not self._traced:
                session.info[STATEMENT_RUNNER] = _driver_runner(session.connection())
            yield session
            run_before_commit(session)
            session.commit()

    @contextmanager
    def _session(self, engine: sa.Engine) -> Iterator[Session]:
        with self._classifying_errors(), Session(engine, **self._session_options()) as session:
            yield session

    def _session_options(self) -> dict[str, Any]:
        info = {"clock": self._clock, "announced": set(), "before_commit": [], "after_commit": []}
        return {"expire_on_commit": False, "info": info}

    @contextmanager
    def _classifying_errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            classified = self._classified(error)
            if classified is error:
                raise
            raise classified from error


def run_before_commit(session: Session) -> None:
    """Call the functions that `before_commit` registered."""
    for write in session.info["before_commit"]:
        write()


def _driver_runner(connection: sa.Connection) -> StatementRunner:
    """Return a function that runs statements by the driver in the connection's transaction."""
    driver: Any = connection.connection.driver_connection
    dialect = connection.dialect

    def run(text: str, values: Any) -> Any:
        try:
            return driver.execute(text, values)
        except driver_error(dialect) as error:
            if is_connection_lost(connection, driver, error):
                # Fails too, so SQLAlchemy sees the loss and drops all pooled connections.
                connection.exec_driver_sql("SELECT 1")
            raise as_sqlalchemy_error(error) from error

    return run
