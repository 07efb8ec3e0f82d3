"""The command line: run a gateway, fill it, and ask a running one."""

from typing import Annotated

import typer

from app import __version__
from app.cli import imports, jobs, schema, serve

cli = typer.Typer(
    name="jobs-gateway",
    help="A GraphQL gateway over the jobs of a product catalogue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command("serve")(serve.serve)
cli.command("import")(imports.import_)
cli.command("duplicate")(jobs.duplicate)
cli.command("jobs")(jobs.jobs)
cli.command("cancel")(jobs.cancel)
cli.command("export-schema")(schema.export_schema)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The jobs-gateway command."""
    cli()
