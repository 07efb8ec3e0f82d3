"""Databases: `read`, `write` and their variants."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from math import inf
from time import sleep, thread_time
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import orjson
import sqlalchemy as sa
from opentelemetry.trace import Tracer

from app.storage.engine.client_reads import (
    REPEAT_SECONDS,
    SCAN_THREADS,
    SCANS_PER_STORE,
    FairThreads,
    LoopTurns,
    ReadLimit,
    ReadTooLong,
    current_work_time,
    scan_listener,
)
from app.storage.engine.sqlalchemy_seam import (
    as_sqlalchemy_error,
    driver_error,
    is_connection_lost,
    is_derived,
)
from app.storage.engine.statements import DriverValues
from app.storage.engine.tracing import trace_statements
from app.storage.engine.transaction import Clock, DriverCursor, StatementRunner, Transaction
from app.storage.engine.writer import Priority

P = ParamSpec("P")
T = TypeVar("T")

CommitListener = Callable[[frozenset[str]], None]

# Any: type checkers match ** to every other parameter too.
JSON_CODEC: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}
"""Conversion of JSON columns by engines."""


NO_STORE = ""
"""Share of the scan threads for reads that no client causes."""


class UnusableDatabase(Exception):
    """The database cannot be opened, or not be used by this version."""


class RunnerAlreadyPresent(Exception):
    """Another process already runs the queue of the same SQLite file."""


class DatabaseUnavailable(Exception):
    """The database does not answer at present. A write may have been committed or not."""

    code = "DATABASE_UNAVAILABLE"


class DatabaseReadOnly(DatabaseUnavailable):
    """The database takes no changes at present; reads work."""

    code = "DATABASE_READ_ONLY"


class StatementInterrupted(DatabaseUnavailable):
    """A statement that was interrupted because it took too long."""


class StorageFull(Exception):
    """The disk is full, and the transaction was rolled back."""

    code = "STORAGE_FULL"


class Database(ABC):
    """A database. `engine.connect` returns the subclass for a URL.

    `read`, `write` and their variants run a function of a transaction. They raise
    DatabaseUnavailable and StorageFull besides the function's own errors. Reads that a client
    causes are `client_read` and `client_scan`: their time is limited, measured and shared. Its
    writes are `client_write`: measured and shared.
    """

    write_engine: sa.Engine
    read_engine: sa.Engine
    scan_engine: sa.Engine

    client_read_seconds: float
    """Time limit of a client's read before it starts over as a scan."""

    client_read_checks = inf
    """The same limit as a number of checks of its statements, where they are checked."""

    client_read_characters = inf
    """The same limit as characters of the texts that it reads."""

    scan_clock: Callable[[], float] = staticmethod(thread_time)
    """Measures a scan's work, in seconds."""

    writes_per_store: int
    """Writes of a store's clients at the same time."""

    embedded: bool
    """True if the gateway owns it: it creates the database, and migrates it at start."""

    def __init__(self, url: sa.URL, clock: Clock) -> None:
        self.url = url
        self._clock = clock
        self._listeners: list[CommitListener] = []
        self._traced = False
        self._scans = FairThreads("scan", SCAN_THREADS, SCANS_PER_STORE)
        self._reads: set[ReadLimit] = set()
        """Reads of clients that run on threads."""
        self._write_shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By store, as long as one of its clients writes."""
        self.turns = LoopTurns()
        """For clients' work on the event loop."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The database's name for logs and messages, without secrets."""

    async def read(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in one consistent snapshot."""
        return await self._run_read(self._read_transaction(self.read_engine, fn, *args, **kwargs))

    async def client_read(
        self,
        store: str,
        fn: Callable[Concatenate[Transaction, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `fn` as `read` does; if it takes long, start over as `client_scan`."""
        limit = ReadLimit(
            self.client_read_seconds, self.client_read_checks, self.client_read_characters
        )

        def limited(tx: Transaction) -> T:
            tx.limit = limit
            return fn(tx, *args, **kwargs)

        try:
            return await self._run_client_read(store, limited, limit)
        except (ReadTooLong, StatementInterrupted):
            return await self.client_scan(store, fn, *args, **kwargs)

    async def client_scan(
        self,
        store: str,
        fn: Callable[Concatenate[Transaction, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `fn` as `scan` does, on a thread of the store's share. It ends if cancelled."""
        limit = ReadLimit()

        def limited(tx: Transaction) -> T:
            tx.limit = limit
            with limit.measured(self.scan_clock), self._interruptible(tx, limit):
                return fn(tx, *args, **kwargs)

        if listener := scan_listener.get():
            listener()
        transaction = self._read_transaction(self.scan_engine, limited)
        return await self._scans.run(store, transaction, limit)

    async def scan(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` as `read` does, where it may examine many rows without delaying other reads."""
        transaction = self._read_transaction(self.scan_engine, fn, *args, **kwargs)
        return await self._scans.run(NO_STORE, transaction, ReadLimit())

    async def write(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` and commit; roll back if it raises."""
        return await self._write(Priority.REQUEST, fn, *args, **kwargs)

    async def client_write(
        self,
        store: str,
        fn: Callable[Concatenate[Transaction, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `fn` as `write` does, and charge the current request for its processor time.

        Only `writes_per_store` of a store's run or wait in the queue of all writes: those of other
        stores do not wait for many of them.
        """
        time = current_work_time.get()

        def charged(tx: Transaction) -> T:
            began = thread_time()
            try:
                return fn(tx, *args, **kwargs)
            finally:
                if time:
                    time.seconds += thread_time() - began

        share = self._write_shares.get(store)
        if share is None:
            share = self._write_shares[store] = asyncio.Semaphore(self.writes_per_store)
        async with share:
            return await self._write(Priority.REQUEST, charged)

    async def write_bulk(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run one chunk of long work as `write` does, after most other writes.

        Raises StorageFull if little room is left.
        """

        def with_room(tx: Transaction) -> T:
            self._check_room(tx)
            return fn(tx, *args, **kwargs)

        return await self._write(Priority.BULK, with_room)

    async def write_cleanup(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
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

    def check_usable(self) -> None:  # noqa: B027, not abstract: any SQLite file is usable
        """Raise UnusableDatabase if the database cannot store the gateway's data."""

    def refuses_writes(self, tx: Transaction) -> bool:
        """Return True if the database is set read-only."""
        return False

    @property
    def polling_reason(self) -> str | None:
        """Why other processes' commits are noticed by polling, as a sentence; None if at once."""
        return None

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

    def _check_room(self, tx: Transaction) -> None:  # noqa: B027, not abstract: a server checks its own room
        """Raise StorageFull if bulk work would use the room that short writes need."""

    @abstractmethod
    async def _run_read(self, transaction: Callable[[], T]) -> T:
        """Run a transaction on a thread for reads."""

    @abstractmethod
    async def _run_client_read(
        self, store: str, fn: Callable[[Transaction], T], limit: ReadLimit
    ) -> T:
        """Run `fn` in a read transaction, and record its time.

        Raises ReadTooLong or StatementInterrupted if it reaches the limit.
        """

    @contextmanager
    def _interruptible(self, tx: Transaction, limit: ReadLimit) -> Iterator[None]:
        """Let `limit` end a client's read on this thread."""
        self._reads.add(limit)
        try:
            with limit.interruptible(self._interrupter(tx)):
                yield
        finally:
            self._reads.discard(limit)

    def _stop_reads(self) -> None:
        """End the reads of clients: their requests have ended with the event loop."""
        while reads := self._reads.copy():
            for limit in reads:
                limit.stop()
            sleep(REPEAT_SECONDS)

    @abstractmethod
    def _interrupter(self, tx: Transaction) -> Callable[[], None]:
        """Return a function that ends the statement that the transaction runs, if any."""

    @abstractmethod
    async def _run_write(self, transaction: Callable[[], T], priority: Priority) -> T:
        """Run a transaction on a thread for writes, in order of priority."""

    def _read_transaction(
        self,
        engine: sa.Engine,
        fn: Callable[Concatenate[Transaction, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callable[[], T]:
        def transaction() -> T:
            with self._classifying_errors(), engine.connect() as connection:
                return fn(Transaction(connection, self._clock), *args, **kwargs)

        return self._in_span(transaction)

    async def _write(
        self,
        priority: Priority,
        fn: Callable[Concatenate[Transaction, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        loop = asyncio.get_running_loop()

        def transaction() -> T:
            with self._classifying_errors(), self._write_transaction() as tx:
                result = fn(tx, *args, **kwargs)
            for callback in tx.callbacks:
                callback()
            if stores := frozenset(tx.announced):
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
    def _write_transaction(self) -> Iterator[Transaction]:
        """Open a transaction that is committed at the end."""
        with self.write_engine.begin() as connection:
            run = None if self._traced else _driver_runner(connection)
            tx = Transaction(connection, self._clock, run)
            yield tx
            tx.finish()

    @contextmanager
    def _classifying_errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            classified = self._classified(error)
            if classified is error:
                raise
            raise classified from error


def _driver_runner(connection: sa.Connection) -> StatementRunner:
    """Return a function that runs statements by the driver in the connection's transaction."""
    # Any: psycopg's annotations allow only literal statements.
    driver: Any = connection.connection.driver_connection
    dialect = connection.dialect

    def run(text: str, values: DriverValues) -> DriverCursor:
        try:
            cursor: DriverCursor = driver.execute(text, values)
        except driver_error(dialect) as error:
            if is_connection_lost(connection, driver, error):
                # Fails too, so SQLAlchemy sees the loss and drops all pooled connections.
                connection.exec_driver_sql("SELECT 1")
            raise as_sqlalchemy_error(error) from error
        return cursor

    return run
