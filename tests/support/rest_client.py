"""The REST surface as tests ask it, and what every answer has to be like."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from app.main import Gateway
from app.storage.engine.database import Database
from tests.support.authoring import everything
from tests.support.clients import http_client

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
"""An id that nothing has."""


@dataclass(frozen=True)
class RestClient:
    """Somebody who asks over HTTP."""

    http: httpx.AsyncClient
    database: Database

    async def send(self, method: str, path: str, data: Any = None, **more: Any) -> httpx.Response:
        """The answer to a request with that `data`, if there is any; `more` is the client's."""
        if data is not None:
            more["json"] = {"data": data}
        return await self.http.request(method, f"/pcm{path}", **more)

    async def ask(
        self, method: str, path: str, data: Any = None, *, status: int = 200, **more: Any
    ) -> Any:
        """The document of an answer with that status; None where it has none."""
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
        """The data of an answer with that status."""
        return (await self.ask(method, path, data, status=status, **more))["data"]

    async def get(self, path: str, **parameters: Any) -> Any:
        """The data of what is there."""
        return await self.data("GET", path, params=parameters)

    async def list(self, path: str, **parameters: Any) -> Any:
        """A page of a list, whole."""
        return await self.ask("GET", path, params=in_brackets(parameters))

    async def names(self, path: str, **parameters: Any) -> Sequence[str]:
        """The names of what a page of a list shows."""
        page = await self.list(path, **parameters)
        return [one["attributes"]["name"] for one in page["data"]]

    async def refused(
        self, status: int, method: str, path: str, data: Any = None, **more: Any
    ) -> dict[str, Any]:
        """The one error of a request that is refused with that status and changes nothing."""
        before = await everything(self.database)
        response = await self.send(method, path, data, **more)
        assert await everything(self.database) == before
        (error,) = errors_of(response, status)
        return error


def in_brackets(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with page[...] for the names of a page."""
    return {
        f"page[{name}]" if name in ("offset", "limit") else name: value
        for name, value in parameters.items()
    }


def errors_of(response: httpx.Response, status: int) -> list[dict[str, Any]]:
    """The errors of an answer that is a refusal with that status, and is like all of them."""
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
    """A client of that gateway."""
    async with http_client(gateway.url, headers=headers) as http:
        yield RestClient(http, gateway.database)


def hierarchy(name: str, **attributes: Any) -> dict[str, Any]:
    """A hierarchy to be made."""
    return {"type": "hierarchy", "attributes": {"name": name, **attributes}}


def node(name: str, parent: object = None, **attributes: Any) -> dict[str, Any]:
    """A node to be made, below that parent or the root."""
    made: dict[str, Any] = {"type": "node", "attributes": {"name": name, **attributes}}
    if "sort_order" in attributes:
        made["meta"] = {"sort_order": made["attributes"].pop("sort_order")}
    if parent is not None:
        made["relationships"] = {"parent": {"data": reference(parent)}}
    return made


def reference(id: object, type: str = "node", **meta: Any) -> dict[str, Any]:
    """What names a thing in a relationship."""
    return {"type": type, "id": str(id), **({"meta": meta} if meta else {})}


def references(ids: Sequence[object], type: str = "product") -> list[dict[str, Any]]:
    """What names several things in a relationship."""
    return [reference(id, type) for id in ids]


def ids_of(document: Any) -> list[str]:
    """The ids of the things a page shows."""
    return [one["id"] for one in document["data"]]


def hierarchy_of(id: object) -> UUID:
    """The id of the hierarchy in which the node of that id is."""
    return UUID(int=UUID(str(id)).int >> 32 << 32)
