"""The REST application and its OpenAPI document."""

from functools import lru_cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app import __version__
from app.api.rest import (
    hierarchies,
    jobs,
    node_search,
    nodes,
    product_nodes,
    products,
    relationships,
)
from app.api.rest.context import RestRoute, RestState
from app.api.rest.errors import to_response

REST_PATH = "/pcm"
"""Path prefix of the REST API."""

ROUTERS = (
    # Before /hierarchies/{hierarchy_id}, which its path would match too.
    node_search.router,
    jobs.router,
    hierarchies.router,
    nodes.router,
    relationships.router,
    products.router,
    product_nodes.router,
)

TITLE = "jobs-gateway"
DESCRIPTION = (
    "Hierarchies of a product catalogue, and the jobs that duplicate them. Each store runs one job "
    "at a time, the earliest created first; only a pending job can be cancelled."
)


def rest_app(state: RestState, *, authenticated: bool, openapi: bool) -> FastAPI:
    """Build the REST application, which serves its OpenAPI document if `openapi`."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _no_such_endpoint},
    )
    app.state.rest = state
    for router in ROUTERS:
        app.include_router(router)
    if openapi:
        openapi_router = APIRouter(route_class=RestRoute)

        @openapi_router.get("/openapi.json", include_in_schema=False)
        async def openapi_document(request: Request) -> dict[str, object]:
            return _openapi(authenticated)

        app.include_router(openapi_router)
    return app


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        # FastAPI names only the methods of the first route with that path.
        allowed = {
            method
            for router in ROUTERS
            for route in router.routes
            if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
        if allowed:
            error = HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
    return to_response(request, error)


@lru_cache
def _openapi(authenticated: bool) -> dict[str, object]:
    """Build the OpenAPI document, on first use: it takes as long as the rest of the start."""
    document = get_openapi(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        routes=[route for router in ROUTERS for route in router.routes],
        servers=[{"url": REST_PATH}],
    )
    _remove_validation_errors(document)
    if authenticated:
        scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        document.setdefault("components", {})["securitySchemes"] = {"token": scheme}
        document["security"] = [{"token": []}]
    return document


def _remove_validation_errors(document: dict[str, Any]) -> None:
    """Remove FastAPI's own 422 for invalid parameters, which this API answers with 400."""
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "HTTPValidationError" in str(content):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
