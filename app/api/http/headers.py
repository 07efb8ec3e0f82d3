"""Request headers by name."""

from collections.abc import Mapping

from starlette.types import Scope

_BY_NAME = "jobs_gateway.headers"
"""Key of the scope that keeps the result of `headers_of`."""


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Return the headers by lower-case name, of those with the same name the first.

    For code that runs for every request: each look-up in Starlette's Headers decodes all of them.
    """
    headers: dict[str, str] | None = scope.get(_BY_NAME)
    if headers is None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        }
        # Sockets keep their scopes, and there may be thousands of them.
        if scope["type"] == "http":
            scope[_BY_NAME] = headers
    return headers
