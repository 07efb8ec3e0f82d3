"""The REST surface put together, and the OpenAPI document that describes it."""

from functools import lru_cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app import __version__
from app.api.rest import hierarchies, jobs, nodes, products
from app.api.rest.context import Endpoint, RestState
from app.api.rest.errors import to_response

PATH = "/pcm"
"""Where the surface begins."""

PARTS = (jobs.router, hierarchies.router, nodes.router, products.router)

TITLE = "jobs-gateway"
DESCRIPTION = (
    "Hierarchies of a product catalogue, and the jobs that duplicate them. Jobs of a store are "
    "processed one at a time, the earliest created first, and only a pending job can be cancelled."
)


def rest_app(state: RestState, *, authenticated: bool, described: bool) -> FastAPI:
    """The surface behind this door, and its OpenAPI document if it is to be `described`."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _no_such_endpoint},
    )
    app.state.rest = state
    for part in PARTS:
        app.include_router(part)
    if described:
        router = APIRouter(route_class=Endpoint)

        @router.get("/openapi.json", include_in_schema=False)
        async def openapi(request: Request) -> dict[str, Any]:
            return _openapi(authenticated)

        app.include_router(router)
    return app


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        # The framework names the methods of the first route at that path alone.
        allowed = {
            method
            for part in PARTS
            for route in part.routes
            if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
        if allowed:
            error = HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
    return to_response(request, error)


@lru_cache
def _openapi(authenticated: bool) -> dict[str, Any]:
    """The document, made when it is first asked for: it takes as long as all else at a start."""
    document = get_openapi(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        routes=[route for part in PARTS for route in part.routes],
        servers=[{"url": PATH}],
    )
    _leave_out_unknown_refusals(document)
    if authenticated:
        scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        document.setdefault("components", {})["securitySchemes"] = {"token": scheme}
        document["security"] = [{"token": []}]
    return document


def _leave_out_unknown_refusals(document: dict[str, Any]) -> None:
    """What the framework would say to bad parameters, and we say in our own way with 400."""
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "HTTPValidationError" in str(content):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
