"""The other end of a connection: where it is, and whose page it speaks for."""

import ipaddress
from collections.abc import Collection

from starlette.requests import HTTPConnection


def address_of(connection: HTTPConnection) -> str:
    """The network address at the other end."""
    return connection.client.host if connection.client else "-"


def is_same_origin(connection: HTTPConnection, origins: Collection[str]) -> bool:
    """Whether it speaks for a page of this host or of one of these origins, or for no page at all:
    a browser always says which one, a program names none."""
    origin = connection.headers.get("origin")
    if origin is None or origin in origins:
        return True
    host = connection.headers.get("host", "")
    return origin in (f"http://{host}", f"https://{host}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
