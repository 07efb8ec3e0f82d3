"""The ASGI application of a gateway: GraphQL, REST, login, console, playground and probes."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager

from opentelemetry.trace import Tracer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Scope

from app.api.auth.login import Login
from app.api.auth.token_endpoint import TOKEN_PATH, TokenEndpoint, login_refusal
from app.api.graphql.service import GraphQLService
from app.api.graphql.transports.http import GraphQLEndpoint, refusal_response
from app.api.graphql.transports.websocket import SocketEndpoint
from app.api.http.cors import cors_middleware
from app.api.http.headers import headers_of
from app.api.http.middleware.access_log import AccessLogMiddleware
from app.api.http.middleware.body_limit import BodyLimitMiddleware
from app.api.http.middleware.open_access import OpenAccessMiddleware
from app.api.http.middleware.request_id import RequestIdMiddleware
from app.api.http.middleware.security_headers import SecurityHeadersMiddleware
from app.api.http.probes import probe_routes
from app.api.http.readiness import UnhealthyReason
from app.api.http.refusals import BadRequest, Bug
from app.api.http.tracing import TracingMiddleware
from app.api.rest.app import REST_PATH, rest_app
from app.api.rest.context import RestState
from app.api.rest.errors import error_response as refused_by_rest
from app.api.web.console import console as console_page
from app.api.web.playground import PLAYGROUND
from app.storage.engine.database import Database

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def create_app(
    database: Database,
    service: GraphQLService,
    lifespan: Lifespan,
    *,
    login: Login,
    hosts: Collection[str] | None,
    origins: Sequence[str],
    cors_headers: Sequence[str],
    playground: bool,
    console: bool,
    openapi: bool,
    metrics: bool,
    runner: UnhealthyReason | None,
    tracer: Tracer | None,
) -> ASGIApp:
    """Assemble the application of a gateway.

    `hosts`: the host names of this machine, the only one to serve; None to serve all. `origins`:
    other origins whose pages may send requests. `cors_headers`: headers they may send, besides
    known ones. `openapi`: serve the OpenAPI document of REST. `runner`: the unhealthy reason of
    the queue, if it runs in this process.
    """
    access = service.access

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if request.scope["path"].startswith(f"{REST_PATH}/"):
            # No route matches a path with a line break.
            return refused_by_rest(error.status_code, headers=error.headers)
        # No `errors`: a response of another route must not look like a GraphQL response.
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)

    def refuse(scope: Scope, error: BadRequest) -> Response:
        path = scope["path"]
        if path.startswith(f"{REST_PATH}/"):
            return refused_by_rest(error.status, [str(error)], error.headers)
        if path == TOKEN_PATH:
            return login_refusal(error)
        if path == "/graphql":
            return refusal_response(headers_of(scope), error)
        return JSONResponse({"message": str(error)}, error.status, error.headers)

    async def unexpected_error(request: Request, error: Exception) -> Response:
        return refusal_response(request.headers, Bug(error, request.state.request_id))

    console_html = console_page(playground=playground)

    async def root(_request: Request) -> Response:
        return console_html.response() if console else RedirectResponse("/graphql")

    rest = rest_app(
        RestState(database, access, frozenset(origins)),
        authenticated=access.authenticated,
        openapi=openapi,
    )
    app = Starlette(
        routes=[
            # First: each route before it takes 3 µs per request.
            Route("/graphql", GraphQLEndpoint(service, frozenset(origins), playground=playground)),
            Route("/", root),
            WebSocketRoute("/graphql", SocketEndpoint(service, origins)),
            *([PLAYGROUND.mount()] if playground else []),
            *([console_html.mount()] if console else []),
            Mount(REST_PATH, rest),
            Route(TOKEN_PATH, TokenEndpoint(login, access, origins)),
            *probe_routes(database, metrics=metrics, runner=runner),
        ],
        middleware=[
            *([cors_middleware(origins, cors_headers)] if origins else []),
            Middleware(BodyLimitMiddleware, limit=access.limits.max_body_bytes, refusal=refuse),
            *([Middleware(OpenAccessMiddleware, hosts=hosts, refusal=refuse)] if hosts else []),
        ],
        exception_handlers={HTTPException: http_error, Exception: unexpected_error},
        lifespan=lifespan,
    )
    # Outside of Starlette: its responses to unexpected errors are logged and have an id, too.
    logged: ASGIApp = AccessLogMiddleware(SecurityHeadersMiddleware(app))
    return RequestIdMiddleware(TracingMiddleware(logged, tracer) if tracer else logged)
