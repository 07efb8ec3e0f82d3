"""Lists of clients that may log in, and their logins."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from app.api.auth.registered_clients import RegisteredClient, edit_clients, hash_secret
from app.domain.callers import EVERY_SCOPE, Scope
from tests.support.tokens import STORE

CLIENT_SECRET = "a secret of a client, with : and + and %20"
HASH = hash_secret(CLIENT_SECRET, b"16 bytes of salt")
"""One hash for all clients of tests, since it takes 0.1 s."""

PASSWORDLESS = {"grant_type": "implicit", "client_id": "web"}
CREDENTIALS = {
    "grant_type": "client_credentials",
    "client_id": "shop",
    "client_secret": CLIENT_SECRET,
}


def registered(id: str, *scopes: Scope, **fields: Any) -> RegisteredClient:
    """Return a client with CLIENT_SECRET and these scopes; without scopes, with all."""
    if not fields.get("organization"):
        fields.setdefault("store", STORE)
    return RegisteredClient(
        id=id, secret_hash=HASH, scopes=tuple(scopes or sorted(EVERY_SCOPE)), **fields
    )


def write_list(path: Path, *clients: RegisteredClient) -> Path:
    """Write a list of exactly these clients."""
    with edit_clients(path) as by_id:
        by_id.clear()
        by_id.update({client.id: client for client in clients})
    return path


def added(path: Path, *arguments: str) -> list[str]:
    """Add a client by the command line. Return its id and secret."""
    ended = subprocess.run(
        [sys.executable, "-m", "app", "client", "add", *arguments, "--clients", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [line.partition("=")[2] for line in ended.stdout.splitlines()]


async def log_in(
    http: httpx.AsyncClient, form: dict[str, str], *, address: str = "192.0.2.1", **options: Any
) -> httpx.Response:
    """Send a login from a network address, as a trusted proxy forwards it."""
    headers = {"X-Forwarded-For": address, **options.pop("headers", {})}
    return await http.post("/oauth/access_token", data=form, headers=headers, **options)
