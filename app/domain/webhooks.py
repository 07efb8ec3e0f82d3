"""Webhooks: signatures, allowed addresses, and the delays between attempts.

Signatures are those of the Standard Webhooks specification (standardwebhooks.com), so receivers
can verify them with a library.
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

from app.domain.display import shown_url
from app.domain.errors import DomainError, InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_LIMIT = 2_000
"""Characters of a webhook's URL."""

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""The lengths of a secret that the specification allows."""

MAX_ATTEMPTS = 10
FIRST_RETRY_DELAY = timedelta(seconds=5)
MAX_RETRY_DELAY = timedelta(hours=6)
"""With MAX_ATTEMPTS, attempts span 20 hours, plus or minus 10 %. Deliveries are deleted with their
events, which are kept for at least a day."""

MAX_PAUSE = 1.1 * MAX_RETRY_DELAY
"""The longest pause between attempts. A delivery that is due later got its time before the clock
was set back."""

GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")


class DeliveryStatus(StrEnum):
    """The status of a message to one endpoint."""

    PENDING = "pending"
    """Waits for its first or next attempt."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """Not attempted again unless an operator requests it."""


@dataclass(eq=False)
class AddressNotAllowed(DomainError):
    """An address that webhooks must not be sent to."""

    code: ClassVar[str] = "ADDRESS_NOT_ALLOWED"
    address: Address
    scheme: str

    def __str__(self) -> str:
        if self.scheme == "http":
            return f"{self.address} is not in an allowed network, and anywhere else it takes https."
        return f"{self.address} is not a public address, and not in an allowed network."


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """The outcome of an attempt: the receiver's HTTP status, if any, and a short reason."""

    status: int | None
    reason: str
    wait: timedelta | None = None
    """The delay that the receiver requests (Retry-After)."""

    GONE: ClassVar[int] = 410

    @property
    def delivered(self) -> bool:
        """True if the receiver accepted the message. A redirect does not count."""
        return self.status is not None and 200 <= self.status < 300


def retry_delay(response: DeliveryResponse, attempts: int, jitter: float) -> timedelta | None:
    """Return the delay after attempt number `attempts`, None if no other follows.

    `jitter`, from 0 to 1, spreads deliveries that failed at the same time.
    """
    if response.delivered or response.status == DeliveryResponse.GONE or attempts >= MAX_ATTEMPTS:
        return None
    delay = min(FIRST_RETRY_DELAY * int(4 ** (attempts - 1)), MAX_RETRY_DELAY)
    delay *= 0.9 + 0.2 * jitter
    return max(delay, min(response.wait or delay, MAX_RETRY_DELAY))


def signed_headers(keys: Sequence[bytes], id: UUID, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign a message, with one signature per key."""
    content = f"{id}.{int(at.timestamp())}.".encode() + body
    signatures = (b64encode(digest(key, content, sha256)).decode() for key in keys)
    return {
        "webhook-id": str(id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def signing_keys(secrets: str, *path: str) -> list[bytes]:
    """Decode one or more secrets, separated by commas. Raises InvalidInput without quoting them."""
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
    """Parse a network in CIDR notation, or an address. Raises InvalidInput(path)."""
    try:
        return ip_network(text)
    except ValueError:
        raise InvalidInput(
            f"'{shown_url(text)}' is no network such as 10.0.0.0/8, 127.0.0.1 or fd00::/8.", path
        ) from None


def checked_url(url: str, networks: Collection[Network], *path: str) -> str:
    """Validate a webhook's URL. Raises InvalidInput(path).

    A host name's addresses are checked at each attempt.
    """
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
            f"The URL at {host} has a user or password in it; receivers verify the signature "
            "instead.",
            path,
        )
    if not (url.isascii() and url.isprintable() and " " not in url) or "#" in url:
        raise InvalidInput(
            f"The URL at {shown} must have percent-encoded (%20) and punycode (xn--) characters "
            "only, and no #.",
            path,
        )
    if len(url) > URL_LIMIT:
        raise InvalidInput(f"The URL at {shown} has more than {URL_LIMIT} characters.", path)
    if parts.scheme == "http" and not networks:
        raise InvalidInput(f"{shown} is not https, and http needs an allowed network.", path)
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
    """Return the part of a URL that may be shown: paths and queries can hold secrets."""
    scheme, separator, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[2]
    return f"{scheme}{separator}{host}" if separator else "It"


def check_address(address: Address, scheme: str, networks: Collection[Network]) -> None:
    """Require an address in one of `networks`, or a public one by https.

    Raises AddressNotAllowed.
    """
    destination = _destination(address)
    if any(destination in network for network in networks):
        return
    if scheme != "https" or not _is_public(destination):
        raise AddressNotAllowed(address, scheme)


def _destination(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if any, else the address."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    # `is_global` is also true of site-local, multicast and unassigned addresses.
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast
