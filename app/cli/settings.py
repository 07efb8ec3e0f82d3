"""Settings from flags and the environment, or every mistake in them at once."""

import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.settings import Settings

DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="[DATABASE_URL, sqlite:///jobs-gateway.db in the working folder]"),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        min=1, max=64, help="Stores whose jobs run side by side. [JOBS_GATEWAY_CONCURRENCY, 8]"
    ),
]
RetentionDays = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Days that ended jobs and events are kept; 0: for ever. "
        "[JOBS_GATEWAY_RETENTION_DAYS, 30]",
    ),
]


def read_settings(**flags: Any) -> Settings:
    """The settings, where a flag that is not None wins. Ends the command with 2 on a mistake."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        for mistake in error.errors(include_url=False):
            # Named as in the environment: the flag is the same in small letters.
            (setting,) = map(str, mistake["loc"])
            name = setting if setting.isupper() else f"JOBS_GATEWAY_{setting.upper()}"
            told = "" if setting == "jwt_secret" else f" (it is {mistake['input']!r})"
            print(f"{name}: {mistake['msg']}{told}", file=sys.stderr)
        raise typer.Exit(2) from None
