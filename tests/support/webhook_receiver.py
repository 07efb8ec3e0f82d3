"""A receiver of webhooks: an HTTP server on a real socket that records its requests."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_QSBzZWNyZXQgb2YgdGhlIHRlc3RzIG9mIHdlYmhvb2tz"


@dataclass(frozen=True)
class Received:
    """A request with a valid signature."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The id of the delivery, equal for every attempt."""
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        """The decoded body."""
        message: dict[str, Any] = json.loads(self.body)
        return message

    @property
    def job(self) -> str:
        """The id of the job in the message."""
        id: str = self.message["data"]["job"]["id"]
        return id


@dataclass
class Receiver:
    """Takes one request per connection, and answers with the queued statuses."""

    port: int
    answers: deque[tuple[int, str]] = field(default_factory=deque)
    """Statuses with header lines, in order; 204 once the queue is empty. No answer has a body."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers wait until this is set."""
    received: "asyncio.Queue[Received]" = field(default_factory=asyncio.Queue)
    connections: int = 0

    @property
    def url(self) -> str:
        """The URL of the receiver."""
        return f"http://127.0.0.1:{self.port}/hooks"

    def will_answer(self, *statuses: int, head: str = "") -> None:
        """Queue the statuses of the next answers, each with the header lines of `head`."""
        self.answers.extend((status, head) for status in statuses)

    async def next(self) -> Received:
        """Wait for the next request."""
        async with asyncio.timeout(30):
            return await self.received.get()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close the connection."""
        self.connections += 1
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = lines[0].split(" ")
            assert method == "POST"
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in lines[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            signature = Webhook(SECRET).sign(headers["webhook-id"], sent_at, body.decode())
            assert headers["webhook-signature"] == signature
            self.received.put_nowait(Received(target, headers, body))
            await self.open.wait()
            status, more = self.answers.popleft() if self.answers else (204, "")
            head = more or "content-length: 0\r\n"
            writer.write(f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(
    *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Run a receiver until the block ends."""
    receiver = Receiver(port)
    receiver.open.set()
    server = await asyncio.start_server(receiver.handle, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        # Requests that still wait for their answer get it now.
        receiver.open.set()
        server.close()
