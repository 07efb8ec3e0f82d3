"""Revisions of the database's schema, and the upgrade to the newest one."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from app.storage.engine.database import Database, UnusableDatabase
from app.storage.engine.transaction import Transaction

MIGRATION_LOCK_KEY = 0x6A6F6273
"""Key of the advisory lock that a process holds while it migrates PostgreSQL."""

NEWER_REMEDY = "A newer version has migrated it: install that version, or restore an older backup."


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate the database to a revision, the newest by default.

    Raises UnusableDatabase for a database that cannot be opened, is not a database, or was migrated
    by a later version.
    """
    try:
        with database.write_engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK_KEY)))
            current = MigrationContext.configure(connection).get_current_revision()
            check_known(database, current)
            command.upgrade(_config(connection), revision)
    except (sa.exc.DatabaseError, CommandError) as error:
        raise _unusable(database, error) from error


def check_known(database: Database, revision: str | None) -> None:
    """Refuse a database that a later version has migrated. Raises UnusableDatabase."""
    if revision is not None and revision not in revisions():
        raise UnusableDatabase(
            f"The database {database.name} is at revision {revision}, which this program does not "
            f"know. {NEWER_REMEDY}"
        )


def revision_of(database: Database) -> str | None:
    """Read the database's revision, None before the first. Raises UnusableDatabase."""
    try:
        with database.read_engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except sa.exc.DatabaseError as error:
        raise _unusable(database, error) from error


def revision_in(tx: Transaction) -> str | None:
    """Read the revision of the transaction's database."""
    return MigrationContext.configure(tx.connection).get_current_revision()


def newest_revision() -> str:
    """Return the revision that this version requires."""
    revision = ScriptDirectory(str(Path(__file__).parent)).get_current_head()
    assert revision
    return revision


def revisions() -> frozenset[str]:
    """Return all revisions that this version knows."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    return frozenset(script.revision for script in scripts.walk_revisions())


def _unusable(database: Database, error: sa.exc.DatabaseError | CommandError) -> UnusableDatabase:
    cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
    reason = " ".join(str(cause).split())
    return UnusableDatabase(f"Cannot use the database {database.name}: {reason}")


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
