"""worker: the queue without a server."""

import asyncio
import sys
from typing import Annotated

import typer
import uvloop

from app import __version__, main
from app.cli.logs import log_to_stderr
from app.cli.settings import Concurrency, DatabaseUrl, RetentionDays, read_settings
from app.storage.database import Database, RunnerAlreadyPresent, UnusableDatabase


def worker(
    stores: Annotated[
        str | None,
        typer.Option(
            help="Whose jobs to run, separated by commas. [JOBS_GATEWAY_STORES, all stores]"
        ),
    ] = None,
    concurrency: Concurrency = None,
    retention_days: RetentionDays = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Run the queue and nothing else, until Ctrl-C. On PostgreSQL any number of workers share it.

    In brackets: environment variable, default.
    """
    log_to_stderr()
    settings = read_settings(
        stores=stores,
        concurrency=concurrency,
        retention_days=retention_days,
        database_url=database_url,
    )

    def on_ready(database: Database) -> None:
        whose = ", ".join(sorted(settings.stores)) or "all stores"
        print(f"jobs-gateway {__version__} runs the queue of {whose}", flush=True)
        print(f"  Database    {database.name}", flush=True)
        print("Ctrl-C stops.", flush=True)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main.work(settings, on_ready))
    except (UnusableDatabase, RunnerAlreadyPresent) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    print("Stopped.", flush=True)
