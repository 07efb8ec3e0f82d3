"""The commands for jobs: duplicate, jobs, watch, cancel, retry, move, diff."""

import asyncio
from contextlib import aclosing, suppress
from typing import Annotated

import typer

from app.cli.client.client import GatewayClient, GatewayError
from app.cli.client.records import Job
from app.cli.client_command import client_command
from app.cli.output import Output
from app.cli.streams import print_notice
from app.domain.jobs import JobStatus


@client_command
async def duplicate(
    client: GatewayClient,
    out: Output,
    hierarchy_id: Annotated[
        str, typer.Argument(metavar="HIERARCHY_ID", help="Id of the hierarchy to copy.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the copy; the source's by default.")
    ] = None,
    description: Annotated[
        str | None,
        typer.Option(help="Description of the copy; the source's by default, '' for none."),
    ] = None,
    include_products: Annotated[
        bool, typer.Option("--include-products", help="Copy product associations too.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A repeated call with the same key returns the first job.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch the job until it ends.")] = False,
) -> int:
    """Queue a deep copy of a hierarchy.

    With --watch the exit code is 0 if the job succeeded, 1 if it failed or was cancelled.
    """
    duplicated = await client.duplicate(
        hierarchy_id,
        name=name,
        description=description,
        includeProducts=include_products,
        idempotencyKey=idempotency_key,
    )
    if duplicated["replayed"]:
        print_notice("The idempotency key was used before; this is the job of that call.")
    job = duplicated["job"]
    if not watch:
        out.job(job)
        return 0
    return await _watch(client, out, job["id"])


@client_command
async def jobs(
    client: GatewayClient,
    out: Output,
    watch: Annotated[
        bool, typer.Option("--watch", help="Then print every change, until Ctrl-C.")
    ] = False,
    status: Annotated[
        list[JobStatus] | None,
        typer.Option(case_sensitive=False, help="Only jobs with this status; repeat for several."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Max number of jobs.")] = 25,
) -> None:
    """List the store's jobs, newest first."""
    statuses = status or []
    listing = await client.jobs(statuses, limit)
    if not listing.jobs:
        print_notice("No jobs.")
    out.jobs(listing, limit)
    if watch:
        # Ctrl-C ends the command without an error.
        with suppress(asyncio.CancelledError):
            async with aclosing(client.events(listing, statuses)) as events:
                async for event in events:
                    out.event(event)


@client_command
async def watch(
    client: GatewayClient,
    out: Output,
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of the job.")],
    after: Annotated[
        str | None,
        typer.Option(help="Start after this event cursor (shown by --json)."),
    ] = None,
) -> int:
    """Watch a job until it ends.

    The exit code is 0 if it succeeded, 1 if it failed or was cancelled.
    """
    return await _watch(client, out, job_id, after)


@client_command
async def cancel(
    client: GatewayClient,
    out: Output,
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of a pending job.")],
) -> None:
    """Cancel a pending job."""
    out.job(await client.cancel(job_id))


@client_command
async def retry(
    client: GatewayClient,
    out: Output,
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of a failed job.")],
) -> None:
    """Queue a failed job again, as a new job after all others."""
    retried = await client.retry(job_id)
    if retried["replayed"]:
        print_notice("The job was already retried; this is that retry.")
    out.job(retried["job"])


@client_command
async def move(
    client: GatewayClient,
    out: Output,
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of a pending job.")],
) -> None:
    """Move a pending job to the front of the queue."""
    out.job(await client.move(job_id))


@client_command
async def diff(
    client: GatewayClient,
    out: Output,
    job_id: Annotated[
        str, typer.Argument(metavar="JOB_ID", help="Id of a duplication that succeeded.")
    ],
) -> None:
    """Print the current differences between the source of a duplication and its copy."""
    out.diff(await client.diff(job_id))


async def _watch(client: GatewayClient, out: Output, job_id: str, after: str | None = None) -> int:
    job: Job | None = None
    try:
        async with aclosing(client.updates(job_id, after)) as events:
            async for event in events:
                out.update(event)
                job = event["job"]
        if job is None:
            # The job ended before the cursor: only its final status is left to report.
            async with aclosing(client.updates(job_id)) as events:
                job = (await anext(events))["job"]
    except (asyncio.CancelledError, GatewayError):
        print_notice(f"Stopped watching job {job_id}; it continues.")
        raise
    return _exit_code(job)


def _exit_code(job: Job) -> int:
    match job["status"]:
        case "SUCCESS":
            return 0
        case "FAILED":
            for error in job["errors"]["nodes"]:
                print_notice(f"Job {job['id']} failed: {error['message']} ({error['code']})")
        case status:
            print_notice(f"Job {job['id']} is {status}.")
    return 1
