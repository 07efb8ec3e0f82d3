"""The proxy of a request, by the variables that curl and most other clients read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from app.domain.display import shown_url

SCHEMES = ("http", "https")

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


class BadProxy(ValueError):
    """A variable that does not name a usable proxy; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names it."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"{shown_url(self.url)} ({self.variable})"


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for an http or https URL, None for a direct connection. Raises BadProxy.

    Lower-case names win. This machine's own addresses are always reached directly: a proxy would
    send the request, with its token, to another machine.
    """
    target = urlsplit(url)
    for variable in (f"{target.scheme}_proxy", "all_proxy"):
        for name in (variable, variable.upper()):
            if value := environment.get(name, "").strip():
                if _is_direct(target, environment):
                    return None
                return Proxy(_checked(name, value), name)
    return None


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(variable: str, value: str) -> str:
    url = value if "://" in value else f"http://{value}"
    if not _is_proxy_url(url):
        raise BadProxy(
            f"{variable} must be the URL of an HTTP proxy, such as http://proxy.example:3128 (it "
            f"is '{shown_url(value)}')."
        )
    return url


def _is_proxy_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    return parts.scheme in SCHEMES and bool(_HOST.fullmatch(host)) and port != 0


def _is_direct(target: SplitResult, environment: Mapping[str, str]) -> bool:
    host = (target.hostname or "").rstrip(".")
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    excluded = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return is_loopback(host) or any(
        _matches(entry, host, port) for entry in re.split(r"[\s,]+", excluded) if entry
    )


def _matches(entry: str, host: str, port: int) -> bool:
    """Match a name with the names below it, an address, a network, each with a port or without."""
    if entry == "*":
        return True
    entry = entry.lower().partition("://")[2] or entry.lower()
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal():
        return int(number) == port and _matches(name, host, port)
    name = entry.strip("[]").removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
