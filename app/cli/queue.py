"""The commands for the queue: pause, resume."""

from typing import Annotated

import typer

from app.cli.client.client import GatewayClient
from app.cli.client_command import DEFAULT_URL, Json, Token, Url, run
from app.cli.output import Output


def pause(
    reason: Annotated[str | None, typer.Option(help="Reason, shown with the queue.")] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Pause the store's queue: the running job continues, and new jobs wait."""

    async def command(client: GatewayClient, out: Output) -> int:
        out.queue(await client.pause(reason))
        return 0

    run(command, url, token, json)


def resume(json: Json = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Resume the store's queue."""

    async def command(client: GatewayClient, out: Output) -> int:
        out.queue(await client.resume())
        return 0

    run(command, url, token, json)
