"""A GraphQL client over HTTP."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import httpx

from app.main import Gateway

# httpcore imports sniffio four times per request. Where it is not installed, each time takes 0.1 ms
# to look for it, unless it is known to be missing.
if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]


def http_client(url: str, **options: Any) -> httpx.AsyncClient:
    """Return an HTTP client. Without `verify=False` httpx loads certificates for 40 ms."""
    return httpx.AsyncClient(base_url=url, verify=False, **{"timeout": 30, **options})


class GraphQLClient:
    """Posts operations to a gateway over a real socket."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def answer(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the whole answer, errors included."""
        response = await self.http.post("/graphql", json={"query": query, "variables": variables})
        answer: dict[str, Any] = response.json()
        return answer

    async def data(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of an answer without errors."""
        answer = await self.answer(query, **variables)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    async def refusal(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the only error of an answer."""
        answer = await self.answer(query, **variables)
        errors: list[dict[str, Any]] = answer["errors"]
        (error,) = errors
        return error


@asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[GraphQLClient]:
    """Yield a client of a gateway."""
    async with http_client(gateway.url) as http:
        yield GraphQLClient(http)
