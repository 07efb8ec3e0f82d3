"""Keys that sign tokens: a shared secret (HS256), or an issuer's key set (JWKS)."""

import asyncio
import base64
import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, ProxyHandler, Request, build_opener

import jwt
from jwt import PyJWK

from app.api.http.origins import is_loopback
from app.api.http.refusals import Unauthenticated

log = logging.getLogger(__name__)

MIN_SECRET_BYTES = 32
"""The size of HS256's hash: RFC 7518, 3.2 requires at least that."""

MAX_KEY_SET_BYTES = 256 * 1024
LOAD_TIMEOUT_SECONDS = 5
MAX_AGE_SECONDS = 300
"""A key set is loaded again after this time, so that a withdrawn key stops being valid."""

MIN_LOAD_INTERVAL_SECONDS = 30
"""Min time between two loads: tokens with unknown keys must not flood the issuer."""

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""The only algorithm accepted per type of public key; the token's `alg` does not choose it."""


class TokenKeys(ABC):
    """Keys that verify tokens; each key has one algorithm."""

    @abstractmethod
    async def find(self, kid: str | None) -> PyJWK:
        """Return the key with the id `kid`, or the only key. Raises Unauthenticated."""


class SharedSecret(TokenKeys):
    """Shared HS256 secret. Raises ValueError if it is too short or a certificate."""

    def __init__(self, secret: str) -> None:
        raw = secret.encode(errors="surrogateescape")
        if len(raw) < MIN_SECRET_BYTES:
            raise ValueError(
                f"The secret that signs tokens needs at least {MIN_SECRET_BYTES} bytes, "
                f"and this one has {len(raw)}."
            )
        k = base64.urlsafe_b64encode(raw).decode()
        self.key = PyJWK({"kty": "oct", "k": k}, "HS256")
        try:
            self.key.Algorithm.prepare_key(raw)
        except jwt.InvalidKeyError:
            raise ValueError("The secret that signs tokens is a key or certificate.") from None

    async def find(self, kid: str | None) -> PyJWK:
        return self.key


class JwksKeys(TokenKeys):
    """Public RS256 and ES256 keys from a JWKS file or URL, loaded again as they change.

    Raises ValueError for an invalid location, and for a file without a usable key.
    """

    def __init__(self, location: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._location = location
        self._clock = clock
        self._keys: list[PyJWK] = []
        self._tried_at = self._loaded_at = -math.inf
        self._loading: asyncio.Task[None] | None = None
        if not _is_url(location):
            self._keys = self._load()
            self._tried_at = self._loaded_at = clock()

    async def find(self, kid: str | None) -> PyJWK:
        if self._clock() - self._loaded_at >= MAX_AGE_SECONDS or not self._matching(kid):
            await self._reload()
        match self._matching(kid):
            case [key]:
                return key
        raise Unauthenticated("The token does not name a known key (kid).")

    def _matching(self, kid: str | None) -> list[PyJWK]:
        return [key for key in self._keys if kid is None or key.key_id == kid]

    async def _reload(self) -> None:
        if self._loading is None:
            if self._clock() - self._tried_at < MIN_LOAD_INTERVAL_SECONDS:
                return
            self._tried_at = self._clock()
            self._loading = asyncio.create_task(self._load_in_thread())
        # Callers share one load: the cancellation of one must not end it for the others.
        await asyncio.shield(self._loading)

    async def _load_in_thread(self) -> None:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                self._keys = await asyncio.to_thread(self._load)
            self._loaded_at = self._clock()
        except TimeoutError:
            log.warning("%s did not respond within %d s", self._location, LOAD_TIMEOUT_SECONDS)
        except ValueError as error:
            log.warning("%s", error)
        finally:
            self._loading = None

    def _load(self) -> list[PyJWK]:
        try:
            raw = _fetch(self._location) if _is_url(self._location) else _read_file(self._location)
            if len(raw) > MAX_KEY_SET_BYTES:
                raise ValueError(f"it has more than {MAX_KEY_SET_BYTES:,} bytes")
            key_set = json.loads(raw)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"No keys for tokens from {self._location}: {reason}.") from error
        jwks = key_set.get("keys") if isinstance(key_set, dict) else None
        keys = [_usable_key(jwk) for jwk in jwks] if isinstance(jwks, list) else []
        if usable := [key for key in keys if key]:
            return usable
        raise ValueError(
            f"No keys for tokens from {self._location}: it is not a JWKS with a public key for "
            "RS256 (RSA, 2048 bits or more) or ES256 (P-256)."
        )


def _usable_key(jwk: object) -> PyJWK | None:
    """Return the key if it is public and verifies RS256 or ES256, else None."""
    if not isinstance(jwk, dict) or "d" in jwk:
        return None
    match jwk.get("kty"):
        case "RSA" | "EC" as kty:
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
    except Exception:  # malformed keys raise more exceptions than the libraries document
        return None
    return None if is_weak else key


def _is_url(location: str) -> bool:
    """Return True for a URL, False for a path. Raises ValueError for an unsafe URL."""
    url = urlsplit(location)
    if url.scheme not in ("http", "https"):
        return False
    if not url.hostname or "@" in url.netloc:
        raise ValueError(f"{location} needs a host, without user and password.")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError(
            f"{location} must be https: anyone who changes keys in transit can sign tokens."
        )
    return True


class _NoRedirects(HTTPErrorProcessor):
    """Return responses unchanged: a redirect would load keys from a URL that is not configured."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


def _fetch(url: str) -> bytes:
    # Plain http is allowed on loopback only, and a proxy would send it to another machine.
    proxies = [ProxyHandler({})] if urlsplit(url).scheme == "http" else []
    opener = build_opener(_NoRedirects, *proxies)
    with opener.open(url, timeout=LOAD_TIMEOUT_SECONDS) as response:
        if response.status != 200:
            raise ValueError(f"the response has status {response.status}")
        body: bytes = response.read(MAX_KEY_SET_BYTES + 1)
        return body


def _read_file(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_KEY_SET_BYTES + 1)
