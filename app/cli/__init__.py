"""The command line: run a gateway, import data, and call a running gateway.

tests/contract/test_seams.py names the internals of typer that it overrides.
"""

import ast
import gc
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
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
    "client": ("app.cli.registered_clients", "client"),
    "export-schema": ("app.cli.schema", "export_schema"),
}


class _Command(TyperCommand):
    """A command whose text arguments are text: arguments of a process may be any bytes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            values = ctx.params.get(parameter.name)
            for value in values if isinstance(values, list | tuple) else [values]:
                if isinstance(value, str) and not _is_unicode(value):
                    typer.echo(f"{parameter.opts[0]}: it is not UTF-8 text.", err=True)
                    raise typer.Exit(2)
        return rest


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Commands(TyperGroup):
    """Imports a command's module when it is used.

    A client command takes a third of the time to start without the gateway's modules; the list of
    commands needs no module. Typer vendors click under a private name, hence Any.
    """

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        """Return a stub with the help text, for the list of commands."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=_docstring(*COMMANDS[cmd_name]))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        assert name
        module, function = COMMANDS[name]
        # Imports make no garbage; collections take a tenth of their time.
        gc.disable()
        loaded = import_module(module)
        gc.enable()
        return name, command_of(name, getattr(loaded, function), loaded), rest


def command_of(name: str, function: Callable[..., None], module: ModuleType) -> Any:
    """Return a command; a module with a `group` of commands has its callback in COMMANDS."""
    app = getattr(module, "group", None)
    if app is None:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(name)(function)
    for command in app.registered_commands:
        command.cls = _Command
    return typer.main.get_command(app)


def _docstring(module: str, function: str) -> str | None:
    spec = find_spec(module)
    assert spec
    assert spec.origin
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            return ast.get_docstring(node)
    return None


cli = typer.Typer(
    cls=_Commands,
    name="jobs-gateway",
    help="A GraphQL gateway over the jobs of a product catalogue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the `jobs-gateway` command."""
    # Here, since the list of commands needs no module.
    from app.cli.streams import run

    sys.exit(run(cli))
