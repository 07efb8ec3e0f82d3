"""Options and execution of the commands that call a running gateway."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import Signature, signature
from typing import Annotated, Concatenate, ParamSpec

import typer

from app.cli.client.client import GatewayClient, GatewayError, base_url
from app.cli.output import Output, output
from app.cli.streams import print_notice

P = ParamSpec("P")

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


def client_command(
    command: Callable[Concatenate[GatewayClient, Output, P], Awaitable[int | None]],
) -> Callable[..., None]:
    """Decorate a command: pass it a client and its output, and add --json, --url and --token.

    It returns its exit code, or None for 0. A GatewayError ends it with 1 and one line on stderr.
    """

    @wraps(command)
    def with_options(
        json: bool, url: str, token: str | None, *args: P.args, **own: P.kwargs
    ) -> None:
        _run(lambda client, out: command(client, out, *args, **own), json, url, token)

    _client, _out, *own_options = signature(command).parameters.values()
    _command, *shared_options = signature(_run).parameters.values()
    with_options.__signature__ = Signature(  # type: ignore[attr-defined]
        [*own_options, *shared_options]
    )
    return with_options


def _run(
    command: Callable[[GatewayClient, Output], Awaitable[int | None]],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    url: Annotated[
        str,
        typer.Option(
            envvar="JOBS_GATEWAY_URL",
            callback=_checked_url,
            help="URL of the gateway, with or without /graphql.",
        ),
    ] = DEFAULT_URL,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="JOBS_GATEWAY_TOKEN",
            callback=_checked_token,
            help="Bearer token, if the gateway needs one.",
        ),
    ] = None,
) -> None:
    async def connected() -> int | None:
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
    raise typer.Exit(code or 0)
