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
    """Mint a token with these scopes; without scopes, with all."""
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
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def caller(gateway: Gateway, *scopes: Scope, **claims: Any) -> AsyncIterator[GraphQLClient]:
    """Yield a client with a token of these scopes and claims."""
    async with http_client(gateway.url, headers=bearing(token(*scopes, **claims))) as http:
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
        issuer="another-issuer",
        audience="jobs-gateway",
        subject="eve",
        store=STORE,
        lifetime=timedelta(hours=1),
    ),
    "expired": token(lifetime=-LEEWAY - timedelta(seconds=60)),
    "that is too long": "a" * 9000,
}
