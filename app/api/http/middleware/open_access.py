"""A gateway without authentication serves this machine only, unless it is configured otherwise."""

from collections.abc import Collection

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.http.headers import headers_of
from app.api.http.refusals import BadRequest, Refusal

FORWARDING_HEADERS = frozenset(
    {
        *("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip"),
        *("true-client-ip", "cf-connecting-ip", "fastly-client-ip", "x-envoy-external-address"),
    }
)
"""Headers that proxies add, besides those that begin with FORWARDING_PREFIX."""

FORWARDING_PREFIX = "x-forwarded-"

REMEDY = (
    "Without authentication only this machine is served: set JOBS_GATEWAY_JWT_SECRET or "
    "JOBS_GATEWAY_JWKS, or take the risk with JOBS_GATEWAY_INSECURE=1."
)


class OpenAccessMiddleware:
    """Refuses requests for other hosts than `hosts`, and forwarded ones.

    A name that another machine's DNS leads here is DNS rebinding. A forwarded request comes from
    any machine, though a proxy on this one sent it, with a Host header of its own choice.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], refusal: Refusal) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (refused := self._refused(scope)):
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = headers_of(scope)
        if _without_port(headers.get("host", "")) not in self._hosts:
            return self._refusal(scope, BadRequest(f"Invalid host header. {REMEDY}"))
        for name in headers:
            if name in FORWARDING_HEADERS or name.startswith(FORWARDING_PREFIX):
                message = f"The request was forwarded by a proxy ({name}). {REMEDY}"
                return self._refusal(scope, BadRequest(message, code="FORBIDDEN", status=403))
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
