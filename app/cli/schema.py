"""export-schema: what the gateway speaks, as SDL."""

from pathlib import Path
from typing import Annotated

import typer

from app.api.graphql.schema import printed


def export_schema(
    file: Annotated[
        Path | None, typer.Argument(help="Where to write it; standard output by default.")
    ] = None,
) -> None:
    """Print the GraphQL schema, descriptions included."""
    if file is None:
        print(printed(), end="")
    else:
        file.write_text(printed(), encoding="utf-8")
