"""What tokens are signed with: a secret that is shared, or the public keys of an issuer."""

import asyncio
import base64
import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, ProxyHandler, build_opener

import jwt
from jwt import PyJWK

from app.api.http.origins import is_loopback
from app.api.http.refusals import Unauthenticated

log = logging.getLogger(__name__)

SECRET_BYTES = 32
"""As many as the hash has that HS256 signs with (RFC 7518, 3.2)."""

KEY_SET_BYTES = 256 * 1024
READ_SECONDS = 5
FRESH_SECONDS = 300
"""How long a key set is believed before it is read again, so that a key taken out of it ends."""

PAUSE_SECONDS = 30
"""Between two readings at least, so that tokens of unknown keys are no way to flood the issuer."""

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""The one that each type of public key is used for, whatever a token asks for."""


class TokenKeys(ABC):
    """What tokens are signed with; each key is good for one algorithm."""

    @abstractmethod
    async def find(self, kid: str | None) -> PyJWK:
        """The key that a token names, or the only one. Raises Unauthenticated."""


class SharedSecret(TokenKeys):
    """A secret that both who makes tokens and who reads them know: HS256. Raises ValueError."""

    def __init__(self, secret: str) -> None:
        known = secret.encode(errors="surrogateescape")
        if len(known) < SECRET_BYTES:
            raise ValueError(
                f"The secret that signs tokens needs at least {SECRET_BYTES} bytes, "
                f"and this one has {len(known)}."
            )
        k = base64.urlsafe_b64encode(known).decode()
        self.key = PyJWK({"kty": "oct", "k": k}, "HS256")
        try:
            self.key.Algorithm.prepare_key(known)
        except jwt.InvalidKeyError:
            raise ValueError("The secret that signs tokens is a key or certificate.") from None

    async def find(self, kid: str | None) -> PyJWK:
        return self.key


class JwksKeys(TokenKeys):
    """Public keys from a JWKS file or URL, for RS256 and ES256, read again as they change.

    Raises ValueError for a location that cannot be, and for a file without a usable key.
    """

    def __init__(self, location: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._location = location
        self._clock = clock
        self._keys: list[PyJWK] = []
        self._tried_at = self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None
        if not _is_url(location):
            self._keys = self._load()
            self._tried_at = self._read_at = clock()

    async def find(self, kid: str | None) -> PyJWK:
        if self._clock() - self._read_at >= FRESH_SECONDS or not self._named(kid):
            await self._read_again()
        match self._named(kid):
            case [key]:
                return key
        raise Unauthenticated("The token does not name a key that is known here (kid).")

    def _named(self, kid: str | None) -> list[PyJWK]:
        return [key for key in self._keys if kid is None or key.key_id == kid]

    async def _read_again(self) -> None:
        if self._reading is None:
            if self._clock() - self._tried_at < PAUSE_SECONDS:
                return
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(self._read())
        # All who wait share it: that one of them goes away must not end it for the others.
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                self._keys = await asyncio.to_thread(self._load)
            self._read_at = self._clock()
        except TimeoutError:
            log.warning("%s did not answer in %d s", self._location, READ_SECONDS)
        except ValueError as error:
            log.warning("%s", error)
        finally:
            self._reading = None

    def _load(self) -> list[PyJWK]:
        try:
            raw = _fetch(self._location) if _is_url(self._location) else _read_file(self._location)
            if len(raw) > KEY_SET_BYTES:
                raise ValueError(f"it has more than {KEY_SET_BYTES:,} bytes")
            found = json.loads(raw)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"No keys for tokens from {self._location}: {reason}.") from error
        listed = found.get("keys") if isinstance(found, dict) else None
        keys = [_usable(key) for key in listed] if isinstance(listed, list) else []
        if usable := [key for key in keys if key]:
            return usable
        raise ValueError(
            f"No keys for tokens from {self._location}: it is no JWKS with a public key for "
            "RS256 (RSA, 2048 bits or more) or ES256 (P-256)."
        )


def _usable(jwk: Any) -> PyJWK | None:
    """The key, if it is public and made to verify one of our algorithms."""
    match jwk:
        case {"kty": "RSA" | "EC" as kty} if "d" not in jwk:
            algorithm = _ALGORITHMS[kty]
        case _:
            return None
    if jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = PyJWK(jwk, algorithm)
        is_weak = key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key))
    except Exception:  # a key may be malformed in more ways than the libraries have errors for
        return None
    return None if is_weak else key


def _is_url(location: str) -> bool:
    """Whether it is a URL, not a path. Raises ValueError for one that must not be used."""
    url = urlsplit(location)
    if url.scheme not in ("http", "https"):
        return False
    if not url.hostname or "@" in url.netloc:
        raise ValueError(f"{location} needs a host, and neither user nor password.")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError(
            f"{location} must be https: whoever could change keys on their way could make tokens."
        )
    return True


class _Unfollowed(HTTPErrorProcessor):
    """Leaves answers as they are: a redirect would lead where nobody has said keys come from."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


def _fetch(url: str) -> bytes:
    # Plain http is for this machine alone, so a proxy would only carry it out of there.
    proxies = [ProxyHandler({})] if urlsplit(url).scheme == "http" else []
    opener = build_opener(_Unfollowed, *proxies)
    with opener.open(url, timeout=READ_SECONDS) as response:
        if response.status != 200:
            raise ValueError(f"it answered with status {response.status}")
        body: bytes = response.read(KEY_SET_BYTES + 1)
        return body


def _read_file(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(KEY_SET_BYTES + 1)
