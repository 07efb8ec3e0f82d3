"""worker: run the queue without a server."""

import asyncio

import typer
import uvloop

from app import __version__, main
from app.cli.flags import takes_settings
from app.cli.logs import start_logging
from app.cli.streams import print_notice, print_status
from app.settings import Settings, group_of
from app.storage.engine.database import Database, RunnerAlreadyPresent, UnusableDatabase
from app.wiring import StartError

SERVER_GROUPS = {"Network", "Authentication", "Surface", "Limits"}


def _is_worker_setting(name: str) -> bool:
    return name == "host" or (name != "runner" and group_of(name) not in SERVER_GROUPS)


@takes_settings(_is_worker_setting)
def worker(settings: Settings) -> None:
    """Run the queue only, until Ctrl-C. On PostgreSQL, several workers share it."""
    start_logging(settings)
    settings = settings.model_copy(update={"runner": True})

    def on_ready(database: Database, url: str | None) -> None:
        stores = ", ".join(sorted(settings.stores)) or "all stores"
        print_status(
            f"jobs-gateway {__version__} runs the queue of {stores}",
            f"  Database    {database.name}",
            *([f"  Health      {url}/healthz"] if url else []),
            "Ctrl-C stops.",
        )

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main.work(settings, on_ready))
    except (StartError, UnusableDatabase, RunnerAlreadyPresent) as error:
        print_notice(str(error))
        raise typer.Exit(1) from None
    print_status("Stopped.")
