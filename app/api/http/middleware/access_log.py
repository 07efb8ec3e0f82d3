"""The access log: metrics and one log line per request."""

import logging
from time import perf_counter

from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.request_log import RequestRecord, current_record
from app.observability import metrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that figures tell apart: a client may call its method anything."""


PROBE_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes whose requests are of no interest to who reads the log."""


CLIENT_CLOSED_REQUEST = 499
"""The status, as nginx has it, of requests whose client left before the answer."""


class AccessLogMiddleware:
    """Notes what comes of each request and socket: its figures and its line of the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note how it ended."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = RequestRecord("http")
        token = current_record.set(exchange)
        status = CLIENT_CLOSED_REQUEST

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            current_record.reset(token)
            route = route_of(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.HTTP_REQUESTS.labels(method, route, status).inc()
            if exchange.transport == "http":
                metrics.HTTP_SECONDS.labels(route).observe(perf_counter() - exchange.began)
            level = logging.DEBUG if route in PROBE_ROUTES else logging.INFO
            exchange.tell(level, method=method, route=route, status=status)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = RequestRecord("ws")
        token = current_record.set(exchange)
        closed: int | None = None

        async def receive_noted() -> Message:
            nonlocal closed
            message = await receive()
            if message["type"] == "websocket.disconnect":
                closed = message["code"]
            return message

        async def send_noted(message: Message) -> None:
            nonlocal closed
            if message["type"] == "websocket.close":
                closed = message.get("code", 1000)
            await send(message)

        try:
            await self._app(scope, receive_noted, send_noted)
        finally:
            current_record.reset(token)
            exchange.tell(method="socket", route=route_of(scope), closed=closed)


def route_of(scope: Scope) -> str:
    """The template that the request's path met, never the path itself."""
    match scope.get("route"):
        case None:
            return "none"
        case Mount(path=path):
            return str(path)
        case route:
            return f"{scope.get('root_path', '')}{route.path}"
