"""Options and execution of the commands that call a running gateway."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from app.cli.client.client import GatewayClient, GatewayError, base_url
from app.cli.output import Output, output, printable

DEFAULT_URL = "http://127.0.0.1:8000"

SIGINT_EXIT_CODE = 130


def _checked_url(url: str) -> str:
    try:
        return base_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _checked_token(token: str | None) -> str | None:
    if token and not (token.isascii() and token.isprintable()):
        raise typer.BadParameter("an HTTP header can only have printable ASCII characters.")
    return token


Url = Annotated[
    str,
    typer.Option(
        envvar="JOBS_GATEWAY_URL",
        callback=_checked_url,
        help="URL of the gateway, with or without /graphql.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="JOBS_GATEWAY_TOKEN",
        callback=_checked_token,
        help="Bearer token, if the gateway needs one.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def run(
    command: Callable[[GatewayClient, Output], Awaitable[int]],
    url: str,
    token: str | None,
    json: bool,
) -> None:
    """Run `command` and exit with its code; print an error as one line to stderr."""

    async def connected() -> int:
        with output(json=json) as out:
            async with GatewayClient.connected(url, token) as client:
                return await command(client, out)

    try:
        code = asyncio.run(connected())
    except GatewayError as error:
        print_notice(str(error))
        code = 1
    except KeyboardInterrupt:
        code = SIGINT_EXIT_CODE
    raise typer.Exit(code)


def print_notice(message: str) -> None:
    """Print a line to stderr, without control characters."""
    print(printable(message), file=sys.stderr, flush=True)
