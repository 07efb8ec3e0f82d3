"""The client of the fan-out benchmark: thousands of sockets with the same subscription.

    python -m tests.bench.fanout.client URL PID SOCKETS EVENTS PATH BODY

URL and PID are the server's; a POST of BODY to PATH causes one event there. An event is caused once
all sockets have received the one before. The latency of each message is measured, and the result
printed as one line of JSON.

The client implements only the parts of RFC 6455 that it needs, to be faster than the servers.
"""

import asyncio
import os
import resource
import struct
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import uvloop

from tests.bench.table import percentile

DOCUMENT = "subscription { jobEvents { cursor type at job { id status version } } }"
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
MAX_HANDSHAKES = 50
"""Concurrent handshakes."""
EVENT_SECONDS = 60
"""Time for all sockets to receive an event."""
SETTLE_SECONDS = 2
"""Time for the last subscriptions to start: the protocol does not acknowledge them."""
WARM_UP = 5
"""Events before the measured ones."""
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024

TEXT, PING, PONG = 0x1, 0x9, 0xA


@dataclass(frozen=True)
class FanoutResult:
    """The figures of a server."""

    cpu_us: float
    """CPU time of the server per message, in microseconds."""
    p50: float
    p99: float
    """Seconds from an event's `at` to its receipt."""
    idle_kib: float
    """Memory of the server per idle subscriber, in KiB."""
    client_cpu_us: float
    """CPU time of this process per message, in microseconds."""
    messages: int


class Receipts:
    """The messages of the current event at all sockets, with the times of receipt."""

    def __init__(self, sockets: int) -> None:
        self._sockets = sockets
        self.messages: list[tuple[float, bytes]] = []
        self.complete = asyncio.Event()

    def add(self, message: bytes) -> None:
        """Add the message of one socket."""
        self.messages.append((time.time(), message))
        if len(self.messages) == self._sockets:
            self.complete.set()


class Socket(asyncio.Protocol):
    """One subscriber."""

    def __init__(self, id: str, receipts: Receipts) -> None:
        self._id = id
        self._receipts = receipts
        self._rest = b""
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(HANDSHAKE)

    def connection_lost(self, error: Exception | None) -> None:
        sys.exit(f"a socket was closed: {error}")

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._open:
            head, separator, data = data.partition(b"\r\n\r\n")
            if not separator:
                self._rest = head
                return
            assert b" 101 " in head.partition(b"\r\n")[0], head
            self._open = True
            self._send(TEXT, b'{"type":"connection_init"}')
        while len(data) >= 2:
            length, begin = data[1], 2
            if length == 126:
                length, begin = int.from_bytes(data[2:4]), 4
            end = begin + length
            if len(data) < end or len(data) < begin:
                break
            self._take(data[0] & 0x0F, data[begin:end])
            data = data[end:]
        self._rest = data

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send(PONG, payload)
        elif b"connection_ack" in payload[:30]:
            message = {"id": self._id, "type": "subscribe", "payload": {"query": DOCUMENT}}
            self._send(TEXT, orjson.dumps(message))
            # A server takes a socket's messages in order: after the pong it has the subscription.
            self._send(TEXT, b'{"type":"ping"}')
        elif payload == b'{"type":"pong"}':
            self.subscribed.set_result(None)
        else:
            self._receipts.add(payload)

    def _send(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack("!H", length)
        # A mask of zeros leaves the payload unchanged.
        self._transport.write(bytes([0x80 | opcode]) + size + b"\0\0\0\0" + payload)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, user and system, in seconds."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS


def memory_kib(pid: int) -> float:
    """Return the resident memory of a process, in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB


async def measure(
    url: str, pid: int, sockets: int, events: int, path: str, body: str
) -> FanoutResult:
    """Subscribe on `sockets` sockets, and measure `events` events."""
    address = urlsplit(url)
    host, port = address.hostname, address.port
    assert host
    assert port
    loop = asyncio.get_running_loop()
    receipts = Receipts(sockets)
    free = asyncio.Semaphore(MAX_HANDSHAKES)

    async def subscribe(number: int) -> None:
        async with free:
            _, socket = await loop.create_connection(
                lambda: Socket(str(number), receipts), host, port
            )
            await socket.subscribed

    def trigger() -> None:
        # A connection per event: a server may close idle connections.
        connection = HTTPConnection(address.netloc, timeout=60)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        assert b"errors" not in answer, answer
        connection.close()

    async def event() -> list[float]:
        receipts.messages.clear()
        receipts.complete.clear()
        await loop.run_in_executor(None, trigger)
        async with asyncio.timeout(EVENT_SECONDS):
            await receipts.complete.wait()
        last = orjson.loads(receipts.messages[-1][1])
        at = datetime.fromisoformat(last["payload"]["data"]["jobEvents"]["at"]).timestamp()
        return [when - at for when, _ in receipts.messages]

    # The first subscription also loads code and data that belong to no subscriber.
    await subscribe(0)
    before = memory_kib(pid)
    await asyncio.gather(*map(subscribe, range(1, sockets)))
    idle = (memory_kib(pid) - before) / (sockets - 1)
    await asyncio.sleep(SETTLE_SECONDS)
    for _ in range(WARM_UP):
        await event()
    latencies: list[float] = []
    began, client_began = cpu_seconds(pid), time.process_time()
    for _ in range(events):
        latencies += await event()
    spent, client_spent = cpu_seconds(pid) - began, time.process_time() - client_began
    return FanoutResult(
        cpu_us=spent / len(latencies) * 1e6,
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        idle_kib=idle,
        client_cpu_us=client_spent / len(latencies) * 1e6,
        messages=len(latencies),
    )


if __name__ == "__main__":
    url, pid, sockets, events, path, body = sys.argv[1:]
    _, max_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))
    result = uvloop.run(measure(url, int(pid), int(sockets), int(events), path, body))
    print(orjson.dumps(asdict(result)).decode(), flush=True)
    # Closing thousands of sockets properly would take long.
    os._exit(0)
