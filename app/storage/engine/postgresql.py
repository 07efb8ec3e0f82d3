"""PostgreSQL: any number of processes on one database."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import TypeVar
from uuid import uuid4

import psycopg
import sqlalchemy as sa
from sqlmodel import create_engine

from app.storage.engine.client_reads import SCAN_THREADS, FairThreads, ReadLimit
from app.storage.engine.database import (
    JSON_CODEC,
    Database,
    DatabaseReadOnly,
    DatabaseUnavailable,
    StatementInterrupted,
    StorageFull,
    UnusableDatabase,
)
from app.storage.engine.postgresql_listener import Listener
from app.storage.engine.postgresql_sessions import (
    CONNECT_SECONDS,
    SessionSettings,
    added_parameters,
    prepare_connections,
    shown_database_url,
)
from app.storage.engine.statements import PreparedQuery
from app.storage.engine.transaction import Clock, Transaction
from app.storage.engine.writer import Priority

T = TypeVar("T")

REQUEST_THREADS = 6
"""Short writes, and reads that no client causes, at the same time per process."""

READ_THREADS = 6
"""Clients' reads at the same time per process. Each thread has its own connection."""

READS_PER_STORE = 4
"""Clients' reads at the same time per store: the other threads are for other stores."""

WRITES_PER_STORE = REQUEST_THREADS // 2
"""The other threads are for other stores."""

CLIENT_READ_SECONDS = 0.25
"""Time limit of a client's read on such a thread."""

BULK_THREADS = 4
"""Chunks of long work at the same time. Connections open when first used."""

MAX_UNCHECKED_SECONDS = 1.0
"""A connection that was idle for longer is tested before it is used again."""

CHANNEL = "jobs_gateway"

ENCODING = "UTF8"
"""The only encoding of a database that can store every character."""

UNAVAILABLE_SQLSTATES = ("08", "57P", "53300", "25P03")
"""Prefixes of SQLSTATEs: connection lost, server shut down, too many connections, idle for too long
inside a transaction."""


class PostgreSQL(Database):
    """A PostgreSQL database, version 15 or newer. The clock is the server's."""

    client_read_seconds = CLIENT_READ_SECONDS
    scan_clock = staticmethod(monotonic)
    writes_per_store = WRITES_PER_STORE
    embedded = False

    def __init__(
        self, url: sa.URL, clock: Clock | None = None, listen_url: sa.URL | None = None
    ) -> None:
        super().__init__(url, clock or server_clock)
        self.write_engine = _engine(url)
        self.read_engine = self.write_engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self.scan_engine = self.read_engine
        self._requests = ThreadPoolExecutor(REQUEST_THREADS, thread_name_prefix="request")
        self._client_reads = FairThreads("read", READ_THREADS, READS_PER_STORE)
        self._bulk = ThreadPoolExecutor(BULK_THREADS, thread_name_prefix="bulk")
        self._process_id = uuid4().hex
        self._listener = Listener(listen_url or url, CHANNEL, self._on_notice)
        self._unsent: set[str] = set()
        self._sending: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return shown_database_url(self.url)

    @property
    def polling_reason(self) -> str | None:
        return self._listener.failure

    async def listen(self) -> None:
        await self._listener.run()

    def _on_notice(self, payload: str) -> None:
        sender, _, store = payload.partition(" ")
        if sender != self._process_id:
            super()._notify_listeners(frozenset({store}))

    def check_usable(self) -> None:
        try:
            with self.read_engine.connect() as connection:
                [(encoding,)] = connection.exec_driver_sql("SHOW server_encoding")
        except sa.exc.DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            raise UnusableDatabase(f"Cannot use the database {self.name}: {reason}") from error
        if encoding != ENCODING:
            raise UnusableDatabase(
                f"The database {self.name} has the encoding {encoding}, which cannot store every "
                f"character. Create one with ENCODING '{ENCODING}'."
            )

    def refuses_writes(self, tx: Transaction) -> bool:
        [(is_read_only,)] = tx.connection.exec_driver_sql(_IS_READ_ONLY)
        return bool(is_read_only)

    def acquire_runner_lock(self) -> bool:
        return False

    def close(self) -> None:
        with suppress(sa.exc.DBAPIError):
            self._notify(self._take_unsent())
        self._stop_reads()
        self._client_reads.close()
        self._scans.close()
        self._requests.shutdown()
        self._bulk.shutdown()
        self.write_engine.dispose()

    async def _run_read(self, transaction: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._requests, transaction)

    async def _run_client_read(
        self, store: str, fn: Callable[[Transaction], T], limit: ReadLimit
    ) -> T:
        def interruptible(tx: Transaction) -> T:
            with limit.measured(), self._interruptible(tx, limit):
                return fn(tx)

        transaction = self._read_transaction(self.read_engine, interruptible)
        return await self._client_reads.run(store, transaction, limit)

    def _interrupter(self, tx: Transaction) -> Callable[[], None]:
        connection = tx.connection.connection.driver_connection
        assert isinstance(connection, psycopg.Connection)

        def interrupt() -> None:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CONNECT_SECONDS)

        return interrupt

    async def _run_write(self, transaction: Callable[[], T], priority: Priority) -> T:
        threads = self._bulk if priority is Priority.BULK else self._requests
        return await asyncio.get_running_loop().run_in_executor(threads, transaction)

    def _notify_listeners(self, stores: frozenset[str]) -> None:
        super()._notify_listeners(stores)
        self._unsent |= stores
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        """Notify other processes; announcements that arrive meanwhile are sent together.

        Not inside the transactions: NOTIFY makes commits wait for each other.
        """
        loop = asyncio.get_running_loop()
        while stores := self._take_unsent():
            with suppress(sa.exc.DBAPIError):
                await loop.run_in_executor(self._requests, self._notify, stores)

    def _take_unsent(self) -> set[str]:
        stores, self._unsent = self._unsent, set()
        return stores

    def _notify(self, stores: set[str]) -> None:
        if not stores:
            return
        payloads = [f"{self._process_id} {store}" for store in stores]
        with self.write_engine.connect() as connection:
            connection.execute(_NOTIFY, {"payloads": payloads})
            connection.commit()

    def _classified(self, error: sa.exc.DBAPIError) -> Exception:
        code = getattr(error.orig, "sqlstate", None)
        if isinstance(error.orig, psycopg.errors.QueryCanceled):
            return StatementInterrupted("The database server ended a statement that took too long.")
        if isinstance(error.orig, psycopg.errors.DiskFull):
            return StorageFull("The database server's disk is full.")
        if isinstance(error.orig, psycopg.errors.ReadOnlySqlTransaction):
            return DatabaseReadOnly("The database is set read-only now.")
        if error.connection_invalidated or (
            isinstance(error.orig, psycopg.OperationalError)
            and (code is None or code.startswith(UNAVAILABLE_SQLSTATES))
        ):
            return DatabaseUnavailable("The database server does not answer now.")
        return error


