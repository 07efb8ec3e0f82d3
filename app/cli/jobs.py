"""The commands that ask a running gateway: duplicate, jobs, cancel."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Annotated, Any

import typer

from app.cli.client import FINAL, GatewayClient, GatewayError, Job, JobStatus
from app.cli.output import Terminal, output, printable

Url = Annotated[
    str, typer.Option(envvar="JOBS_GATEWAY_URL", help="The gateway, with or without /graphql.")
]
Token = Annotated[
    str | None, typer.Option(envvar="JOBS_GATEWAY_TOKEN", help="Bearer token, where one is needed.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
DEFAULT_URL = "http://127.0.0.1:8000"


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
    queued: Job | None = None

    async def work() -> int:
        nonlocal queued
        with output(json=json) as out:
            async with GatewayClient(url, token) as client:
                answer = await client.duplicate(
                    hierarchy_id,
                    name=name,
                    description=description,
                    include_products=include_products,
                    idempotency_key=idempotency_key,
                )
                job = queued = answer["job"]
                if answer["replayed"]:
                    _complain("The idempotency key was used before; this is the job of then.")
                out.job(job, headline=_headline(job))
                if not watch:
                    return 0
                async with aclosing(client.job_updates(job["id"])) as events:
                    async for event in events:
                        out.update(event)
                        job = event["job"]
        if job["status"] == "SUCCESS":
            return 0
        if job["status"] == "CANCELLED":
            _complain(f"Job {job['id']} was cancelled.")
        elif job["status"] == "FAILED":
            errors = job["errors"]["nodes"] if "errors" in job else []
            for error in errors:
                _complain(f"Job {job['id']} failed: {error['message']} ({error['code']})")
            if not errors:
                _complain(f"Job {job['id']} failed.")
        else:
            _complain(f"The gateway stopped telling of job {job['id']}: it was {job['status']}.")
        return 1

    try:
        _run(work())
    except KeyboardInterrupt:
        if queued is not None:
            _complain(
                f"No longer watching. Job {queued['id']} goes on;"
                f" while it is PENDING: jobs-gateway cancel {queued['id']}"
            )
        raise typer.Exit(130) from None


def jobs(
    watch: Annotated[
        bool, typer.Option("--watch", help="Then show what happens, until Ctrl-C.")
    ] = False,
    status: Annotated[
        list[JobStatus] | None,
        typer.Option(
            case_sensitive=False,
            metavar="STATUS",
            help="Only pending, started, success, failed or cancelled ones; may be repeated.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 25,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List the store's jobs, newest first."""
    wanted = status or []
    versions: dict[str, int] = {}

    async def work() -> int:
        with output(json=json) as out:
            async with GatewayClient(url, token) as client:

                async def unseen() -> AsyncIterator[Job]:
                    async for job in client.jobs(status=wanted, limit=limit):
                        if job["version"] > versions.get(job["id"], -1):
                            versions[job["id"]] = job["version"]
                            yield job

                async def show() -> None:
                    await out.jobs(unseen())
                    if not versions:
                        _complain("No jobs.")
                    if isinstance(out, Terminal):
                        cut_at = limit if len(versions) == limit else None
                        out.queue(await client.queue(), cut_at=cut_at)

                if not watch:
                    await show()
                    return 0
                async for event in client.job_events(status=wanted, on_gap=show):
                    job = event["job"]
                    # The list was read after the subscription stood: it may be ahead of an event.
                    is_listed = job["version"] <= versions.get(job["id"], -1)
                    if event["type"] == "PROGRESS" or not is_listed:
                        out.event(event)
        return 0

    try:
        _run(work())
    except KeyboardInterrupt:
        raise typer.Exit(0 if watch else 130) from None


def cancel(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A job that is still PENDING.")],
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Cancel a job that has not started."""

    async def work() -> int:
        with output(json=json) as out:
            async with GatewayClient(url, token) as client:
                job = await client.cancel(job_id)
                out.job(job, headline=f"Job {job['id']} is cancelled.")
        return 0

    _run(work())


def _run(work: Coroutine[Any, Any, int]) -> None:
    """Leaves by typer.Exit; what a user can put right is one line on stderr."""
    try:
        code = asyncio.run(work)
    except GatewayError as error:
        _complain(error.message)
        code = 2 if error.code in ("BAD_URL", "BAD_TOKEN") else 1
    raise typer.Exit(code)


def _headline(job: Job) -> str:
    if job["status"] in FINAL:
        return f"Job {job['id']} is {job['status']}."
    if job["queuePosition"] is None:
        return f"Job {job['id']} has started."
    return f"Queued job {job['id']}, position {job['queuePosition']}."


def _complain(message: str) -> None:
    print(printable(message), file=sys.stderr, flush=True)
