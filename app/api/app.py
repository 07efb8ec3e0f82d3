"""The whole HTTP and WebSocket surface: GraphQL, the playground, the console, REST, health."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from opentelemetry.trace import Tracer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp

from app.api.graphql.service import GraphQLService
from app.api.graphql.transports.http import GraphQLEndpoint
from app.api.graphql.transports.websocket import SocketEndpoint
from app.api.http.middleware.access_log import AccessLogMiddleware
from app.api.http.middleware.body_limit import BodyLimitMiddleware, BodyTooLarge
from app.api.http.middleware.request_id import RequestIdMiddleware
from app.api.http.middleware.security_headers import SecurityHeadersMiddleware
from app.api.http.probes import probe_routes
from app.api.http.readiness import UnhealthyReason
from app.api.http.refusals import bug
from app.api.http.tracing import TracingMiddleware
from app.api.rest.app import PATH, rest_app
from app.api.rest.context import RestState
from app.api.rest.errors import refused as refused_by_rest
from app.api.web.console import console as console_page
from app.api.web.playground import PLAYGROUND
from app.storage.engine.database import Database

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def create_app(
    database: Database,
    service: GraphQLService,
    lifespan: Lifespan,
    *,
    hosts: Sequence[str],
    origins: Sequence[str],
    playground: bool,
    console: bool,
    described: bool,
    metrics: bool,
    runner: UnhealthyReason | None,
    tracer: Tracer | None,
) -> ASGIApp:
    """The surface behind this gate, for requests to these host names only. Pages of these origins
    may ask it too, not only its own."""

    access = service.access

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if request.scope["path"].startswith(f"{PATH}/"):
            # No mount takes a path with a line break in it.
            return refused_by_rest(error.status_code, headers=error.headers)
        # No `errors`: what is not GraphQL's answer must not look like one.
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)

    def too_large(path: str, error: BodyTooLarge) -> Response:
        if path.startswith(f"{PATH}/"):
            return refused_by_rest(413, [str(error)])
        extensions = {
            "code": "BODY_TOO_LARGE",
            "limit": access.limits.max_body_bytes,
            "found": error.found,
        }
        return JSONResponse({"errors": [{"message": str(error), "extensions": extensions}]}, 413)

    async def broke(request: Request, error: Exception) -> Response:
        return JSONResponse({"errors": [bug(error, request.state.request_id)]}, 500)

    looking = console_page(playground=playground)

    async def front(_request: Request) -> Response:
        return looking.answer() if console else RedirectResponse("/graphql")

    rest = rest_app(
        RestState(database, access, frozenset(origins)),
        authenticated=access.authenticated,
        described=described,
    )
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=[
            *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id"),
            # What the REST documents' own client sends with everything.
            *("X-Moltin-Application", "X-Moltin-Sdk-Language", "X-Moltin-Sdk-Version"),
        ],
        expose_headers=[
            *("Idempotent-Replayed", "Retry-After", "WWW-Authenticate", "X-Request-Id")
        ],
    )
    app = Starlette(
        routes=[
            Route("/", front),
            Route("/graphql", GraphQLEndpoint(service, playground=playground)),
            WebSocketRoute("/graphql", SocketEndpoint(service, origins)),
            *([PLAYGROUND.files()] if playground else []),
            *([looking.files()] if console else []),
            Mount(PATH, rest),
            *probe_routes(database, metrics=metrics, runner=runner),
        ],
        middleware=[
            *([cors] if origins else []),
            Middleware(BodyLimitMiddleware, limit=access.limits.max_body_bytes, refusal=too_large),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers={HTTPException: refused, Exception: broke},
        lifespan=lifespan,
    )
    # Around all of it: also what Starlette answers to a bug has an id, is noted and is safe.
    noted: ASGIApp = AccessLogMiddleware(SecurityHeadersMiddleware(app))
    return RequestIdMiddleware(TracingMiddleware(noted, tracer) if tracer else noted)
