"""Keys that sign tokens: a shared secret (HS256), or an issuer's key set (JWKS)."""

import asyncio
import base64
import json
import logging
import math
import os
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jwt
from jwt import PyJWK

from app.api.http.refusals import KeysUnavailable, Unauthenticated
from app.domain.display import shown_url
from app.domain.proxies import is_loopback, proxy_for

log = logging.getLogger(__name__)

MIN_SECRET_BYTES = 32
"""The size of HS256's hash: RFC 7518, 3.2 requires at least that."""

MAX_KEY_SET_BYTES = 256 * 1024
LOAD_TIMEOUT_SECONDS = 5
"""Deadline of a load, from name resolution to the last byte."""
REFRESH_SECONDS = 300
"""A key set is loaded again after this time, so that a withdrawn key stops being valid."""

MAX_AGE_SECONDS = 3600
"""Default age after which no key is accepted, though its issuer does not answer."""

MIN_LOAD_INTERVAL_SECONDS = 30
"""Min time between two loads: tokens with unknown keys must not flood the issuer."""

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""The only algorithm accepted per type of public key; the token's `alg` does not choose it."""


class TokenKeys(ABC):
    """Keys that verify tokens; each key has one algorithm."""

    @abstractmethod
    async def find(self, kid: str | None) -> PyJWK:
        """Return the key with the id `kid`, or the only key.

        Raises Unauthenticated, or KeysUnavailable if no key is accepted now.
        """


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

    Keys that are REFRESH_SECONDS old are loaded again while they still verify tokens. After
    `max_age_seconds` without a successful load no key is accepted: it may have been withdrawn.
    Raises ValueError for an invalid location, and for a file without a usable key.
    """

    def __init__(
        self,
        location: str,
        *,
        max_age_seconds: float = MAX_AGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A path may be a URL by mistake, of another scheme, with a password in it.
        self._shown = shown_url(location)
        self._max_age = max_age_seconds
        self._refresh_after = min(REFRESH_SECONDS, max_age_seconds / 2)
        self._clock = clock
        self._keys: list[PyJWK] = []
        self._tried_at = self._loaded_at = -math.inf
        self._loading: asyncio.Task[None] | None = None
        if _is_url(location):
            self._source: _Source = _UrlSource(location)
        else:
            self._source = _FileSource(location)
            with self._naming_location():
                self._keys = _key_set(self._source.read_now())
            self._tried_at = self._loaded_at = clock()

    async def find(self, kid: str | None) -> PyJWK:
        if self._age() >= self._refresh_after:
            self._start_loading()
        if not self._matching(kid):
            self._start_loading()
            if self._loading:
                # Callers share one load: the cancellation of one must not end it for the others.
                await asyncio.shield(self._loading)
        match self._matching(kid):
            case [key]:
                return key
        if self._age() >= self._max_age:
            raise KeysUnavailable(MIN_LOAD_INTERVAL_SECONDS)
        raise Unauthenticated("The token does not name a known key (kid).")

    def _age(self) -> float:
        return self._clock() - self._loaded_at

    def _matching(self, kid: str | None) -> list[PyJWK]:
        if self._age() >= self._max_age:
            return []
        return [key for key in self._keys if kid is None or key.key_id == kid]

    def _start_loading(self) -> None:
        """Load in the background, unless a load runs or the last one began a moment ago."""
        if self._loading is None and self._clock() - self._tried_at >= MIN_LOAD_INTERVAL_SECONDS:
            self._tried_at = self._clock()
            self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        began = self._clock()
        try:
            with self._naming_location():
                async with asyncio.timeout(LOAD_TIMEOUT_SECONDS):
                    raw = await self._source.read()
                self._keys = await asyncio.to_thread(_key_set, raw)
            # A key's age counts from when it was certainly valid.
            self._loaded_at = began
        except ValueError as error:
            log.warning("%s", error)
        finally:
            self._loading = None

    @contextmanager
    def _naming_location(self) -> Iterator[None]:
        """Convert errors of a load to ValueError with the location and the reason."""
        try:
            yield
        except TimeoutError:
            reason = f"it did not respond within {LOAD_TIMEOUT_SECONDS} s"
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
            reason = _reason(error)
        else:
            return
        raise ValueError(f"No keys for tokens from {self._shown}: {reason.rstrip('.')}.")


class _Source(ABC):
    """The document of a key set."""

    @abstractmethod
    async def read(self) -> bytes:
        """Read at most MAX_KEY_SET_BYTES. Raises ValueError, OSError, httpx.HTTPError."""


class _FileSource(_Source):
    """A file. A file system that hangs holds one thread, not one per load."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._reading: asyncio.Future[bytes] | None = None

    def read_now(self) -> bytes:
        with self._path.open("rb") as file:
            return _bounded(file.read(MAX_KEY_SET_BYTES + 1))

    async def read(self) -> bytes:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(None, self.read_now)
        return await asyncio.shield(self._reading)


class _UrlSource(_Source):
    """A URL, requested on the event loop: giving up closes the connection and leaves no thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        # The machine's certificate authorities, as for other programs, rather than httpx's own.
        self._authorities = ssl.create_default_context()
        # Reported at start rather than at the first token.
        proxy_for(url, os.environ)

    async def read(self) -> bytes:
        proxy = proxy_for(self._url, os.environ)
        transport = httpx.AsyncHTTPTransport(
            verify=self._authorities, proxy=proxy.url if proxy else None
        )
        async with (
            httpx.AsyncClient(transport=transport, timeout=LOAD_TIMEOUT_SECONDS) as client,
            # A redirect would load keys from a URL that is not configured.
            client.stream("GET", self._url, follow_redirects=False) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"the response has status {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += _bounded(chunk, len(body))
            return bytes(body)


def _bounded(chunk: bytes, length: int = 0) -> bytes:
    if length + len(chunk) > MAX_KEY_SET_BYTES:
        raise ValueError(f"it has more than {MAX_KEY_SET_BYTES:,} bytes")
    return chunk


def _reason(error: Exception) -> str:
    """Return the operating system's reason if there is one, else the error's text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _key_set(raw: bytes) -> list[PyJWK]:
    """Return the usable keys of a JWKS. Raises ValueError without any."""
    key_set = json.loads(raw)
    jwks = key_set.get("keys") if isinstance(key_set, dict) else None
    keys = [_usable_key(jwk) for jwk in jwks] if isinstance(jwks, list) else []
    if usable := [key for key in keys if key]:
        return usable
    raise ValueError(
        "it is not a JWKS with a public key for RS256 (RSA, 2048 bits or more) or ES256 (P-256)"
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
    # Entra publishes keys without `alg`.
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
    try:
        url = urlsplit(location)
        _ = url.port
    except ValueError:
        raise ValueError(f"{shown_url(location)} is not a valid URL.") from None
    if url.scheme not in ("http", "https"):
        return False
    shown = shown_url(location)
    if not url.hostname or "@" in url.netloc:
        raise ValueError(f"{shown} needs a host, without user and password.")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError(
            f"{shown} must be https: anyone who changes keys in transit can sign tokens."
        )
    return True
