"""Webhooks: what is sent to whom, how it is signed, which addresses it may go to, and when it is
tried again.

Signatures are those of the Standard Webhooks specification (standardwebhooks.com), so that
receivers verify them with a library.
"""

from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from hmac import digest
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import ClassVar
from urllib.parse import urlsplit
from uuid import UUID

from app.domain.errors import DomainError, InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_LIMIT = 2_000
"""Characters a URL may have."""

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""How long a secret may be, by the specification."""

ATTEMPTS = 10
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=6)
"""With ATTEMPTS it makes 20 hours in all, give or take a tenth: less than the shortest time, a day,
that events are kept, and deliveries go with their events."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")


class DeliveryStatus(StrEnum):
    """What has become of a message to one endpoint."""

    PENDING = "pending"
    """It is to be sent, for the first time or again."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """It is not tried again, unless somebody says so."""


@dataclass(eq=False)
class AddressNotAllowed(DomainError):
    """A receiver that webhooks must not go to."""

    code: ClassVar[str] = "ADDRESS_NOT_ALLOWED"
    address: Address
    scheme: str

    def __str__(self) -> str:
        if self.scheme == "http":
            return f"{self.address} is not in an allowed network, and anywhere else it takes https."
        return f"{self.address} is not a public address, and not in an allowed network."


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """What came of an attempt: the receiver's HTTP status, or none, and a few words on it."""

    status: int | None
    reason: str
    wait: timedelta | None = None
    """How long the receiver asks to be left alone."""

    GONE: ClassVar[int] = 410

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken the message. A redirect has not."""
        return self.status is not None and 200 <= self.status < 300


def pause_after(answer: DeliveryResponse, attempts: int, chance: float) -> timedelta | None:
    """How long to rest after that many attempts, the last of which was answered so; None when no
    other follows. `chance`, from 0 to 1, spreads those that failed together."""
    if answer.delivered or answer.status == DeliveryResponse.GONE or attempts >= ATTEMPTS:
        return None
    pause = min(FIRST_PAUSE * int(4 ** (attempts - 1)), LONGEST_PAUSE) * (0.9 + 0.2 * chance)
    return max(pause, min(answer.wait or pause, LONGEST_PAUSE))


def signed_headers(keys: Sequence[bytes], id: UUID, at: datetime, body: bytes) -> dict[str, str]:
    """What tells a receiver who sent the body and when. There is a signature for each of the keys:
    whoever has one of them can verify it."""
    said = f"{id}.{int(at.timestamp())}.".encode()
    signatures = (b64encode(digest(key, said + body, sha256)).decode() for key in keys)
    return {
        "webhook-id": str(id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def signing_keys(secrets: str, *path: str) -> list[bytes]:
    """The keys of one or more secrets, separated by commas. Raises InvalidInput, which never
    repeats them."""
    keys = []
    for secret in secrets.split(","):
        try:
            key = b64decode(secret.strip().removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not secret.strip().startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
            raise InvalidInput(
                f"A secret is {SECRET_PREFIX} and, in base64, {SECRET_BYTES[0]} to "
                f"{SECRET_BYTES[-1]} random bytes, as "
                f'`echo "{SECRET_PREFIX}$(openssl rand -base64 32)"` makes one.',
                path,
            )
        keys.append(key)
    return keys


def checked_network(text: str, *path: str) -> Network:
    """The network that is written so, or InvalidInput naming `path`."""
    try:
        return ip_network(text)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is no network such as 10.0.0.0/8, 127.0.0.1 or fd00::/8.", path
        ) from None


def checked_url(url: str, networks: Collection[Network], *path: str) -> str:
    """`url` itself, or InvalidInput naming `path`: where webhooks may go as far as the URL tells.
    What its name leads to is seen at each attempt."""
    shown = origin_of(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not host or parts.scheme not in ("http", "https") or port == 0:
        raise InvalidInput(f"{shown} is no URL such as https://shop.example/hooks.", path)
    if "@" in parts.netloc:
        raise InvalidInput(
            f"The URL at {host} has a user or password in it; the signature is what a receiver "
            "knows us by.",
            path,
        )
    if not (url.isascii() and url.isprintable() and " " not in url) or "#" in url:
        raise InvalidInput(
            f"The URL at {shown} can only have characters that a URL is sent with: others as "
            "%20, hosts as xn--, and no #.",
            path,
        )
    if len(url) > URL_LIMIT:
        raise InvalidInput(f"The URL at {shown} has more than {URL_LIMIT} characters.", path)
    if parts.scheme == "http" and not networks:
        raise InvalidInput(
            f"{shown} is not https, and http is for allowed networks only: there are none.", path
        )
    try:
        address = ip_address(host)
    except ValueError:
        return url
    try:
        check_address(address, parts.scheme, networks)
    except AddressNotAllowed as error:
        raise InvalidInput(str(error), path) from None
    return url


def origin_of(url: str) -> str:
    """What may be shown of a URL anywhere: paths and queries of webhooks can be secrets."""
    scheme, separator, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[2]
    return f"{scheme}{separator}{host}" if separator else "It"


def check_address(address: Address, scheme: str, networks: Collection[Network]) -> None:
    """Raises AddressNotAllowed unless it is in one of these networks, or public and by https."""
    end = _end_of(address)
    if any(end in network for network in networks):
        return
    if scheme != "https" or not _is_public(end):
        raise AddressNotAllowed(address, scheme)


def _end_of(address: Address) -> Address:
    """Where packets to it end up: an IPv6 address may stand for an IPv4 one."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    # `is_global` alone lets site-local addresses, multicast and what is not given out yet pass.
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast
