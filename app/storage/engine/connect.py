"""The way in: the database that a URL names."""

import sqlalchemy as sa

from app.storage.engine.database import Clock, Database, UnusableDatabase
from app.storage.engine.postgresql import PostgreSQL
from app.storage.engine.sqlite import SQLite

IN_MEMORY = (None, "", ":memory:")


def connect(url: str, clock: Clock | None = None) -> Database:
    """The database at `url`, on its own clock unless one is given. Raises UnusableDatabase."""
    parsed = checked_url(url)
    if parsed.drivername.startswith("sqlite"):
        return SQLite(parsed, clock)
    return PostgreSQL(parsed, clock)


def checked_url(url: str) -> sa.URL:
    """What a URL says, if it names a database of a kind that is known. Raises UnusableDatabase."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        parsed = sa.URL.create("none")
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite" if parsed.database not in IN_MEMORY:
            return parsed
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
    raise UnusableDatabase(
        "The URL of a database must name a SQLite file, such as sqlite:///jobs-gateway.db, or a "
        "PostgreSQL database, such as postgresql+psycopg://user@host/name. Nothing works in memory."
    )
