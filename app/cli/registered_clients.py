"""client: the list of clients that may log in for tokens."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app.api.auth.login import TOKEN_LIFETIME
from app.api.auth.registered_clients import (
    CLIENT_ID,
    CLIENT_ID_LENGTH,
    RegisteredClient,
    UnusableClients,
    edit_clients,
    new_secret,
    read_clients,
)
from app.cli.flags import option, read_settings
from app.cli.streams import print_json, print_line, print_notice
from app.domain.callers import EVERY_SCOPE, Scope
from app.domain.errors import InvalidInput
from app.domain.stores import checked_store
from app.settings import Settings

group = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

File = Annotated[str | None, option("clients")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@group.callback()
def client() -> None:
    """Manage the clients that may log in at /oauth/access_token."""


def _client_id(name: str) -> str:
    if re.fullmatch(CLIENT_ID, name) is None:
        raise typer.BadParameter(
            f"a name has 1 to {CLIENT_ID_LENGTH} letters, digits, and characters of . _ ~ -"
        )
    return name


Name = Annotated[str, typer.Argument(callback=_client_id, help="Name and id of the client.")]


@group.command()
def add(
    name: Name,
    store: Annotated[
        str | None, typer.Option(help="Store of its tokens. [JOBS_GATEWAY_STORE, default]")
    ] = None,
    organization: Annotated[
        bool, typer.Option("--organization", help="Tokens of the organization instead of a store.")
    ] = False,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Scope, repeat for several; all by default.")
    ] = None,
    implicit: Annotated[
        bool,
        typer.Option(
            "--implicit", help="Let every caller read that has the id, without the secret."
        ),
    ] = False,
    clients: File = None,
    json: Json = False,
) -> None:
    """Add a client, and print its id and its secret.

    The file has only a hash of the secret: it is not shown again. A running gateway reads the file
    at the next login.
    """
    settings, path = _settings_and_file(clients)
    if organization and store is not None:
        _refuse("A client is of a store or of the organization: use --store or --organization.")
    if not organization:
        store = _checked(settings.store if store is None else store)
    secret, secret_hash = new_secret()
    with _reporting(), edit_clients(path) as registered:
        if name in registered:
            raise UnusableClients(f"{path} has a client {name}. Remove it first for a new secret.")
        registered[name] = RegisteredClient(
            id=name,
            secret_hash=secret_hash,
            store=store,
            organization=organization,
            scopes=tuple(sorted(scope or EVERY_SCOPE)),
            implicit=implicit,
        )
    fields = {"client_id": name, "client_secret": secret}
    if json:
        print_json(fields)
    else:
        for field, value in fields.items():
            print_line(f"{field}={value}")


@group.command("list")
def list_(clients: File = None, json: Json = False) -> None:
    """List the clients, without their secrets."""
    _, path = _settings_and_file(clients)
    with _reporting():
        registered = read_clients(path)
    for each in registered.values():
        fields = each.model_dump(mode="json", exclude={"secret_hash"}, exclude_none=True)
        if json:
            print_json(fields)
        else:
            print_line(_line(each))


@group.command()
def remove(name: Name, clients: File = None) -> None:
    """Remove a client: it can no longer log in."""
    _, path = _settings_and_file(clients)
    with _reporting(), edit_clients(path) as registered:
        if registered.pop(name, None) is None:
            raise UnusableClients(f"{path} has no client {name}.")
    hours = TOKEN_LIFETIME.total_seconds() / 3600
    print_notice(f"{name} is removed. Its last tokens expire within {hours:g} h.")


def _line(client: RegisteredClient) -> str:
    owner = "organization" if client.organization else f"store={client.store}"
    words = [client.id, owner, f"scopes={','.join(client.scopes)}"]
    return " ".join([*words, *(["implicit"] if client.implicit else [])])


def _settings_and_file(clients: str | None) -> tuple[Settings, Path]:
    settings = read_settings(clients=clients)
    if settings.clients is None:
        _refuse("Set JOBS_GATEWAY_CLIENTS, for this command and for the gateway, or --clients.")
    return settings, settings.clients


def _checked(store: str) -> str:
    try:
        return checked_store(store)
    except InvalidInput as error:
        _refuse(str(error))


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except UnusableClients as error:
        print_notice(str(error))
        raise typer.Exit(1) from None


def _refuse(reason: str) -> NoReturn:
    print_notice(reason)
    raise typer.Exit(2)
