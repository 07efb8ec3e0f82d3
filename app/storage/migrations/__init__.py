"""The schema's history, and the way to its newest revision."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from app.storage.database import UnusableDatabase


def upgrade(engine: sa.Engine) -> None:
    """Bring the database to the newest revision, keeping its data.

    Raises UnusableDatabase for a file that cannot be opened, is no database, or is of a later
    version of ours.
    """
    try:
        with engine.begin() as connection:
            command.upgrade(_config(connection), "head")
    except (sa.exc.DatabaseError, CommandError) as error:
        cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
        raise UnusableDatabase(f"Cannot use the database {engine.url}: {cause}.") from error


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
