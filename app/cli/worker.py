"""worker: the queue without a server."""

import asyncio
import sys

import typer
import uvloop

from app import __version__, main
from app.cli.flags import takes_settings
from app.cli.logs import start_logging
from app.settings import Settings, group_of
from app.storage.engine.database import Database, RunnerAlreadyPresent, UnusableDatabase
from app.wiring import StartError

OF_THE_SERVER = {"Network", "Authentication", "Surface", "Limits"}


def _is_a_workers(name: str) -> bool:
    return name == "host" or (name != "runner" and group_of(name) not in OF_THE_SERVER)


@takes_settings(_is_a_workers)
def worker(settings: Settings) -> None:
    """Run the queue and nothing else, until Ctrl-C. On PostgreSQL any number share it."""
    start_logging(settings)
    settings = settings.model_copy(update={"runner": True})

    def on_ready(database: Database, url: str | None) -> None:
        whose = ", ".join(sorted(settings.stores)) or "all stores"
        print(f"jobs-gateway {__version__} runs the queue of {whose}", flush=True)
        print(f"  Database    {database.name}", flush=True)
        if url:
            print(f"  Health      {url}/healthz", flush=True)
        print("Ctrl-C stops.", flush=True)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main.work(settings, on_ready))
    except (StartError, UnusableDatabase, RunnerAlreadyPresent) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    print("Stopped.", flush=True)
