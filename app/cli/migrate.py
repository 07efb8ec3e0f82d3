"""migrate: upgrade the database schema."""

from typing import Annotated

import typer

from app import wiring
from app.cli.flags import takes_settings
from app.cli.streams import print_line, print_notice
from app.settings import Settings, group_of
from app.storage.engine.database import UnusableDatabase


@takes_settings(lambda name: group_of(name) == "Database")
def migrate(
    settings: Settings,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; exit with 1 if a migration is due."),
    ] = False,
) -> None:
    """Upgrade the database schema to the newest revision.

    SQLite files are migrated by every command that opens them. On PostgreSQL, run it once before
    the new version starts; concurrent migrations wait for each other.
    """
    try:
        before, after = wiring.migrate(settings, check=check)
    except UnusableDatabase as error:
        print_notice(str(error))
        raise typer.Exit(1) from None
    if before == after:
        print_line(f"Up to date, at revision {after}.")
    elif check:
        print_notice(f"At revision {before or 'none'}; this version needs {after}.")
        raise typer.Exit(1)
    else:
        print_line(f"Migrated from revision {before or 'none'} to {after}.")
