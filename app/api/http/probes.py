"""Routes for monitoring: /healthz, /readyz and /metrics."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from app.api.http.metrics_endpoint import MetricsEndpoint
from app.api.http.middleware.access_log import AccessLogMiddleware
from app.api.http.middleware.request_id import RequestIdMiddleware
from app.api.http.middleware.security_headers import SecurityHeadersMiddleware
from app.api.http.readiness import Readiness, UnhealthyReason
from app.storage.engine.database import Database


def probe_routes(
    database: Database, *, metrics: bool, runner: UnhealthyReason | None
) -> list[Route]:
    """Return /healthz, /readyz, and /metrics if enabled.

    `runner` returns the unhealthy reason of the queue that runs in this process, if one does.
    """

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route("/healthz", healthy),
        Route("/readyz", Readiness(database, runner).show),
        *([Route("/metrics", MetricsEndpoint(database).show)] if metrics else []),
    ]


def probe_app(database: Database, *, metrics: bool, runner: UnhealthyReason | None) -> ASGIApp:
    """Return the app of a worker process, which serves no other routes."""
    routes = probe_routes(database, metrics=metrics, runner=runner)
    return RequestIdMiddleware(
        AccessLogMiddleware(SecurityHeadersMiddleware(Starlette(routes=routes)))
    )
