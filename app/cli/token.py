"""token: a bearer token for development."""

import re
import sys
from datetime import timedelta
from typing import Annotated, NoReturn

import typer

from app.api.auth.identity import mint
from app.cli.flags import read_settings
from app.domain.callers import EVERY_SCOPE, Scope

_LIFETIME = re.compile(r"(\d{1,9})([mhd]?)", re.ASCII)
_UNITS = {"": "minutes", "m": "minutes", "h": "hours", "d": "days"}


def _lifetime(text: str) -> timedelta:
    found = _LIFETIME.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is neither minutes nor like 30m, 12h or 7d.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def token(
    store: Annotated[
        str | None, typer.Option(help="The store it acts for. [JOBS_GATEWAY_STORE, default]")
    ] = None,
    organization: Annotated[
        bool, typer.Option("--organization", help="It acts for the organization, not for a store.")
    ] = False,
    subject: Annotated[str, typer.Option(help="Who it says to be.")] = "developer",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it allows, once for each; all by default.")
    ] = None,
    lifetime: Annotated[
        timedelta,
        typer.Option(parser=_lifetime, metavar="MINUTES", help="Minutes, or like 30m, 12h, 7d."),
    ] = "12h",  # type: ignore[assignment]  # typer parses defaults too
) -> None:
    """Print a bearer token that a gateway with the same JOBS_GATEWAY_JWT_SECRET takes.

    It is made for JOBS_GATEWAY_JWT_AUDIENCE by JOBS_GATEWAY_JWT_ISSUER, as that gateway has them.
    """
    if organization and store is not None:
        _refuse("A token is for a store or for the organization: give --store or --organization.")
    settings = read_settings()
    if settings.jwt_secret is None:
        _refuse(
            "Tokens come from the issuer whose keys are at JOBS_GATEWAY_JWKS, not from here."
            if settings.jwks
            else "Set JOBS_GATEWAY_JWT_SECRET, here as for the gateway, to a secret that "
            "`openssl rand -hex 32` makes."
        )
    try:
        print(
            mint(
                settings.jwt_secret.get_secret_value(),
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                subject=subject,
                store=None if organization else settings.store if store is None else store,
                organization=organization,
                scopes=scope or EVERY_SCOPE,
                lifetime=lifetime,
            )
        )
    except ValueError as error:
        _refuse(str(error))


def _refuse(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    raise typer.Exit(2)
