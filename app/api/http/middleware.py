"""What goes around every request: its id, what is noted of it, the size of its body, the safety of
its answer."""

import asyncio
import logging
import re
from collections.abc import Callable
from time import perf_counter
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from app.api.http.request_log import Exchange, current
from app.observability import metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that figures tell apart: a client may call its method anything."""

ASKED_BY_MACHINES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes whose requests are of no interest to who reads the log."""

GONE = 499
"""The status, as nginx has it, of requests whose client left before the answer."""

BODY_SECONDS = 30
"""How long a body may take to come."""

DRAINED_BYTES = 64 * 1024**2
DRAIN_SECONDS = 10
"""How much of a body that is refused, and for how long, is read and dropped: whoever still sends
would find the connection reset before the answer."""

SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""The headers of an answer that does not say otherwise."""


class RequestIds:
    """Gives each request and socket an id: the X-Request-Id it came with, or a new UUID. The
    answer carries it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else str(uuid4())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        bound = bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            reset_contextvars(**bound)


class Noted:
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
        exchange = Exchange("http")
        token = current.set(exchange)
        status = GONE

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            current.reset(token)
            route = route_of(scope)
            method = scope["method"] if scope["method"] in METHODS else "other"
            metrics.HTTP_REQUESTS.labels(method, route, status).inc()
            if exchange.transport == "http":
                metrics.HTTP_SECONDS.labels(route).observe(perf_counter() - exchange.began)
            level = logging.DEBUG if route in ASKED_BY_MACHINES else logging.INFO
            exchange.tell(level, method=method, route=route, status=status)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange("ws")
        token = current.set(exchange)
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
            current.reset(token)
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


class SafeHeaders:
    """Adds to every answer the headers that keep browsers from doing anything clever with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back with the headers."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                said = {name for name, _ in headers}
                message["headers"] = [*headers, *(one for one in SAFE if one[0] not in said)]
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)


class TooLarge(Exception):
    """A body with more bytes than are taken."""

    def __init__(self, found: int, limit: int) -> None:
        super().__init__(f"The body has {found:,} bytes or more; at most {limit:,} are allowed.")
        self.found = found


class BodyLimit:
    """Refuses bodies that are too large with 413, before they are held in memory.

    An answer that comes before its request was read ends once the rest of that is dropped.
    """

    def __init__(
        self, app: ASGIApp, limit: int, refusal: Callable[[str, TooLarge], Response]
    ) -> None:
        self._app = app
        self._limit = limit
        self._refusal = refusal
        """What to answer at a path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while its body is small enough."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        received = 0
        # Who asks whether to go on has sent nothing yet.
        unread = headers.get("expect", "").lower() != "100-continue" and (
            "content-length" in headers or "transfer-encoding" in headers
        )

        async def receive_some() -> Message:
            nonlocal received, unread
            message = await receive()
            unread = bool(message.get("more_body"))
            received += len(message.get("body", b""))
            if received > self._limit:
                raise TooLarge(received, self._limit)
            return message

        async def send_all(message: Message) -> None:
            ends = message["type"] == "http.response.body" and not message.get("more_body")
            if ends and unread:
                await send({**message, "more_body": True})
                await _drain(receive)
                message = {"type": "http.response.body"}
            await send(message)

        try:
            if (said := int(headers.get("content-length", 0))) > self._limit:
                raise TooLarge(said, self._limit)
            await self._app(scope, receive_some, send_all)
        except TooLarge as too_large:
            response = self._refusal(scope["path"], too_large)
            await response(scope, receive, send_all)


async def _drain(receive: Receive) -> None:
    left = DRAINED_BYTES
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return
