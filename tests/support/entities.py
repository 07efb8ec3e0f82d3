"""Reads of tables in a test's own words, beside the storage functions under test."""

from sqlmodel import Session

from app.storage.engine.transaction import Transaction


def session_of(tx: Transaction) -> Session:
    """Return a session of entities in the transaction."""
    return Session(tx.connection, expire_on_commit=False)
