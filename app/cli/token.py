"""token: a bearer token for development."""

import re
from datetime import timedelta
from typing import Annotated, NoReturn

import typer

from app.api.auth.identity import mint
from app.cli.flags import read_settings
from app.cli.streams import print_line, print_notice
from app.domain.callers import EVERY_SCOPE, Scope
from app.wiring import claim_names

_LIFETIME = re.compile(r"(\d{1,9})([mhd]?)", re.ASCII)
_UNITS = {"": "minutes", "m": "minutes", "h": "hours", "d": "days"}


def _lifetime(text: str) -> timedelta:
    match = _LIFETIME.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise typer.BadParameter(f"{text!r} is not a number of minutes, or like 30m, 12h or 7d.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def token(
    store: Annotated[
        str | None, typer.Option(help="Store of the token. [JOBS_GATEWAY_STORE, default]")
    ] = None,
    organization: Annotated[
        bool, typer.Option("--organization", help="Token of the organization instead of a store.")
    ] = False,
    subject: Annotated[str, typer.Option(help="Subject (sub) of the token.")] = "developer",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Scope, repeat for several; all by default.")
    ] = None,
    lifetime: Annotated[
        timedelta,
        typer.Option(
            parser=_lifetime, metavar="MINUTES", help="Minutes, or a time such as 30m, 12h or 7d."
        ),
    ] = "12h",  # type: ignore[assignment]  # typer parses defaults too
) -> None:
    """Print a bearer token for a gateway with the same JOBS_GATEWAY_JWT_SECRET.

    Its iss and aud are the first of JOBS_GATEWAY_JWT_ISSUER and JOBS_GATEWAY_JWT_AUDIENCE; set them
    as for the gateway.
    """
    if organization and store is not None:
        _refuse("A token is for a store or for the organization: use --store or --organization.")
    settings = read_settings()
    if settings.jwt_secret is None:
        _refuse(
            "Tokens are signed by the issuer of JOBS_GATEWAY_JWKS, not by this command."
            if settings.jwks
            else "Set JOBS_GATEWAY_JWT_SECRET, for this command and for the gateway, to a secret "
            "from `openssl rand -hex 32`."
        )
    try:
        print_line(
            mint(
                settings.jwt_secret.get_secret_value(),
                issuer=settings.jwt_issuer[0],
                audience=settings.jwt_audience[0],
                subject=subject,
                store=None if organization else settings.store if store is None else store,
                organization=organization,
                scopes=scope or EVERY_SCOPE,
                lifetime=lifetime,
                names=claim_names(settings),
            )
        )
    except ValueError as error:
        _refuse(str(error))


def _refuse(reason: str) -> NoReturn:
    print_notice(reason)
    raise typer.Exit(2)
