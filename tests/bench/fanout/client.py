"""The load of the fan-out benchmark, as a process of its own: thousands of sockets with the same
subscription, and how long each message was on its way to each of them.

    python -m tests.bench.fanout.client URL PID SOCKETS EVENTS PATH BODY

URL and PID are the server's; posting BODY to PATH makes one event happen there.

It speaks just enough of RFC 6455 to be faster than any server it asks. An event is asked for once
everybody has heard the one before. What it found is one line of JSON.
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
AT_ONCE = 50
"""Handshakes under way."""
EVENT_SECONDS = 60
"""How long all may take to hear one."""
SETTLE_SECONDS = 2
"""How long those who came last may take to follow: their subscriptions are not acknowledged."""
WARM_UP = 5
"""Events that are not measured."""
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024

TEXT, PING, PONG = 0x1, 0x9, 0xA


@dataclass(frozen=True)
class Found:
    """What the client has measured of a server."""

    cpu_us: float
    """CPU time of the server for each message, in microseconds."""
    p50: float
    p99: float
    """Seconds from an event's `at` to its being read."""
    idle_kib: float
    """Memory of the server for each socket that has subscribed and waits."""
    client_cpu_us: float
    """CPU time of this process for each message."""
    messages: int


class Heard:
    """What all sockets have heard of the event that is under way."""

    def __init__(self, sockets: int) -> None:
        self._sockets = sockets
        self.messages: list[tuple[float, bytes]] = []
        self.whole = asyncio.Event()

    def listen(self, message: bytes) -> None:
        """Take one message of one socket."""
        self.messages.append((time.time(), message))
        if len(self.messages) == self._sockets:
            self.whole.set()


class Socket(asyncio.Protocol):
    """One subscriber."""

    def __init__(self, id: str, heard: Heard) -> None:
        self._id = id
        self._heard = heard
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
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
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
            asked = {"id": self._id, "type": "subscribe", "payload": {"query": DOCUMENT}}
            self._send(TEXT, orjson.dumps(asked))
            # A socket's messages are taken in order: once the pong is there, so is the other.
            self._send(TEXT, b'{"type":"ping"}')
        elif payload == b'{"type":"pong"}':
            self.subscribed.set_result(None)
        else:
            self._heard.listen(payload)

    def _send(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack("!H", length)
        # A mask of zeros leaves the payload as it is.
        self._transport.write(bytes([0x80 | opcode]) + size + b"\0\0\0\0" + payload)


def cpu_seconds(pid: int) -> float:
    """What a process has used, of its own and of the kernel's."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS


def memory_kib(pid: int) -> float:
    """What a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB


async def measured(url: str, pid: int, sockets: int, events: int, path: str, body: str) -> Found:
    """Subscribe on so many sockets, and have so many events told to all of them."""
    address = urlsplit(url)
    host, port = address.hostname, address.port
    assert host
    assert port
    loop = asyncio.get_running_loop()
    heard = Heard(sockets)
    free = asyncio.Semaphore(AT_ONCE)

    async def subscribe(number: int) -> None:
        async with free:
            _, socket = await loop.create_connection(lambda: Socket(str(number), heard), host, port)
            await socket.subscribed

    def trigger() -> None:
        # One connection for each: a server may close what was idle.
        connection = HTTPConnection(address.netloc, timeout=60)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        assert b"errors" not in answer, answer
        connection.close()

    async def event() -> list[float]:
        heard.messages.clear()
        heard.whole.clear()
        await loop.run_in_executor(None, trigger)
        async with asyncio.timeout(EVENT_SECONDS):
            await heard.whole.wait()
        last = orjson.loads(heard.messages[-1][1])
        at = datetime.fromisoformat(last["payload"]["data"]["jobEvents"]["at"]).timestamp()
        return [when - at for when, _ in heard.messages]

    # The first one is the dearest: what is loaded for it is no subscriber's.
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
    return Found(
        cpu_us=spent / len(latencies) * 1e6,
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        idle_kib=idle,
        client_cpu_us=client_spent / len(latencies) * 1e6,
        messages=len(latencies),
    )


if __name__ == "__main__":
    url, pid, sockets, events, path, body = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found = uvloop.run(measured(url, int(pid), int(sockets), int(events), path, body))
    print(orjson.dumps(asdict(found)).decode(), flush=True)
    # To say goodbye on thousands of sockets takes longer than to leave.
    os._exit(0)
