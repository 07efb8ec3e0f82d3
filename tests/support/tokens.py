"""Bearer tokens: valid ones by store and scope, and invalid ones."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from app.api.auth.identity import LEEWAY, mint
from app.domain.callers import EVERY_SCOPE, Scope
from app.main import Gateway
from tests.support.clients import GraphQLClient, http_client

SECRET = "a secret that only these tests know"

STORE = "alpha"


def token(
    *scopes: Scope,
    store: str | None = STORE,
    subject: str = "ada",
    lifetime: timedelta = timedelta(hours=1),
) -> str:
    """A token with these scopes, with all where none is given."""
    return mint(
        SECRET,
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject=subject,
        store=store,
        organization=store is None,
        scopes=scopes or EVERY_SCOPE,
        lifetime=lifetime,
    )


def bearing(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def caller(gateway: Gateway, *scopes: Scope, **said: Any) -> AsyncIterator[GraphQLClient]:
    """A client with a token of its own."""
    async with http_client(gateway.url, headers=bearing(token(*scopes, **said))) as http:
        yield GraphQLClient(http)


BAD_TOKENS = {
    "no JWT": "abc",
    "of another secret": mint(
        SECRET + "!",
        issuer="jobs-gateway",
        audience="jobs-gateway",
        subject="eve",
        store=STORE,
        lifetime=timedelta(hours=1),
    ),
    "of another issuer": mint(
        SECRET,
        issuer="somebody",
        audience="jobs-gateway",
        subject="eve",
        store=STORE,
        lifetime=timedelta(hours=1),
    ),
    "expired": token(lifetime=-LEEWAY - timedelta(seconds=60)),
    "that is too long": "a" * 9000,
}
