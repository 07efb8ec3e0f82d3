"""HTTP/1.1 over a plain socket, with full control over the bytes."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread

from app.api.graphql.transports.http import JSON


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Return the GraphQL errors of a refusal, which has no data."""
        answer = json.loads(self.body)
        assert isinstance(answer, dict)
        assert "data" not in answer
        errors: list[dict[str, Any]] = answer["errors"]
        assert errors
        assert all(error["message"] and error["extensions"]["code"] for error in errors)
        return errors


async def send_raw(url: str, sent: bytes, *, half_closed: bool = False) -> Answer:
    """Send all bytes, then read the response."""

    def exchange() -> Answer:
        address = urlsplit(url)
        with socket.create_connection((address.hostname or "", address.port or 0), 30) as plain:
            plain.sendall(sent)
            if half_closed:
                plain.shutdown(socket.SHUT_WR)
            with http.client.HTTPResponse(plain) as response:
                response.begin()
                return Answer(response.status, response.headers, response.read())

    return await anyio.to_thread.run_sync(exchange)


def posted(body: bytes, **headers: str) -> bytes:
    """Return the bytes of a POST. Header names have underscores for hyphens; "" omits a header."""
    fields = {"Content_Length": str(len(body)), "Content_Type": JSON, "Accept": "*/*", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    head = "\r\n".join(["POST /graphql HTTP/1.1", "Host: localhost", *lines])
    return head.encode() + b"\r\n\r\n" + body


def in_chunks(body: bytes, size: int = 65_536) -> bytes:
    """Return a body in chunked transfer coding."""
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
