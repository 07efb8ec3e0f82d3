"""A database: its only doors, `read` and `write`, and what a transaction knows."""

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

JSON: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}
"""How engines write and read JSON columns."""


class UnusableDatabase(Exception):
    """The URL names a database that this version cannot work with, or none that can be opened."""


class RunnerAlreadyPresent(Exception):
    """Another process runs the queue on the same SQLite file."""


class DatabaseUnavailable(Exception):
    """The database does not answer now; it may later. Whether a write was kept is not known."""


class StorageFull(Exception):
    """There is no room left for what was to be written, and nothing of it was."""


def now(session: Session) -> datetime:
    """The instant to write down in this transaction, by the database's clock, in UTC, in whole
    milliseconds.

    Whole ones, because clients see milliseconds: what they read back compares equal.
    """
    clock: Clock = session.info["clock"]
    instant = clock(session)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def announce(session: Session, store: str) -> None:
    """Once this transaction commits, tell the listeners that something happened in `store`."""
    session.info["announced"].add(store)


def before_commit(session: Session, write: Callable[[], None]) -> None:
    """Let `write` write what it has gathered, when this transaction has nothing else to do."""
    session.info["unwritten"].append(write)


def after_commit(session: Session, note: Callable[[], None]) -> None:
    """Call `note` once this transaction has committed, in its thread: it is to be quick."""
    session.info["notes"].append(note)


class Database(ABC):
    """Where everything is kept. `storage.connect` opens the kind that a URL names.

    What is done in it are functions of a session, each in one transaction of its own. They raise
    DatabaseUnavailable or StorageFull when it is the database that fails them.
    """

    write_engine: sa.Engine
    read_engine: sa.Engine
    scan_engine: sa.Engine

    embedded: bool
    """Whether it is ours alone: made where there is none, and migrated without asking."""

    def __init__(self, url: sa.URL, clock: Clock) -> None:
        self.url = url
        self._clock = clock
        self._listeners: list[CommitListener] = []
        self._traced = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person calls it, without secrets."""

    async def read(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `fn` finds, all in one consistent picture. Its rows outlive the session."""

        return await self._run_read(self._reading(self.read_engine, fn, *args, **kwargs))

    async def scan(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`read`, in nobody's way: for what may have to look at far more rows than it finds."""
        return await self._run_scan(self._reading(self.scan_engine, fn, *args, **kwargs))

    async def write(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `fn` returns, after its one transaction committed; nothing is kept if it raises."""
        return await self._write(Priority.REQUEST, fn, *args, **kwargs)

    async def write_bulk(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`write`, in nobody's way: for one chunk of a long piece of work."""

        def with_room(session: Session) -> T:
            self._check_room(session)
            return fn(session, *args, **kwargs)

        return await self._write(Priority.BULK, with_room)

    async def write_freeing(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`write_bulk`, for what makes room: also where hardly any is left."""
        return await self._write(Priority.BULK, fn, *args, **kwargs)

    def trace(self, tracer: Tracer) -> None:
        """Make each statement a span that is run for what has one."""
        for engine in {self.write_engine, self.read_engine, self.scan_engine}:
            # What is derived from another engine tells of its statements with that.
            if not is_derived(engine):
                trace_statements(engine, tracer)
        self._traced = True

    def on_commit(self, listener: CommitListener) -> None:
        """Call `listener` on the event loop with the stores that commits announced: a hint, of
        this process at once, of others as far as `hear` hears of them."""
        self._listeners.append(listener)

    @abstractmethod
    async def listen(self) -> None:
        """Pass on what commits of other processes announce, until cancelled."""

    @abstractmethod
    def acquire_runner_lock(self) -> bool:
        """Become a process that runs the queue; whether no other one can be alive.

        Raises RunnerAlreadyPresent where there can be one only.
        """

    def was_replaced(self) -> bool:
        """Whether what is worked with is no longer what its URL leads to."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Finish the writes that were asked for and close every connection."""

    @abstractmethod
    def _meaning(self, error: sa.exc.DBAPIError) -> Exception:
        """What a failure of the driver means: one of the above, or the failure itself."""

    def _check_room(self, session: Session) -> None:  # noqa: B027, most databases need none
        """Raises StorageFull when bulk work would take the room that short writes need."""

    @abstractmethod
    async def _run_read(self, transaction: Callable[[], T]) -> T:
        """What the transaction returns, run where reads run."""

    @abstractmethod
    async def _run_scan(self, transaction: Callable[[], T]) -> T:
        """What the transaction returns, run where it may take long."""

    @abstractmethod
    async def _run_write(self, transaction: Callable[[], T], priority: Priority) -> T:
        """What the transaction returns, run where writes run, in its turn."""

    def _reading(
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
            with self._writing() as session:
                result = fn(session, *args, **kwargs)
            for note in session.info["notes"]:
                note()
            if stores := frozenset(session.info["announced"]):
                loop.call_soon_threadsafe(self._tell, stores)
            return result

        return await self._run_write(self._in_span(transaction), priority)

    def _in_span(self, transaction: Callable[[], T]) -> Callable[[], T]:
        """The transaction, which belongs to the span it is asked for in, on whatever thread."""
        return partial(copy_context().run, transaction) if self._traced else transaction

    def _tell(self, stores: frozenset[str]) -> None:
        for listener in self._listeners:
            listener(stores)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """A session whose transaction is committed in the end."""
        with self._session(self.write_engine) as session:
            if not self._traced:
                session.info[STATEMENT_RUNNER] = _driving(session.connection())
            yield session
            write_gathered(session)
            session.commit()

    @contextmanager
    def _session(self, engine: sa.Engine) -> Iterator[Session]:
        with self._translated(), Session(engine, **self._terms()) as session:
            yield session

    def _terms(self) -> dict[str, Any]:
        """What a session is made with."""
        info = {"clock": self._clock, "announced": set(), "unwritten": [], "notes": []}
        return {"expire_on_commit": False, "info": info}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            meaning = self._meaning(error)
            if meaning is error:
                raise
            raise meaning from error


def write_gathered(session: Session) -> None:
    """Write what is to be written before a commit."""
    for write in session.info["unwritten"]:
        write()


def _driving(connection: sa.Connection) -> StatementRunner:
    """Runs statements by the driver itself in the connection's transaction."""
    driver: Any = connection.connection.driver_connection
    dialect = connection.dialect

    def run(text: str, values: Any) -> Any:
        try:
            return driver.execute(text, values)
        except driver_error(dialect) as error:
            if is_connection_lost(connection, driver, error):
                # For SQLAlchemy to see it too: it then trusts none of its connections.
                connection.exec_driver_sql("SELECT 1")
            raise as_sqlalchemy_error(error) from error

    return run
