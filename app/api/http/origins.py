"""Client addresses and browser origins."""

from collections.abc import Collection, Mapping

from starlette.requests import HTTPConnection


def address_of(connection: HTTPConnection) -> str:
    """Return the client's network address; `-` if unknown."""
    return connection.client.host if connection.client else "-"


def is_same_origin(headers: Mapping[str, str], origins: Collection[str]) -> bool:
    """Return True for pages of this host or of `origins`, and for clients without pages.

    Browsers always send Origin for WebSockets and for methods other than GET and HEAD.
    """
    if is_cross_site(headers, origins):
        return False
    origin = headers.get("origin")
    if origin is None or origin in origins:
        return True
    host = headers.get("host", "")
    return origin in (f"http://{host}", f"https://{host}")


def is_cross_site(headers: Mapping[str, str], origins: Collection[str]) -> bool:
    """Return True for requests that a page of another site, not one of `origins`, caused.

    Browsers send Sec-Fetch-Site and let no page change it. A GET without CORS has no Origin.
    """
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("origin") not in origins
