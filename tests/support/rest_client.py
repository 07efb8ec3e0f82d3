"""A REST client for tests, with the checks that hold for every answer."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import httpx

from app.main import Gateway
from app.storage.engine.database import Database
from tests.support.authoring import everything
from tests.support.clients import http_client
from tests.support.vendor_specification import check_response

UUID_FORMAT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
INSTANT_FORMAT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: ("Request Entity Too Large", "Content Too Large"),
    415: "Unsupported Media Type",
    422: "Failed Validation",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

UNKNOWN = "11111111-2222-4333-8444-555555555555"
"""An id that does not exist."""


@dataclass(frozen=True)
class RestClient:
    """A client of the REST API, with the gateway's database for checks."""

    http: httpx.AsyncClient
    database: Database

    async def send(self, method: str, path: str, data: Any = None, **more: Any) -> httpx.Response:
        """Send a request with a document of `data`; `more` are arguments of httpx."""
        if data is not None:
            more["json"] = {"data": data}
        if "params" in more and "?" in path:
            # httpx would replace the query of the path.
            path, _, query = path.partition("?")
            more["params"] = [*parse_qsl(query), *httpx.QueryParams(more["params"]).multi_items()]
        return await self.http.request(method, f"/pcm{path}", **more)

    async def ask(
        self, method: str, path: str, data: Any = None, *, status: int = 200, **more: Any
    ) -> Any:
        """Return the document of an answer with this status, or None for 204."""
        response = await self.send(method, path, data, **more)
        assert response.status_code == status, response.text
        assert response.headers["x-request-id"]
        if status == 204:
            assert response.content == b""
            return None
        assert response.headers["content-type"] == "application/json"
        return response.json()

    async def data(
        self, method: str, path: str, data: Any = None, *, status: int = 200, **more: Any
    ) -> Any:
        """Return the data of an answer with this status."""
        return (await self.ask(method, path, data, status=status, **more))["data"]

    async def get(self, path: str, **parameters: Any) -> Any:
        """Return the data of a resource."""
        return await self.data("GET", path, params=parameters)

    async def list(self, path: str, **parameters: Any) -> Any:
        """Return the document of a page of a list."""
        return await self.ask("GET", path, params=in_brackets(parameters))

    async def names(self, path: str, **parameters: Any) -> Sequence[str]:
        """Return the names on a page of a list."""
        page = await self.list(path, **parameters)
        return [item["attributes"]["name"] for item in page["data"]]

    async def refused(
        self, status: int, method: str, path: str, data: Any = None, **more: Any
    ) -> dict[str, Any]:
        """Return the only error of a request that is refused and changes no row."""
        before = await everything(self.database)
        response = await self.send(method, path, data, **more)
        assert await everything(self.database) == before
        (error,) = errors_of(response, status)
        return error


def in_brackets(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with `offset` and `limit` as `page[offset]` and `page[limit]`."""
    return {
        f"page[{name}]" if name in ("offset", "limit") else name: value
        for name, value in parameters.items()
    }


def errors_of(response: httpx.Response, status: int) -> list[dict[str, Any]]:
    """Return the errors of a refusal, after the checks that hold for every refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    document = response.json()
    assert document.keys() == {"errors"}
    errors: list[dict[str, Any]] = document["errors"]
    assert errors
    for error in errors:
        assert error.keys() <= {"status", "title", "detail", "request_id", "meta"}
        assert error["status"] == str(status)
        titles = TITLES[status]
        assert error["title"] in (titles if isinstance(titles, tuple) else (titles,))
        assert error.keys() >= ({"detail", "request_id"} if status == 500 else set())
    return errors


@asynccontextmanager
async def rest_of(gateway: Gateway, **headers: str) -> AsyncIterator[RestClient]:
    """Yield a client of a gateway."""
    hooks = {"response": [_check_answer]}
    async with http_client(gateway.url, headers=headers, event_hooks=hooks) as http:
        yield RestClient(http, gateway.database)


async def _check_answer(response: httpx.Response) -> None:
    await response.aread()
    check_response(response)


def hierarchy(name: str, **attributes: Any) -> dict[str, Any]:
    """Return the data that creates a hierarchy."""
    return {"type": "hierarchy", "attributes": {"name": name, **attributes}}


def node(name: str, parent: object = None, **attributes: Any) -> dict[str, Any]:
    """Return the data that creates a node, below `parent` or below the root."""
    data: dict[str, Any] = {"type": "node", "attributes": {"name": name, **attributes}}
    if "sort_order" in attributes:
        data["meta"] = {"sort_order": data["attributes"].pop("sort_order")}
    if parent is not None:
        data["relationships"] = {"parent": {"data": reference(parent)}}
    return data


def reference(id: object, type: str = "node", **meta: Any) -> dict[str, Any]:
    """Return a resource identifier, as in relationships."""
    return {"type": type, "id": str(id), **({"meta": meta} if meta else {})}


def references(ids: Sequence[object], type: str = "product") -> list[dict[str, Any]]:
    """Return several resource identifiers."""
    return [reference(id, type) for id in ids]


def ids_of(document: Any) -> list[str]:
    """Return the ids on a page."""
    return [item["id"] for item in document["data"]]


def hierarchy_of(id: object) -> UUID:
    """Return the id of a node's hierarchy."""
    return UUID(int=UUID(str(id)).int >> 32 << 32)
