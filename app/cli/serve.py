"""serve: the gateway process."""

from contextlib import aclosing
from typing import Annotated

import typer

from app import __version__, main, wiring
from app.api.rest.app import REST_PATH
from app.cli import demo
from app.cli.flags import takes_settings
from app.cli.logs import start_logging
from app.cli.streams import print_notice, print_status
from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.proxies import is_loopback
from app.main import Gateway
from app.services import jobs
from app.services.jobs import Requester
from app.settings import Settings
from app.storage import hierarchies
from app.storage.engine.database import RunnerAlreadyPresent, UnusableDatabase
from app.wiring import StartError

QUERY = "{ hierarchies(first: 5) { nodes { id name nodeCount } } }"


@takes_settings(lambda name: name != "worker_port", check=wiring.check)
def serve(
    settings: Settings,
    with_demo: Annotated[
        bool,
        typer.Option("--demo", help="Add demo data to an empty store, and duplicate a hierarchy."),
    ] = False,
) -> None:
    """Serve GraphQL and REST, and run the queue, until Ctrl-C."""
    start_logging(settings)

    async def on_ready(gateway: Gateway) -> None:
        _print_summary(gateway)
        if with_demo:
            await _demonstrate(gateway)

    try:
        main.run(settings, on_ready)
    except (StartError, UnusableDatabase, RunnerAlreadyPresent) as error:
        print_notice(str(error))
        raise typer.Exit(1) from None
    print_status("Stopped.")


def _print_summary(gateway: Gateway) -> None:
    settings = gateway.settings
    if settings.authenticated:
        access = "by bearer token"
    elif is_loopback(settings.host):
        access = f"open to this machine, without authentication, store {settings.store!r}"
    else:
        access = f"OPEN TO EVERY CLIENT that can reach it (--insecure), store {settings.store!r}"
    token = ' -H "authorization: Bearer $(jobs-gateway token)"' if settings.jwt_secret else ""
    queue = "runs here" if settings.runner else "does not run here (--no-runner)"
    playground = f"{gateway.url}/graphql in a browser" if settings.shows_playground else "off"
    console = f"{gateway.url}/ in a browser" if settings.shows_console else "off"
    print_status(
        f"jobs-gateway {__version__}",
        f"  GraphQL     {gateway.url}/graphql",
        f"  REST        {gateway.url}{REST_PATH}",
        f"  Playground  {playground}",
        f"  Console     {console}",
        f"  Health      {gateway.url}/healthz",
        f"  Metrics     {f'{gateway.url}/metrics' if settings.shows_metrics else 'off'}",
        f"  Database    {gateway.database.name}",
        f"  Queue       {queue}",
        f"  Access      {access}",
        "Try:",
        f"  curl -s {gateway.url}/graphql{token} -H 'content-type: application/json' \\",
        f'    -d \'{{"query": "{QUERY}"}}\'',
        "Ctrl-C stops.",
    )


async def _demonstrate(gateway: Gateway) -> None:
    """Add the demo data, duplicate its first hierarchy, and print the job's events."""
    database, store = gateway.database, gateway.settings.store
    ids = await demo.fill(database, store)
    if not ids:
        print_status(f"The store {store!r} already has hierarchies; --demo changes nothing.")
        return
    source = (await database.read(hierarchies.by_ids, store, ids))[ids[0]]
    print_status(f"Demo: {len(ids)} hierarchies. Duplicating {source.name!r}, {source.id}:")
    requested = await database.write(
        jobs.request,
        Requester(store, request_id="demo"),
        Duplication(source.id, name=f"{source.name} (copy)", include_products=True),
    )
    updates = await gateway.feed.job_updates(store, requested.job.id, after=0)
    async with aclosing(updates):
        async for event in updates:
            job = event.job
            progress = f"{job.completed_items}/{job.total_items}" if job.total_items else ""
            result = f"-> {job.result_id}" if job.result_id else ""
            print_status(
                f"  {event.type.name:<10} {job.status.name:<8} {progress} {result}".rstrip()
            )
