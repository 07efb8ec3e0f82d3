"""Reads of tables by SQLModel's sessions, independent of the storage functions under test."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlmodel import Session

from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction


def session_of(tx: Transaction) -> Session:
    """Return a session of entities in the transaction."""
    return Session(tx.connection, expire_on_commit=False)


@contextmanager
def read_transaction(database: Database) -> Iterator[Transaction]:
    """Open a transaction for reads outside an event loop."""
    with database.read_engine.connect() as connection:
        yield Transaction(connection, database._clock)
