"""export-schema: the GraphQL schema as SDL."""

from pathlib import Path
from typing import Annotated

import typer

from app.api.graphql.schema import schema_text
from app.cli.streams import print_line


def export_schema(
    file: Annotated[
        Path | None, typer.Argument(help="Output file; standard output by default.")
    ] = None,
) -> None:
    """Print the GraphQL schema with descriptions."""
    if file is None:
        print_line(schema_text().removesuffix("\n"))
    else:
        file.write_text(schema_text(), encoding="utf-8")
