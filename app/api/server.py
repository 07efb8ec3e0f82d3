"""The HTTP and WebSocket surface: GraphQL, the playground, health."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import uuid4

import orjson
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)

from app.api.context import Context
from app.api.playground import playground_files, playground_page
from app.api.schema import schema
from app.services.feed import Feed
from app.services.jobs import Requester
from app.storage.database import Database

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]

MESSAGE_BYTES = 128 * 1024
"""The largest message taken, as an HTTP body or over a WebSocket."""

INIT_SECONDS = 10
"""How long a socket may take to say connection_init."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """One socket's operations."""

    async def handle_task_exception(self, error: Exception) -> None:
        """Log what broke an operation; a client that went away while it was told is no fault."""
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)


class GraphQLEndpoint(GraphQL[Context, None]):
    """GraphQL over HTTP and graphql-transport-ws, and the playground for a browser's GET."""

    graphql_transport_ws_handler_class = SocketHandler

    def __init__(self, database: Database, feed: Feed, store: str) -> None:
        super().__init__(
            schema,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=timedelta(seconds=INIT_SECONDS),
        )
        self._database = database
        self._feed = feed
        self._store = store

    async def get_context(
        self, request: Request | WebSocket, response: Response | WebSocket
    ) -> Context:
        """The services, and the store that unauthenticated callers act for."""
        requester = Requester(store=self._store, request_id=request.state.request_id)
        return Context(self._database, self._feed, requester)

    async def render_graphql_ide(self, request: Request) -> Response:
        """The playground."""
        return playground_page()

    def decode_json(self, data: str | bytes) -> object:
        """As orjson reads it, which takes nothing that could not be stored and shown again, such
        as half a surrogate pair."""
        return orjson.loads(data)

    def encode_json(self, data: object) -> str:
        """As orjson writes it, which is several times faster than the default."""
        return orjson.dumps(data).decode()


class _TooLarge(Exception):
    """A body with more bytes than are taken."""


class BodyLimit:
    """Refuses bodies of more than MESSAGE_BYTES with 413, before they are read or held."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while its body is small enough."""
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MESSAGE_BYTES:
                raise _TooLarge
            return message

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if int(HTTPConnection(scope).headers.get("content-length", 0)) > MESSAGE_BYTES:
                raise _TooLarge
            await self._app(scope, receive_some, send)
        except _TooLarge:
            message = f"The body is larger than {MESSAGE_BYTES} bytes."
            error = {"message": message, "extensions": {"code": "BODY_TOO_LARGE"}}
            await JSONResponse({"errors": [error]}, 413)(scope, receive, send)


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
        asked = HTTPConnection(scope).headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else str(uuid4())
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


def create_app(
    database: Database, feed: Feed, store: str, hosts: Sequence[str], lifespan: Lifespan
) -> Starlette:
    """The whole surface, for one store until requests say whose they are, and for requests to
    these host names only."""

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        try:
            await database.read(lambda session: session.connection().exec_driver_sql("SELECT 1"))
        except Exception:
            return JSONResponse({"status": "unavailable", "database": "unreachable"}, 503)
        return JSONResponse({"status": "ok", "database": "ok"})

    endpoint = GraphQLEndpoint(database, feed, store)
    return Starlette(
        routes=[
            Route("/", lambda _request: RedirectResponse("/graphql")),
            Route("/graphql", endpoint),
            WebSocketRoute("/graphql", endpoint),
            playground_files(),
            Route("/healthz", healthy),
            Route("/readyz", ready),
        ],
        middleware=[
            Middleware(RequestIds),
            Middleware(BodyLimit),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        lifespan=lifespan,
    )
