"""Who sends a request: what a bearer token says, once it can be believed."""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from app.api.auth.jwks import SharedSecret, TokenKeys
from app.api.http.refusals import Unauthenticated
from app.domain.callers import EVERY_SCOPE, Caller, Scope, granted
from app.domain.errors import InvalidInput
from app.domain.stores import ORGANIZATION, checked_store

TOKEN_BYTES = 8 * 1024
"""A longer token is refused unread: those of real issuers take a kilobyte or two."""

LEEWAY = timedelta(seconds=10)
"""How far the issuer's clock may be from ours: machines that keep their time are within one."""

SUBJECT_LIMIT = 255

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE | re.ASCII)


class Authentication(ABC):
    """Tells who sends a request."""

    @abstractmethod
    async def caller(self, token: str | None) -> Caller:
        """Whom a request with this token comes from. Raises Unauthenticated."""


class OpenAccess(Authentication):
    """Takes everybody for the same caller, who may do everything in one store."""

    def __init__(self, store: str) -> None:
        self._caller = Caller(store)

    async def caller(self, token: str | None) -> Caller:
        return self._caller


class BearerTokens(Authentication):
    """Believes the JWTs that one issuer made for us and signed with one of these keys."""

    def __init__(self, keys: TokenKeys, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def caller(self, token: str | None) -> Caller:
        if token is None:
            raise Unauthenticated("Say who you are: send a bearer token.", given=False)
        if len(token) > TOKEN_BYTES:
            raise Unauthenticated(f"The token is longer than {TOKEN_BYTES:,} bytes.")
        return _caller_of(await self._claims(token))

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            encoded = token.encode("ascii")
            key = await self._keys.find(jwt.get_unverified_header(encoded).get("kid"))
            return jwt.decode(
                encoded,
                key,
                [key.algorithm_name],
                options={"require": ["exp", "iss", "aud", "sub"]},
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
            )
        except jwt.ExpiredSignatureError:
            reason = "The token has expired."
        except jwt.ImmatureSignatureError:
            reason = "The token is not valid yet."
        except jwt.InvalidIssuerError:
            reason = "The token is from another issuer (iss) than the one trusted here."
        except jwt.InvalidAudienceError:
            reason = "The token is meant for another audience (aud)."
        except jwt.MissingRequiredClaimError as error:
            reason = f"The token lacks the claim {error.claim}."
        except (jwt.PyJWTError, UnicodeError):
            reason = "The token is not valid."
        raise Unauthenticated(reason)


def bearer(header: str | None) -> str | None:
    """The token in the value of an Authorization header. Raises Unauthenticated."""
    if header is None:
        return None
    if found := _BEARER.fullmatch(header.strip(" \t")):
        return found[1]
    raise Unauthenticated("The Authorization header must be the word Bearer and one token.")


def mint(
    secret: str,
    *,
    issuer: str,
    audience: str,
    subject: str,
    store: str | None = None,
    organization: bool = False,
    scopes: Iterable[Scope] = EVERY_SCOPE,
    lifetime: timedelta,
) -> str:
    """A token for a store or the organization. Raises ValueError for one that says nonsense."""
    key = SharedSecret(secret).key
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
        "scope": " ".join(sorted(scopes)),
        **({"organization": True} if organization else {}),
        **({} if store is None else {"store": store}),
    }
    try:
        _caller_of(claims)
    except Unauthenticated as error:
        raise ValueError(str(error)) from None
    return jwt.encode(claims, key)


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    """Whom these claims are about. Raises Unauthenticated for what they cannot mean."""
    return Caller(
        store=_store_in(claims),
        subject=_subject_in(claims),
        scopes=_scopes_in(claims),
        expires_at=_expiry_in(claims),
    )


def _store_in(claims: Mapping[str, Any]) -> str:
    match claims.get("store"), claims.get("organization"):
        case None, True:
            return ORGANIZATION
        case str(store), None | False:
            try:
                return checked_store(store)
            except InvalidInput as error:
                raise Unauthenticated(str(error)) from None
    raise Unauthenticated("The token must have a store, or organization: true, and not both.")


def _subject_in(claims: Mapping[str, Any]) -> str:
    subject = claims["sub"]
    if isinstance(subject, str) and 1 <= len(subject) <= SUBJECT_LIMIT and subject.isprintable():
        return subject
    raise Unauthenticated(
        f"The token's subject (sub) must be 1 to {SUBJECT_LIMIT} printable characters."
    )


def _scopes_in(claims: Mapping[str, Any]) -> frozenset[Scope]:
    """Those that are ours: an issuer may know more."""
    named = claims.get("scope", claims.get("scopes", []))
    if isinstance(named, str):
        named = named.split()
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise Unauthenticated("The token's scope must be names with blanks between, or a list.")
    return granted(scope for scope in Scope if scope in named)


def _expiry_in(claims: Mapping[str, Any]) -> datetime:
    """Until when the token is taken."""
    exp = claims["exp"]
    if isinstance(exp, int | float):
        try:
            return datetime.fromtimestamp(exp, UTC) + LEEWAY
        except (OverflowError, ValueError, OSError):
            pass
    raise Unauthenticated("The token's expiry (exp) must be a date of this calendar, in seconds.")
