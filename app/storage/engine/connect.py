"""Opening the database of a URL."""

import sqlalchemy as sa

from app.storage.engine.database import Database, UnusableDatabase
from app.storage.engine.postgresql import PostgreSQL
from app.storage.engine.sqlite import SQLite, file_url
from app.storage.engine.transaction import Clock


def connect(url: str, clock: Clock | None = None, listen_url: str | None = None) -> Database:
    """Return the database at `url`; `clock` replaces its own.

    `listen_url` leads to the same PostgreSQL database without a pooler. Raises UnusableDatabase.
    """
    parsed = parse_url(url)
    if parsed.drivername.startswith("sqlite"):
        return SQLite(parsed, clock)
    return PostgreSQL(parsed, clock, parse_url(listen_url) if listen_url else None)


def parse_url(url: str) -> sa.URL:
    """Parse the URL of a SQLite file or a PostgreSQL database. Raises UnusableDatabase."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        parsed = sa.URL.create("none")
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return file_url(parsed)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return _with_password(parsed.set(drivername="postgresql+psycopg"))
    raise UnusableDatabase(
        "The URL of a database must name a SQLite file, such as sqlite:///jobs-gateway.db, or a "
        "PostgreSQL database, such as postgresql+psycopg://user@host/name. In-memory databases are "
        "not supported."
    )


def _with_password(url: sa.URL) -> sa.URL:
    """Move the password of a query to where it is hidden when the URL is shown."""
    match url.query.get("password"):
        case str(password):
            return url.difference_update_query(["password"]).set(password=password)
    return url
