"""The REST surface put together, and the OpenAPI document that describes it."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from app import __version__
from app.api.rest import hierarchies, jobs, nodes, products
from app.api.rest.endpoint import Door, Endpoint
from app.api.rest.errors import to_response

PATH = "/pcm"
"""Where the surface begins."""

DESCRIPTION = (
    "Hierarchies of a product catalogue, and the jobs that duplicate them. Jobs of a store are "
    "processed one at a time, the earliest created first, and only a pending job can be cancelled."
)


def rest_app(door: Door, *, authenticated: bool, described: bool) -> FastAPI:
    """The surface behind this door, and its OpenAPI document if it is to be `described`."""
    app = FastAPI(
        title="jobs-gateway",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={HTTPException: _no_such_endpoint},
    )
    app.state.door = door
    for part in (jobs, hierarchies, nodes, products):
        app.include_router(part.router)
    if described:
        document = _openapi(app, authenticated)
        router = APIRouter(route_class=Endpoint)

        @router.get("/openapi.json", include_in_schema=False)
        async def openapi(request: Request) -> dict[str, Any]:
            return document

        app.include_router(router)
    return app


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    return to_response(request, error)


def _openapi(app: FastAPI, authenticated: bool) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        servers=[{"url": PATH}],
    )
    if authenticated:
        scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        document.setdefault("components", {})["securitySchemes"] = {"token": scheme}
        document["security"] = [{"token": []}]
    return document
