"""Logins of clients: a bearer token for a client's id and secret (RFC 6749)."""

import hmac
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from app.api.auth.identity import LEEWAY
from app.api.auth.registered_clients import ClientRegistry, RegisteredClient, SecretVerifier
from app.api.http.refusals import BadRequest
from app.domain.callers import Caller, Scope, with_implied_scopes
from app.domain.stores import ORGANIZATION

TOKEN_LIFETIME = timedelta(hours=1)
"""The vendor's own; its clients log in again when it has passed."""

OPEN_TOKEN = "no-authentication-here"
"""The token of a gateway without authentication, which ignores tokens."""

READ_SCOPES = frozenset({Scope.HIERARCHIES_READ, Scope.JOBS_READ})

CHALLENGE = 'Basic realm="jobs-gateway", charset="UTF-8"'


class GrantType(StrEnum):
    """A way to log in."""

    CLIENT_CREDENTIALS = "client_credentials"
    IMPLICIT = "implicit"
    """With the id alone, from web pages: the vendor's name, unlike that of RFC 6749."""


class LoginErrorCode(StrEnum):
    """An error code of RFC 6749, sections 4.1.2.1 and 5.2."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_SCOPE = "invalid_scope"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


class LoginRefused(BadRequest):
    """A login that yields no token.

    RFC 6749 restricts the message to ASCII without quotes and backslashes: it repeats no input.
    """

    def __init__(self, error: LoginErrorCode, message: str) -> None:
        unauthorized = error is LoginErrorCode.INVALID_CLIENT
        super().__init__(
            message,
            status=401 if unauthorized else 400,
            headers={"WWW-Authenticate": CHALLENGE} if unauthorized else None,
        )
        self.error = error


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """The credentials of a client, and the scopes that it requests."""

    grant_type: GrantType
    client_id: str
    client_secret: str | None
    scopes: frozenset[str]
    """Names of scopes; empty requests all scopes of the client."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, the caller that it identifies, and its expiry in Unix seconds."""

    token: str
    caller: Caller
    expires: int


class TokenSigner(Protocol):
    """Signs a token (`identity.mint` with the gateway's secret and names)."""

    def __call__(
        self,
        *,
        subject: str,
        store: str | None,
        organization: bool,
        scopes: Iterable[Scope],
        lifetime: timedelta,
    ) -> str: ...


class Login(ABC):
    """The way in which the clients of a gateway get tokens."""

    @abstractmethod
    async def token(self, request: LoginRequest, address: str) -> IssuedToken:
        """Issue a token. Raises LoginRefused, and BadRequest (429) for too many attempts."""


class OpenLogin(Login):
    """Logins to a gateway without authentication, which accepts every client."""

    def __init__(self, store: str) -> None:
        self._caller = Caller(store)

    async def token(self, request: LoginRequest, address: str) -> IssuedToken:
        return IssuedToken(OPEN_TOKEN, self._caller, _expiry())


class NoLogin(Login):
    """Logins to a gateway that issues no tokens, with the reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def token(self, request: LoginRequest, address: str) -> IssuedToken:
        raise LoginRefused(LoginErrorCode.UNSUPPORTED_GRANT_TYPE, self._reason)


class ClientLogin(Login):
    """Logins of registered clients, whose tokens are signed with the gateway's secret."""

    def __init__(self, registry: ClientRegistry, sign: TokenSigner) -> None:
        self._registry = registry
        self._verifier = SecretVerifier()
        self._sign = sign
        self._address_key = secrets.token_bytes(32)

    async def token(self, request: LoginRequest, address: str) -> IssuedToken:
        client = await self._registry.find(request.client_id)
        match request.grant_type:
            case GrantType.CLIENT_CREDENTIALS:
                client = await self._with_secret(client, request.client_secret, address)
                subject, scopes = client.id, with_implied_scopes(client.scopes)
            case GrantType.IMPLICIT:
                if client is None or not client.implicit:
                    raise LoginRefused(
                        LoginErrorCode.INVALID_CLIENT,
                        "No client with this id may log in without a secret.",
                    )
                # Limits per subject must not let one visitor of a page exhaust those of all.
                visitor = hmac.digest(self._address_key, address.encode(), "sha256").hex()[:16]
                subject = f"{client.id}/{visitor}"
                scopes = with_implied_scopes(client.scopes) & READ_SCOPES
        return self._issue(client, subject, _requested(request.scopes, scopes))

    async def _with_secret(
        self, client: RegisteredClient | None, secret: str | None, address: str
    ) -> RegisteredClient:
        if secret is None:
            raise LoginRefused(LoginErrorCode.INVALID_CLIENT, "The client_secret is missing.")
        if not await self._verifier.verify(client, secret, address) or client is None:
            raise LoginRefused(
                LoginErrorCode.INVALID_CLIENT, "The client_id or client_secret is wrong."
            )
        return client

    def _issue(
        self, client: RegisteredClient, subject: str, scopes: frozenset[Scope]
    ) -> IssuedToken:
        # Before the token is minted: clients must not use it after its own expiry.
        expires = _expiry()
        token = self._sign(
            subject=subject,
            store=client.store,
            organization=client.organization,
            scopes=scopes,
            lifetime=TOKEN_LIFETIME,
        )
        store = ORGANIZATION if client.store is None else client.store
        expires_at = datetime.fromtimestamp(expires, UTC) + LEEWAY
        return IssuedToken(token, Caller(store, subject, scopes, expires_at), expires)


def _expiry() -> int:
    return int(time.time() + TOKEN_LIFETIME.total_seconds())


def _requested(names: frozenset[str], allowed: frozenset[Scope]) -> frozenset[Scope]:
    """Return the requested scopes, all allowed ones by default. Raises LoginRefused."""
    if not names <= allowed:
        raise LoginRefused(
            LoginErrorCode.INVALID_SCOPE,
            f"This login is limited to the scopes {' '.join(sorted(allowed))}.",
        )
    return frozenset(scope for scope in allowed if scope in names) if names else allowed
