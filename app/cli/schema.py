"""export-schema: the GraphQL schema as SDL."""

from pathlib import Path
from typing import Annotated

import typer

from app.api.graphql.schema import schema_text


def export_schema(
    file: Annotated[
        Path | None, typer.Argument(help="Output file; standard output by default.")
    ] = None,
) -> None:
    """Print the GraphQL schema with descriptions."""
    if file is None:
        print(schema_text(), end="")
    else:
        file.write_text(schema_text(), encoding="utf-8")