_NOTIFY = sa.select(
    sa.func.pg_notify(
        CHANNEL,
        sa.func.unnest(sa.bindparam("payloads", type_=sa.ARRAY(sa.Text))),
    )
)


def server_clock(tx: Transaction) -> datetime:
    """Return the server's time, not the transaction's start: it may have waited for a lane."""
    [(instant,)] = tx.rows(_CLOCK)
    return instant


_CLOCK = PreparedQuery(
    lambda _: sa.select(sa.func.clock_timestamp(type_=sa.DateTime(timezone=True)))
)


_IS_READ_ONLY = (
    "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
)
"""True on a standby, and where the database or the user is set so."""


def _engine(url: sa.URL) -> sa.Engine:
    engine = create_engine(
        url,
        connect_args=added_parameters(url),
        pool_size=REQUEST_THREADS + READ_THREADS + BULK_THREADS + SCAN_THREADS,
        max_overflow=0,
        # Reuses the same few connections; a quiet process does not open the others.
        pool_use_lifo=True,
        # The database's default may be stricter, where transactions fail that conflict.
        isolation_level="READ COMMITTED",
        # Reports false cartesian products for tables in a LATERAL; SQLite's engine still lints.
        enable_from_linting=False,
        # Logged errors of statements would contain clients' values.
        hide_parameters=True,
        **JSON_CODEC,
    )
    prepare_connections(engine, SessionSettings())

    def on_checkin(_connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info["used"] = monotonic()

    def on_checkout(
        connection: psycopg.Connection, record: sa.pool.ConnectionPoolEntry, _proxy: object
    ) -> None:
        if connection.read_only is False:
            # SQLAlchemy sets it after a read: BEGIN READ WRITE overrules a read-only database.
            connection.read_only = None
        if monotonic() - record.info.get("used", monotonic()) < MAX_UNCHECKED_SECONDS:
            return
        try:
            connection.autocommit = True
            connection.execute("")
            connection.autocommit = False
        except psycopg.Error as error:
            raise sa.exc.DisconnectionError from error

    sa.event.listen(engine, "checkin", on_checkin)
    sa.event.listen(engine, "checkout", on_checkout)
    return engine
