"""The commands that steer a running gateway's queue: pause, resume."""

from typing import Annotated

import typer

from app.cli.client.client import GatewayClient
from app.cli.jobs import DEFAULT_URL, Json, Token, Url, run
from app.cli.output import Output


def pause(
    reason: Annotated[str | None, typer.Option(help="Why, for whoever wonders.")] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Start no more jobs of the store; the one that runs goes on, and jobs still queue."""

    async def work(client: GatewayClient, out: Output) -> int:
        out.queue(await client.pause(reason))
        return 0

    run(work, url, token, json)


def resume(json: Json = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Start the store's jobs again."""

    async def work(client: GatewayClient, out: Output) -> int:
        out.queue(await client.resume())
        return 0

    run(work, url, token, json)
