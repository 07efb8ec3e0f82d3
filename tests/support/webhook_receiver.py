"""A receiver of webhooks: an HTTP server on a real socket, which keeps what it was sent."""

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
    """A request whose signature is right."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """What a repetition is known by."""
        return self.headers["webhook-id"]

    @property
    def told(self) -> dict[str, Any]:
        """What it says."""
        told: dict[str, Any] = json.loads(self.body)
        return told

    @property
    def job(self) -> str:
        """The id of the job it tells of."""
        id: str = self.told["data"]["job"]["id"]
        return id


@dataclass
class Receiver:
    """Takes requests one by one and answers each as it was told to."""

    port: int
    answers: deque[tuple[int, str]] = field(default_factory=deque)
    """Statuses, each with the lines of its head; 204 once there are none. A body never comes."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless answers are to be held back."""
    received: "asyncio.Queue[Received]" = field(default_factory=asyncio.Queue)
    connections: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hooks"

    def will_answer(self, *statuses: int, head: str = "") -> None:
        """What it answers next."""
        self.answers.extend((status, head) for status in statuses)

    async def next(self) -> Received:
        """The next request."""
        async with asyncio.timeout(30):
            return await self.received.get()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request and end the connection."""
        self.connections += 1
        try:
            asked = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = asked[0].split(" ")
            assert method == "POST"
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in asked[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            signature = Webhook(SECRET).sign(headers["webhook-id"], sent_at, body.decode())
            assert headers["webhook-signature"] == signature
            self.received.put_nowait(Received(target, headers, body))
            await self.open.wait()
            status, more = self.answers.popleft() if self.answers else (204, "")
            head = more or "content-length: 0\r\n"
            writer.write(f"HTTP/1.1 {status} Told\r\n{head}\r\n".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(
    *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver, until the block ends."""
    receiver = Receiver(port)
    receiver.open.set()
    server = await asyncio.start_server(receiver.handle, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        # Whoever still waits for its answer does so no longer.
        receiver.open.set()
        server.close()
