"""The command line: run a gateway, fill it, and ask a running one."""

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app import __version__

COMMANDS = {
    "serve": ("app.cli.serve", "serve"),
    "worker": ("app.cli.worker", "worker"),
    "migrate": ("app.cli.migrate", "migrate"),
    "import": ("app.cli.imports", "import_"),
    "duplicate": ("app.cli.jobs", "duplicate"),
    "jobs": ("app.cli.jobs", "jobs"),
    "cancel": ("app.cli.jobs", "cancel"),
    "token": ("app.cli.token", "token"),
    "export-schema": ("app.cli.schema", "export_schema"),
}


class _Commands(TyperGroup):
    """Loads a command when it is used: a client of a running gateway needs no gateway, which
    takes three times as long to load. (Typer has its own click under a private name, hence Any.)"""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name]
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(cmd_name)(getattr(import_module(module), function))
        return typer.main.get_command(alone)


cli = typer.Typer(
    cls=_Commands,
    name="jobs-gateway",
    help="A GraphQL gateway over the jobs of a product catalogue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="The version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The jobs-gateway command."""
    cli()
