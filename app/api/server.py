"""The whole HTTP and WebSocket surface: GraphQL, the playground, health."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from app.api.errors import bug
from app.api.gate import Gate
from app.api.middleware import BodyLimit, RequestIds, SafeHeaders
from app.api.playground import playground_files
from app.api.transports.http import GraphQLEndpoint
from app.api.transports.websocket import SocketEndpoint
from app.storage.database import Database

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def create_app(
    database: Database,
    gate: Gate,
    lifespan: Lifespan,
    *,
    hosts: Sequence[str],
    origins: Sequence[str],
    playground: bool,
) -> ASGIApp:
    """The surface behind this gate, for requests to these host names only. Pages of these origins
    may ask it too, not only its own."""

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        try:
            await database.read(lambda session: session.connection().exec_driver_sql("SELECT 1"))
        except Exception:
            return JSONResponse({"status": "unavailable", "database": "unreachable"}, 503)
        return JSONResponse({"status": "ok", "database": "ok"})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        # No `errors`: what is not GraphQL's answer must not look like one.
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)

    async def broke(request: Request, error: Exception) -> Response:
        return JSONResponse({"errors": [bug(error, request.state.request_id)]}, 500)

    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-Request-Id"],
        expose_headers=["Retry-After", "WWW-Authenticate", "X-Request-Id"],
    )
    app = Starlette(
        routes=[
            Route("/", lambda _request: RedirectResponse("/graphql")),
            Route("/graphql", GraphQLEndpoint(gate, playground=playground)),
            WebSocketRoute("/graphql", SocketEndpoint(gate, origins)),
            *([playground_files()] if playground else []),
            Route("/healthz", healthy),
            Route("/readyz", ready),
        ],
        middleware=[
            *([cors] if origins else []),
            Middleware(BodyLimit, limit=gate.limits.max_body_bytes),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers={HTTPException: refused, Exception: broke},
        lifespan=lifespan,
    )
    # Around all of it: also what Starlette answers to a bug has an id and is safe.
    return RequestIds(SafeHeaders(app))
