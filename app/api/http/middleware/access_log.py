"""The access log: metrics and one log line per request."""

import logging
from time import perf_counter

from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.request_log import RequestRecord, current_record
from app.observability import metrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Values of the metrics' method label. Clients may send any method: others count as `other`."""

PROBE_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Probe routes, logged at debug."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for requests whose client disconnected before the response."""


class AccessLogMiddleware:
    """Records metrics and one log line per request and socket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = RequestRecord("http")
        token = current_record.set(record)
        status = CLIENT_CLOSED_REQUEST

        async def send_recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_recorded)
        finally:
            current_record.reset(token)
            route = route_of(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.HTTP_REQUESTS.labels(method, route, status).inc()
            if record.transport == "http":
                metrics.HTTP_SECONDS.labels(route).observe(perf_counter() - record.began)
            level = logging.DEBUG if route in PROBE_ROUTES else logging.INFO
            record.log(level, method=method, route=route, status=status)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = RequestRecord("ws")
        token = current_record.set(record)
        closed: int | None = None

        async def receive_recorded() -> Message:
            nonlocal closed
            message = await receive()
            if message["type"] == "websocket.disconnect":
                closed = message["code"]
            return message

        async def send_recorded(message: Message) -> None:
            nonlocal closed
            if message["type"] == "websocket.close":
                closed = message.get("code", 1000)
            await send(message)

        try:
            await self._app(scope, receive_recorded, send_recorded)
        finally:
            current_record.reset(token)
            record.log(method="socket", route=route_of(scope), closed=closed)


def route_of(scope: Scope) -> str:
    """Return the matched route template, which has no client data; `none` without a match."""
    match scope.get("route"):
        case None:
            return "none"
        case Mount(path=path):
            return str(path)
        case route:
            return f"{scope.get('root_path', '')}{route.path}"
