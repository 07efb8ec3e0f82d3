"""The commands for the queue: pause, resume."""

from typing import Annotated

import typer

from app.cli.client.client import GatewayClient
from app.cli.client_command import client_command
from app.cli.output import Output


@client_command
async def pause(
    client: GatewayClient,
    out: Output,
    reason: Annotated[str | None, typer.Option(help="Reason, shown with the queue.")] = None,
) -> None:
    """Pause the store's queue: the running job continues, and new jobs wait."""
    out.queue(await client.pause(reason))


@client_command
async def resume(client: GatewayClient, out: Output) -> None:
    """Resume the store's queue."""
    out.queue(await client.resume())
