"""The command line: run a gateway, fill it, and ask a running one."""

import ast
import gc
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from app import __version__

COMMANDS = {
    "serve": ("app.cli.serve", "serve"),
    "worker": ("app.cli.worker", "worker"),
    "migrate": ("app.cli.migrate", "migrate"),
    "import": ("app.cli.imports", "import_"),
    "duplicate": ("app.cli.jobs", "duplicate"),
    "jobs": ("app.cli.jobs", "jobs"),
    "watch": ("app.cli.jobs", "watch"),
    "cancel": ("app.cli.jobs", "cancel"),
    "retry": ("app.cli.jobs", "retry"),
    "move": ("app.cli.jobs", "move"),
    "diff": ("app.cli.jobs", "diff"),
    "pause": ("app.cli.queue", "pause"),
    "resume": ("app.cli.queue", "resume"),
    "webhooks": ("app.cli.webhooks", "webhooks"),
    "doctor": ("app.cli.doctor", "doctor"),
    "token": ("app.cli.token", "token"),
    "export-schema": ("app.cli.schema", "export_schema"),
}


class _Commands(TyperGroup):
    """Loads a command when it is used: a client of a running gateway needs no gateway, which
    takes three times as long to load, and a list of all commands needs none of them. (Typer has
    its own click under a private name, hence Any.)"""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command as lists show it."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=_docstring(*COMMANDS[cmd_name]))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        assert name
        module, function = COMMANDS[name]
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        # Nothing that is loaded is garbage, and to look for some takes a tenth of the time.
        gc.disable()
        command = getattr(import_module(module), function)
        gc.enable()
        alone.command(name)(command)
        return name, typer.main.get_command(alone), rest


def _docstring(module: str, function: str) -> str | None:
    spec = find_spec(module)
    assert spec
    assert spec.origin
    for part in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(part, ast.FunctionDef) and part.name == function:
            return ast.get_docstring(part)
    return None


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
