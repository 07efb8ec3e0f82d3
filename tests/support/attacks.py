"""Attacks on a gateway by bytes: floods of requests, bodies and frames, without a token."""

import json
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode

SECONDS = 5
"""Duration of an attack."""

TAIL_BYTES = 512
RECEIVE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Script:
    """What a connection of the attacker sends: `opening`, then `repeated` without end."""

    opening: bytes
    repeated: bytes = b""
    awaits: bytes = b""
    """Received before anything after `opening` is sent."""
    then: bytes = b""
    """Sent once before `repeated`."""
    reads: bool = True
    """Read the server's answers, after the awaited one."""


@dataclass
class Attacked:
    """The outcome of one connection of an attack."""

    sent: int = 0
    """Bytes that the server's machine accepted."""
    received: int = 0
    head: bytes = b""
    """First bytes received."""
    tail: bytes = b""
    """Last bytes received."""
    closed: bool = False
    """True if the server closed the connection."""
    error: str = ""
    """Why the server could not be reached."""

    @property
    def status(self) -> int | None:
        """Return the status of the first response."""
        words = self.head.split(None, 2)
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

    @property
    def close_code(self) -> int | None:
        """Return the code of a WebSocket's close frame, the last one received."""
        for start in range(len(self.tail) - 3):
            if self.tail[start] == 0x88 and self.tail[start + 1] == len(self.tail) - start - 2:
                return int.from_bytes(self.tail[start + 2 : start + 4], "big")
        return None


class _Connection:
    """A running script."""

    def __init__(self, script: Script, connected: socket.socket) -> None:
        self.outcome = Attacked()
        self._script = script
        self._socket = connected
        self._opened = not script.awaits
        self._unsent = script.opening if script.awaits else script.opening + script.then

    @property
    def events(self) -> int:
        """Return what the connection waits for."""
        reads = self._script.reads or not self._opened
        writes = self._unsent or (self._opened and self._script.repeated)
        return (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)

    def run(self, ready: int) -> None:
        """Receive and send what is possible."""
        try:
            if ready & selectors.EVENT_READ:
                self._receive()
            if ready & selectors.EVENT_WRITE:
                self._send()
        except BlockingIOError:
            return
        except OSError:
            self.outcome.closed = True

    def _receive(self) -> None:
        data = self._socket.recv(RECEIVE_BYTES)
        outcome = self.outcome
        outcome.closed = not data
        outcome.received += len(data)
        outcome.head = (outcome.head + data[:TAIL_BYTES])[:TAIL_BYTES]
        outcome.tail = (outcome.tail + data)[-TAIL_BYTES:]
        if not self._opened and self._script.awaits in outcome.head:
            self._opened = True
            self._unsent += self._script.then

    def _send(self) -> None:
        data = self._unsent or self._script.repeated
        count = self._socket.send(data)
        self.outcome.sent += count
        self._unsent = data[count:]


def flood(url: str, scripts: Sequence[Script], seconds: float = SECONDS) -> list[Attacked]:
    """Run scripts at once, each on its connection, until all are closed or `seconds` passed.

    Every connection stays open until the end unless the server closes it.
    """
    address = urlsplit(url)
    outcomes = []
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector, ExitStack() as sockets:
        for script in scripts:
            try:
                connected = socket.create_connection((address.hostname or "", address.port or 0), 5)
            except OSError as error:
                outcomes.append(Attacked(error=str(error)))
                continue
            sockets.enter_context(connected)
            connected.setblocking(False)
            connection = _Connection(script, connected)
            outcomes.append(connection.outcome)
            selector.register(connected, connection.events, connection)
        while selector.get_map() and time.monotonic() < deadline:
            for key, ready in selector.select(0.1):
                connection = key.data
                connection.run(ready)
                if connection.outcome.closed or not connection.events:
                    selector.unregister(key.fileobj)
                elif connection.events != key.events:
                    selector.modify(key.fileobj, connection.events, connection)
        # Those that send no more are held, like the others.
        time.sleep(
            max(0, deadline - time.monotonic()) if any(not o.closed for o in outcomes) else 0
        )
    return outcomes


def request(method: str = "GET", path: str = "/healthz", *headers: str) -> bytes:
    """Return the head of a request."""
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode()


def frame(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a masked frame."""
    return Frame(opcode, payload, fin=fin).serialize(mask=True)


HANDSHAKE = request(
    *("GET", "/graphql", "Upgrade: websocket", "Connection: Upgrade"),
    *("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}=="),
    "Sec-WebSocket-Protocol: graphql-transport-ws",
)
MESSAGE_PING = frame(Opcode.TEXT, b'{"type":"ping"}')
TOKENLESS = "Content-Type: application/json"


def pipelined_requests(url: str) -> list[Attacked]:
    """Send requests without end on three connections, and read no answer."""
    return flood(url, [Script(request() * 20_000, request() * 5_000, reads=False)] * 3)


def frames(url: str, repeated: bytes, then: bytes = b"", *, sockets: int = 3) -> list[Attacked]:
    """Send frames without end, after `then`."""
    block = repeated * (256 * 1024 // len(repeated))
    return flood(url, [Script(HANDSHAKE, block, awaits=b"\r\n\r\n", then=then)] * sockets)


def unfinished_bodies(url: str, connections: int) -> list[Attacked]:
    """Read answers of requests whose bodies never end."""
    script = Script(request("GET", "/healthz", "Content-Length: 10"), awaits=b"}", then=b"x")
    return flood(url, [script] * connections)


def idle_connections(url: str, connections: int) -> list[Attacked]:
    """Open connections and send nothing."""
    return flood(url, [Script(b"")] * connections)


def endless_trailers(url: str) -> list[Attacked]:
    """Send trailers without end after a chunked body."""
    opening = request("POST", "/graphql", TOKENLESS, "Transfer-Encoding: chunked") + b"0\r\n"
    return flood(url, [Script(opening, b"X-Trailer: x\r\n" * 20_000)] * 3)


def endless_chunk_extensions(url: str) -> list[Attacked]:
    """Send a chunk's extension without end."""
    opening = request("POST", "/graphql", TOKENLESS, "Transfer-Encoding: chunked") + b"1;"
    return flood(url, [Script(opening, b"x" * 256 * 1024)] * 3)


def large_heads(url: str, connections: int = 50) -> list[Attacked]:
    """Send heads of 70 KB, each in one packet."""
    head = request("GET", "/healthz", f"X-Long: {'x' * 70_000}")
    return flood(url, [Script(head)] * connections)


def unfinished_heads(url: str, connections: int, size: int = 60_000) -> list[Attacked]:
    """Hold heads that fill the limit and never end."""
    return flood(url, [Script(request()[:-2] + b"X-Long: " + b"x" * size)] * connections)


def upgrades(url: str) -> list[Attacked]:
    """Repeat requests that offer HTTP/2, with a body."""
    body = b'{"query":"{ __typename }"}'
    head = request(
        *("POST", "/graphql", TOKENLESS, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"),
        *("HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", f"Content-Length: {len(body)}"),
    )
    return flood(url, [Script(b"", (head + body) * 200)])


def unread_answers(url: str, query: str, authorization: str) -> list[Attacked]:
    """Repeat a query with a large answer on one connection, and read none."""
    body = json.dumps({"query": query}).encode()
    head = request(
        *("POST", "/graphql", TOKENLESS, f"Authorization: {authorization}"),
        f"Content-Length: {len(body)}",
    )
    return flood(url, [Script((head + body) * 100, head + body, reads=False)] * 10)
