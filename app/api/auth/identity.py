"""Authentication of callers by bearer tokens (JWT)."""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

from app.api.auth.jwks import SharedSecret, TokenKeys
from app.api.http.refusals import Unauthenticated
from app.domain.callers import EVERY_SCOPE, Caller, Scope, with_implied_scopes
from app.domain.errors import InvalidInput
from app.domain.stores import ORGANIZATION, checked_store

MAX_TOKEN_BYTES = 8 * 1024
"""A longer token is refused without decoding it; real issuers' tokens have 1 to 2 KiB."""

LEEWAY = timedelta(seconds=10)
"""Accepted clock difference to the issuer. Clocks kept by NTP differ by less than 1 s."""

MAX_SUBJECT_LENGTH = 255

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE | re.ASCII)


class Authentication(ABC):
    """A way to find a request's caller."""

    @abstractmethod
    async def caller(self, token: str | None) -> Caller:
        """Return the caller that a token identifies. Raises Unauthenticated."""


class OpenAccess(Authentication):
    """No authentication: every request has the same caller, with all scopes in one store."""

    def __init__(self, store: str) -> None:
        self._caller = Caller(store)

    async def caller(self, token: str | None) -> Caller:
        return self._caller


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Names of the claims that issuers call differently; dots lead into objects."""

    scopes: Sequence[str] = ("scope", "scopes", "scp")
    """The first one that a token has counts."""
    store: str = "store"


class BearerTokens(Authentication):
    """Authentication by JWTs for one of `audiences`.

    A token must be signed with a key of its own issuer (iss).
    """

    def __init__(
        self,
        issuers: Mapping[str, TokenKeys],
        *,
        audiences: Collection[str],
        names: ClaimNames = ClaimNames(),
    ) -> None:
        self._issuers = issuers
        self._audiences = audiences
        self._names = names
        self._shared_keys: TokenKeys | None = None
        match list({id(keys): keys for keys in issuers.values()}.values()):
            case [keys]:
                self._shared_keys = keys

    async def caller(self, token: str | None) -> Caller:
        if token is None:
            raise Unauthenticated("Authentication required: send a bearer token.", token_sent=False)
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated(f"The token is longer than {MAX_TOKEN_BYTES:,} bytes.")
        return _caller_from_claims(await self._claims(token), self._names)

    async def _claims(self, token: str) -> Mapping[str, object]:
        try:
            encoded = token.encode("ascii")
            keys = self._shared_keys or self._issuers.get(_stated_issuer(encoded))
            if keys is None:
                raise jwt.InvalidIssuerError
            key = await keys.find(jwt.get_unverified_header(encoded).get("kid"))
            return jwt.decode(
                encoded,
                key,
                [key.algorithm_name],
                options={"require": ["exp", "iss", "aud", "sub"]},
                issuer=list(self._issuers),
                audience=self._audiences,
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
    """Return the token of an Authorization header. Raises Unauthenticated."""
    if header is None:
        return None
    if match := _BEARER.fullmatch(header.strip(" \t")):
        return match[1]
    raise Unauthenticated("The Authorization header must be 'Bearer' and one token.")


def _stated_issuer(token: bytes) -> str:
    """Read `iss` before the signature is verified, to choose the issuer's own keys."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return str(claims.get("iss"))


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
    names: ClaimNames = ClaimNames(),
) -> str:
    """Sign a token for a store or the organization. Raises ValueError for invalid claims."""
    key = SharedSecret(secret).key
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
        names.scopes[0]: " ".join(sorted(scopes)),
        **({"organization": True} if organization else {}),
        **({} if store is None else {names.store: store}),
    }
    try:
        _caller_from_claims(claims, names)
    except Unauthenticated as error:
        raise ValueError(str(error)) from None
    return jwt.encode(claims, key)


def _caller_from_claims(claims: Mapping[str, object], names: ClaimNames) -> Caller:
    """Raises Unauthenticated for invalid claims."""
    return Caller(
        store=_store_claim(claims, names.store),
        subject=_subject_claim(claims),
        scopes=_scope_claim(claims, names.scopes),
        expires_at=_expiry_claim(claims),
    )


def _claim(claims: Mapping[str, object], name: str) -> object:
    """Return the claim of this name, or that to which its dots lead; None without it.

    Names may have dots themselves, as https://shop.example/store has.
    """
    if name in claims:
        return claims[name]
    for at, character in enumerate(name):
        if character == "." and isinstance(inner := claims.get(name[:at]), dict):
            value = _claim(inner, name[at + 1 :])
            if value is not None:
                return value
    return None


def _store_claim(claims: Mapping[str, object], name: str) -> str:
    match _claim(claims, name), claims.get("organization"):
        case None, True:
            return ORGANIZATION
        case str(store), None | False:
            try:
                return checked_store(store)
            except InvalidInput as error:
                raise Unauthenticated(str(error)) from None
    raise Unauthenticated(f"The token must have a {name}, or organization: true, and not both.")


def _subject_claim(claims: Mapping[str, object]) -> str:
    subject = claims["sub"]
    if (
        isinstance(subject, str)
        and 1 <= len(subject) <= MAX_SUBJECT_LENGTH
        and subject.isprintable()
    ):
        return subject
    raise Unauthenticated(
        f"The token's subject (sub) must be 1 to {MAX_SUBJECT_LENGTH} printable characters."
    )


def _scope_claim(claims: Mapping[str, object], claim_names: Sequence[str]) -> frozenset[Scope]:
    """Unknown scopes are ignored: an issuer may serve other applications."""
    values = (_claim(claims, name) for name in claim_names)
    names = next((value for value in values if value is not None), [])
    if isinstance(names, str):
        names = names.split()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unauthenticated("The token's scope must be a list, or names separated by spaces.")
    return with_implied_scopes(scope for scope in Scope if scope in names)


def _expiry_claim(claims: Mapping[str, object]) -> datetime:
    """Return the time from which the token is refused: its expiry plus LEEWAY."""
    exp = claims["exp"]
    if isinstance(exp, int | float):
        try:
            return datetime.fromtimestamp(exp, UTC) + LEEWAY
        except (OverflowError, ValueError, OSError):
            pass
    raise Unauthenticated("The token's expiry (exp) must be a date in Unix seconds.")
