"""The commands that ask a running gateway of jobs: duplicate, jobs, watch, cancel, retry, move,
diff."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Annotated

import typer

from app.cli.client.client import GatewayClient, GatewayError, base_url
from app.cli.client.records import Job
from app.cli.output import Output, output, printable
from app.domain.jobs import JobStatus


def _checked_url(url: str) -> str:
    try:
        return base_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _checked_token(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable()):
        raise typer.BadParameter("it has characters that an HTTP header cannot carry.")
    return token


Url = Annotated[
    str,
    typer.Option(
        envvar="JOBS_GATEWAY_URL",
        callback=_checked_url,
        help="The gateway, with or without /graphql.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="JOBS_GATEWAY_TOKEN",
        callback=_checked_token,
        help="Bearer token, where one is needed.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
DEFAULT_URL = "http://127.0.0.1:8000"

STATUS_OF_SIGINT = 130


def duplicate(
    hierarchy_id: Annotated[
        str, typer.Argument(metavar="HIERARCHY_ID", help="The hierarchy to copy.")
    ],
    name: Annotated[str | None, typer.Option(help="The copy's name, if not the source's.")] = None,
    description: Annotated[
        str | None, typer.Option(help="The copy's description, if not the source's; '' for none.")
    ] = None,
    include_products: Annotated[
        bool, typer.Option("--include-products", help="Copy product associations too.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Asked again with the same key, nothing is queued twice.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Queue a deep copy of a hierarchy.

    With --watch the exit code is 0 when the copy is there, 1 when the job failed or was cancelled.
    """

    async def work(client: GatewayClient, out: Output) -> int:
        duplicated = await client.duplicate(
            hierarchy_id,
            name=name,
            description=description,
            includeProducts=include_products,
            idempotencyKey=idempotency_key,
        )
        if duplicated["replayed"]:
            complain("The idempotency key was used before; this is the job of then.")
        job = duplicated["job"]
        if not watch:
            out.job(job)
            return 0
        return await _watch(client, out, job["id"])

    run(work, url, token, json)


def jobs(
    watch: Annotated[
        bool, typer.Option("--watch", help="Then show what happens, until Ctrl-C.")
    ] = False,
    status: Annotated[
        list[JobStatus] | None,
        typer.Option(case_sensitive=False, help="Only these; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 25,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List the store's jobs, newest first."""
    wanted = status or []

    async def work(client: GatewayClient, out: Output) -> int:
        listing = await client.jobs(wanted, limit)
        if not listing.jobs:
            complain("No jobs.")
        out.jobs(listing, limit)
        if watch:
            # Ctrl-C is the way out, not a failure.
            with suppress(asyncio.CancelledError):
                async with aclosing(client.events(listing, wanted)) as events:
                    async for event in events:
                        out.event(event)
        return 0

    run(work, url, token, json)


def watch(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="The job to follow.")],
    after: Annotated[
        str | None,
        typer.Option(help="Begin behind this cursor of an event (--json shows them)."),
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Follow a job to its end.

    The exit code is 0 when it succeeded, 1 when it failed or was cancelled.
    """
    run(lambda client, out: _watch(client, out, job_id, after), url, token, json)


def cancel(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A job that is still PENDING.")],
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Cancel a job that has not started."""

    async def work(client: GatewayClient, out: Output) -> int:
        out.job(await client.cancel(job_id))
        return 0

    run(work, url, token, json)


def retry(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A job that FAILED.")],
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Queue a failed job once more, as a new job behind all others."""

    async def work(client: GatewayClient, out: Output) -> int:
        retried = await client.retry(job_id)
        if retried["replayed"]:
            complain("It is being tried again already, or was with success; this is that job.")
        out.job(retried["job"])
        return 0

    run(work, url, token, json)


def move(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A job that is still PENDING.")],
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Let a pending job be the next to start."""

    async def work(client: GatewayClient, out: Output) -> int:
        out.job(await client.move(job_id))
        return 0

    run(work, url, token, json)


def diff(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A duplication that succeeded.")],
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Tell what differs now between the source of a duplication and its copy."""

    async def work(client: GatewayClient, out: Output) -> int:
        out.diff(await client.diff(job_id))
        return 0

    run(work, url, token, json)


async def _watch(client: GatewayClient, out: Output, job_id: str, after: str | None = None) -> int:
    job: Job | None = None
    try:
        async with aclosing(client.updates(job_id, after)) as events:
            async for event in events:
                out.update(event)
                job = event["job"]
        if job is None:
            # It ended before the cursor: nothing more is told of it but how.
            async with aclosing(client.updates(job_id)) as events:
                job = (await anext(events))["job"]
    except (asyncio.CancelledError, GatewayError):
        complain(f"No longer watching job {job_id}; it goes on without.")
        raise
    return _verdict(job)


def run(
    work: Callable[[GatewayClient, Output], Awaitable[int]],
    url: str,
    token: str | None,
    json: bool,
) -> None:
    """Leaves with the exit code of `work`; what stops it is one line on stderr."""

    async def connected() -> int:
        with output(json=json) as out:
            async with GatewayClient.connected(url, token) as client:
                return await work(client, out)

    try:
        code = asyncio.run(connected())
    except GatewayError as error:
        complain(str(error))
        code = 1
    except KeyboardInterrupt:
        code = STATUS_OF_SIGINT
    raise typer.Exit(code)


def _verdict(job: Job) -> int:
    match job["status"]:
        case "SUCCESS":
            return 0
        case "FAILED":
            for error in job["errors"]["nodes"]:
                complain(f"Job {job['id']} failed: {error['message']} ({error['code']})")
        case status:
            complain(f"Job {job['id']} is {status}.")
    return 1


def complain(message: str) -> None:
    print(printable(message), file=sys.stderr, flush=True)
