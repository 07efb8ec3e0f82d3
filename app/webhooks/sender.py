"""The webhook sender: one HTTP request to an allowed address."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from ipaddress import ip_address
from socket import SOCK_STREAM
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpcore

from app import __version__
from app.domain.webhooks import Address, AddressNotAllowed, DeliveryResponse, Network, check_address

TIMEOUT_SECONDS = 10.0
"""Timeout of an attempt, from name resolution to the response's status."""

MAX_REASON_LENGTH = 200
BUSY_STATUSES = (429, 503)
"""Statuses whose Retry-After is honoured."""

DEFAULT_PORTS = {"http": 80, "https": 443}

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Resolve a host name with this machine's resolver. Raises OSError."""
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(str(error)) from None
    return list(dict.fromkeys(ip_address(address[0]) for *_, address in infos))


class Sender:
    """Posts to receivers, each time with a new connection.

    The sender resolves the host name, checks all its addresses, and connects to a checked one: DNS
    rebinding has no effect. It follows no redirects, uses no proxies of the environment, and reads
    only the head of the response.
    """

    def __init__(
        self,
        networks: Collection[Network],
        *,
        resolve: Resolver = resolve,
        trusted: ssl.SSLContext | None = None,
        seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._networks = networks
        self._resolve = resolve
        self._seconds = seconds
        # Connections are not reused: httpcore pools them by address, which several names may share.
        self._connections = httpcore.AsyncConnectionPool(
            ssl_context=trusted, max_connections=None, max_keepalive_connections=0
        )

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connections.__aexit__(type, error, traceback)

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> DeliveryResponse:
        """Send a request. Return the receiver's response, or the reason for its absence."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(url, headers, body)
        except (TimeoutError, httpcore.TimeoutException):
            return DeliveryResponse(None, f"no response within {self._seconds:g} seconds")
        except AddressNotAllowed as error:
            return DeliveryResponse(None, str(error))
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            reason = str(error) or type(error).__name__
            return DeliveryResponse(None, reason[:MAX_REASON_LENGTH])

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> DeliveryResponse:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        addresses = await self._resolve(host, port)
        for address in addresses:
            check_address(address, parts.scheme, self._networks)
        for address in addresses:
            try:
                async with self._connections.stream(
                    "POST",
                    httpcore.URL(
                        scheme=parts.scheme,
                        host=str(address),
                        port=port,
                        target=f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}",
                    ),
                    headers=[
                        ("host", parts.netloc),
                        ("user-agent", f"jobs-gateway/{__version__}"),
                        ("content-type", "application/json"),
                        ("content-length", str(len(body))),
                        *headers.items(),
                    ],
                    content=body,
                    extensions={
                        # The name that the certificate must have.
                        "sni_hostname": host,
                        # An address that drops packets leaves time for the others.
                        "timeout": {"connect": self._seconds / len(addresses)},
                    },
                ) as response:
                    return _response(response)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise OSError("the name has no address")


def _response(response: httpcore.Response) -> DeliveryResponse:
    phrase: bytes = response.extensions.get("reason_phrase", b"")
    reason = phrase.decode("ascii", "replace")[:MAX_REASON_LENGTH]
    wait = None
    if response.status in BUSY_STATUSES:
        for name, value in response.headers:
            # Retry-After with a date is ignored.
            if name.lower() == b"retry-after" and value.isdigit() and len(value) < 9:
                wait = timedelta(seconds=int(value))
    return DeliveryResponse(response.status, reason, wait)
