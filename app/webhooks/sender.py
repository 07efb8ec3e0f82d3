"""Sends one webhook once, to nowhere but where it may go."""

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
"""How long an attempt may take in all, from the name's resolution to the status."""

REASON_LIMIT = 200
BUSY_STATUSES = (429, 503)
"""Statuses whose Retry-After counts."""

DEFAULT_PORTS = {"http": 80, "https": 443}

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]


async def resolve(host: str, port: int) -> Sequence[Address]:
    """The addresses of a name, as this machine resolves it. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(str(error)) from None
    return list(dict.fromkeys(ip_address(place[0]) for *_, place in found))


class Sender:
    """Posts to receivers, each time by a connection of its own.

    A name is resolved here, every address it has is checked, and the connection goes to one that
    was checked: a name that changes its mind in between leads nowhere else. Redirects are not
    followed, proxies of the environment not used, and of the answer only the head is read.
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
        # A connection is known by its address, which several names may have: none is kept.
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
        """What the receiver answers, or why there is no answer."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(url, headers, body)
        except (TimeoutError, httpcore.TimeoutException):
            return DeliveryResponse(None, f"no answer within {self._seconds:g} seconds")
        except AddressNotAllowed as error:
            return DeliveryResponse(None, str(error))
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            said = str(error) or type(error).__name__
            return DeliveryResponse(None, said[:REASON_LIMIT])

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
                        # What the certificate must be for.
                        "sni_hostname": host,
                        # One that swallows everything leaves time for the others.
                        "timeout": {"connect": self._seconds / len(addresses)},
                    },
                ) as response:
                    return _response(response)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise OSError("the name has no address")


def _response(response: httpcore.Response) -> DeliveryResponse:
    reason: bytes = response.extensions.get("reason_phrase", b"")
    said = reason.decode("ascii", "replace")[:REASON_LIMIT]
    wait = None
    if response.status in BUSY_STATUSES:
        for name, value in response.headers:
            # The date that may stand here instead is passed over.
            if name.lower() == b"retry-after" and value.isdigit() and len(value) < 9:
                wait = timedelta(seconds=int(value))
    return DeliveryResponse(response.status, said, wait)
