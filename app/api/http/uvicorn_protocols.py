"""uvicorn's HTTP and WebSocket protocols, with bounded memory, time and log output per connection.

Every byte that a client sends is counted here: heads, bodies, trailers, frames and what follows a
request before its response. The one module that overrides these protocols;
tests/contract/test_seams.py names each internal.
"""

import asyncio
import socket
import struct
from asyncio.transports import BaseTransport
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from struct import Struct
from typing import Any

import httptools
from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect
from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from app.api.http.connection_limit import CONNECTIONS
from app.observability.metrics import DROPPED

MAX_HEAD_BYTES = 64 * 1024
"""Max size of a request head: request line and headers. Of trailers, too."""

MAX_HEADERS = 200
"""Max headers of a request: each lookup of one goes through all of them."""

MAX_HEAD_SECONDS = 30
"""Max time to receive a head, from the connection or from the head's first byte."""

MAX_BODY_SECONDS = 30
"""Max time to receive a body, whether or not the request has been answered."""

GRACE_SECONDS = 10
"""Time after MAX_BODY_SECONDS for the application to answer that the body is late."""

MAX_UNREAD_SECONDS = 30
"""Max time without any progress of a client that does not read what was sent to it."""

CHUNK_SLICE_BYTES = 1024
"""Bytes of a chunked body parsed at once: its end is unknown, and more than one request that
follows it could be parsed with it, at most 64 in a slice of this size."""

MAX_FRAMING_PER_BYTE = 16
"""Max bytes of chunk sizes and extensions per byte of a chunked body, beyond MAX_HEAD_BYTES."""

SLICE_BYTES = 1024
"""Bytes of a WebSocket parsed at once, at most 170 frames (2.5 ms)."""

MAX_FRAMES_PER_TURN = 32
"""Frames after which a socket waits for its next turn of the event loop (0.5 ms)."""

MAX_FRAMES_PER_SECOND = 1_000
MAX_FRAMES_AT_ONCE = 2_000
"""Limits on the frames of a socket. Fragments of MIN_FRAGMENT_BYTES or more do not count."""
MIN_FRAGMENT_BYTES = 1024

_END_OF_HEAD = b"\r\n\r\n"

_BYTES_ACKED = 120
"""Offset of `tcpi_bytes_acked` (64 bits) in Linux's `tcp_info`, which is longer than that."""


class _Unread:
    """A watch over what the client has not read: without progress its connection is aborted.

    uvicorn closes a connection when everything is sent, which never happens with such a client.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin to watch, if anything is unsent."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self._timer = self._loop.call_later(MAX_UNREAD_SECONDS, self._check, self._progress())

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, before: int) -> None:
        self._timer = None
        if not self._transport.get_write_buffer_size():
            return
        if self._progress() > before:
            self.watch()
        else:
            DROPPED.inc()
            self._transport.abort()

    def _progress(self) -> int:
        """Return the bytes that the client's machine has acknowledged.

        It has no room for more once its client does not read. The unsent bytes are no measure:
        later responses add to them. They decide only where the system counts nothing (not Linux).
        """
        acknowledged = 0
        with suppress(OSError, AttributeError, struct.error):
            file: socket.socket = self._transport.get_extra_info("socket")
            info = file.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
            (acknowledged,) = struct.unpack_from("=Q", info, _BYTES_ACKED)
        return acknowledged or -self._transport.get_write_buffer_size()


class _HeldFlow(FlowControl):
    """Flow control whose reading stays paused while `is_held`."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()


class _AfterHead:
    """Callbacks of a parser that begins after the first head, which another parser has parsed."""

    def __init__(self, protocol: "BoundedHttpProtocol") -> None:
        self._protocol = protocol
        self._head_parsed = False
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if self._head_parsed:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._head_parsed:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_parsed:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._head_parsed:
            self._protocol.on_headers_complete()
        self._head_parsed = True


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP with bounded requests: the parser alone stores any number of bytes, forever.

    Requests of a connection are parsed one after the other: what follows a request is held, and
    reading stops, until its response is complete.
    """

    flow: _HeldFlow
    _unread: _Unread
    _unparsed = b""
    """Bytes received after a request that has no response yet."""
    _in_head = True
    _head_bytes = 0
    """Bytes parsed of an incomplete head."""
    _head_tail = b""
    """The last bytes of an incomplete head, in which its end may begin."""
    _line_ended = False
    """True if the request line of an incomplete head is complete."""
    _body_bytes = 0
    """Bytes received of the body."""
    _body_left: int | None = None
    """Bytes of the body not parsed yet; None if it is chunked."""
    _framing_left = 0
    """Bytes other than the body itself that may follow in a chunked body."""
    _held_bytes = 0
    """Bytes of an unfinished request, as counted in CONNECTIONS."""
    _timer: asyncio.TimerHandle | None = None
    """Limits the time to receive a request."""
    _is_late = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _HeldFlow(transport)
        self._unread = _Unread(self.loop, transport)
        self._start_timer(MAX_HEAD_SECONDS)
        CONNECTIONS.add(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._unread.stop()
        for cycle, _ in self.pipeline:
            # It never runs, which would break this reference cycle.
            cycle.on_response = lambda: None
        self.pipeline.clear()
        super().connection_lost(exc)

    @property
    def is_waiting(self) -> bool:
        """Return True unless a request is received as a whole and not answered yet."""
        return not self._in_head or self.cycle is None or self.cycle.response_complete

    def evict(self) -> None:
        self.transport.abort()

    # Receiving.

    @property
    def _reads(self) -> bool:
        """Return False once the connection is closing, or is handed over to a WebSocket."""
        return self.parser is not None and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._unparsed:
            self._unparsed += data
        else:
            self._parse(data)
        self._limit_rest()

    def _parse(self, data: bytes) -> None:
        """Parse up to the end of one request, and hold the rest until it is answered."""
        start = 0
        while start < len(data) and self._reads:
            if not self._in_head:
                end = self._end_of_body_part(data, start)
            elif self.is_waiting:
                end = self._end_of_head_part(data, start)
            else:
                self._unparsed = data[start:]
                self.flow.is_held = True
                self.flow.pause_reading()
                return
            if end is None:
                return
            try:
                start += self._feed(data[start:end])
            except httptools.HttpParserError:
                message = "Invalid HTTP request received."
                self.logger.warning(message)
                self._refuse(400, message)
                return

    def _feed(self, part: bytes) -> int:
        """Return the number of parsed bytes, all but those after an upgrade's head.

        Raises HttpParserError.
        """
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade as upgrade:
            if self.transport.is_closing():
                # Its head was refused.
                return len(part)
            if not self._should_upgrade():
                self._ignore_upgrade()
                return int(upgrade.args[0])
            self.handle_websocket_upgrade()
        return len(part)

    def _end_of_body_part(self, data: bytes, start: int) -> int | None:
        """Return the end of the part of the body that begins at `start`, which `data` may not have.

        Refuses too much framing, and returns None.
        """
        if self._body_left is not None:
            return start + max(1, self._body_left)
        end = min(len(data), start + CHUNK_SLICE_BYTES)
        self._framing_left -= end - start
        if self._framing_left < 0:
            self._refuse(400, "Chunk sizes, extensions and trailers are too large.")
            return None
        return end

    def _end_of_head_part(self, data: bytes, start: int) -> int | None:
        """Return the end of the part of the head that begins at `start`.

        Refuses a head that is too large, and returns None.
        """
        tail = self._head_tail
        index = (tail + data[start : start + 3]).find(_END_OF_HEAD) if tail else -1
        if index >= 0:
            end = start - len(tail) + index + len(_END_OF_HEAD)
        elif (index := data.find(_END_OF_HEAD, start)) >= 0:
            end = index + len(_END_OF_HEAD)
        else:
            end = len(data)
        left = MAX_HEAD_BYTES - self._head_bytes
        self._head_bytes += end - start
        if end - start > left:
            if self._line_ended or data.find(b"\n", start, start + left) >= 0:
                self._refuse(431, "The head of the request is too large.")
            else:
                self._refuse(414, "The URL of the request is too long.")
            return None
        if index >= 0:
            self._head_tail, self._line_ended = b"", True
        else:
            self._head_tail = (tail + data[max(start, end - 3) : end])[-3:]
            self._line_ended = self._line_ended or data.find(b"\n", start, end) >= 0
        return end

    def _limit_rest(self) -> None:
        """Limit the time to receive the rest of a request, and the bytes held until then."""
        if not self._reads:
            return
        held = len(self._unparsed)
        if self._in_head:
            held += self._head_bytes
            if self.is_waiting and self._timer is None and self.timeout_keep_alive_task is None:
                self._start_timer(MAX_HEAD_SECONDS)
        else:
            if not self.cycle.response_started:
                held += self._body_bytes
            if self._timer is None:
                self._start_timer(MAX_BODY_SECONDS)
        if held != self._held_bytes:
            self._held_bytes = held
            CONNECTIONS.hold(self, held)

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADERS:
            self._refuse(431, "The request has too many headers.")
            return
        self._in_head = self._line_ended = False
        self._head_bytes = self._body_bytes = self._body_left = 0
        self._framing_left = MAX_HEAD_BYTES
        if self._timer is not None:
            self._stop_timer()
        for name, value in self.headers:
            if name == b"transfer-encoding":
                self._body_left = None
                break
            if name == b"content-length":
                self._body_left = int(value)
        if self.expect_100_continue and self.parser.get_http_version() != "1.1":
            # RFC 9110, 10.1.1: a client of HTTP/1.0 does not wait for 100 Continue.
            self.expect_100_continue = False
            self.headers[:] = [header for header in self.headers if header[0] != b"expect"]
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self._drop_trailers()

    def _drop_trailers(self) -> None:
        """Keep trailers, which the parser reports like headers, from the application.

        RFC 9110, 6.5.1: they are no headers, and a running application has these already.
        """
        self.headers = []

    def on_body(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        self._body_bytes += len(body)
        if self._body_left is None:
            self._framing_left += (1 + MAX_FRAMING_PER_BYTE) * len(body)
        else:
            self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        if self.parser.should_upgrade() and not self._should_upgrade():
            # Only its head is complete.
            return
        # The next byte begins another head.
        self._in_head = True
        if self._timer is not None:
            self._stop_timer()
        super().on_message_complete()

    def _start_timer(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._on_late)

    def _stop_timer(self) -> None:
        self._is_late = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_late(self) -> None:
        """Close the connection. A late body gets an answer before, within GRACE_SECONDS."""
        if self._in_head or self._is_late or self.cycle.response_complete:
            self._close()
        else:
            self._is_late = True
            self._start_timer(GRACE_SECONDS)

    # Upgrades.

    def _should_upgrade(self) -> bool:
        # RFC 6455, 4.1: the method is GET.
        return self.scope["method"] == "GET" and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self._leave()
        super().handle_websocket_upgrade()
        # Each refers to the other.
        self.parser = None  # type: ignore[assignment]

    def _ignore_upgrade(self) -> None:
        """Parse the body of the request, like that of any other (RFC 9110, 7.8).

        The parser has skipped it: another one continues after the head.
        """
        self.parser = httptools.HttpRequestParser(_AfterHead(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        lengths = [
            b"%s: %s\r\n" % (name, value)
            for name, value in self.headers
            if name in (b"content-length", b"transfer-encoding")
        ]
        self._drop_trailers()
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(lengths))

    # Responding.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if cycle.scope["http_version"] != "1.1":
            # RFC 9112, 6.1: a client of HTTP/1.0 knows no chunks. The response ends with the
            # connection.
            cycle.keep_alive = False
            cycle.send = _without_chunks(cycle)  # type: ignore[assignment, method-assign]
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unread.watch()
        if self._unparsed and not self.transport.is_closing():
            data, self._unparsed = self._unparsed, b""
            self.flow.is_held = False
            self.flow.resume_reading()
            self._unset_keepalive_if_required()
            self._parse(data)
            self._limit_rest()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.watch()

    def _refuse(self, status: int, message: str) -> None:
        """Respond and close. Within another response, only close."""
        within = self.pipeline or (
            self.cycle is not None
            and self.cycle.response_started
            and not self.cycle.response_complete
        )
        if not within:
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: text/plain; charset=utf-8\r\n"
                + b"content-length: %d\r\nconnection: close\r\n\r\n%s"
                % (len(message), message.encode())
            )
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._unread.watch()

    def _leave(self) -> None:
        self._stop_timer()
        CONNECTIONS.remove(self)


def _without_chunks(
    cycle: RequestResponseCycle,
) -> Callable[[ASGISendEvent], Coroutine[Any, Any, None]]:
    """Return the `send` of a response that has a Content-Length or ends with the connection."""
    send = cycle.send

    async def send_unchunked(message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            # So that uvicorn does not announce chunks.
            cycle.chunked_encoding = True
            await send(message)
            cycle.chunked_encoding = False
        elif message["type"] == "http.response.body":
            # uvicorn compares the two.
            cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

    return send_unchunked


_SOCKET_EXTENSION = "jobs_gateway.socket"
"""ASGI scope extension of sockets, which holds their `BoundedWebSocketProtocol`."""

# RFC 6455, 5.2: the head of a final, unmasked text frame, and its length.
_TEXT_AND_7_BITS = Struct("!BB").pack
_TEXT_AND_16_BITS = Struct("!BBH").pack
_TEXT_AND_64_BITS = Struct("!BBQ").pack


def frame_writer(scope: Scope) -> Callable[[bytes], Awaitable[None]]:
    """Return the function that sends a text message on an accepted socket.

    It raises WebSocketDisconnect once the connection is closed.
    """
    protocol: BoundedWebSocketProtocol = scope["extensions"][_SOCKET_EXTENSION]
    return protocol.write


def mark_authenticated(scope: Scope) -> None:
    """Exempt a socket from eviction while other connections of its address wait."""
    protocol: BoundedWebSocketProtocol = scope["extensions"][_SOCKET_EXTENSION]
    protocol.is_waiting = False


class _Inbox:
    """Received messages of a socket, with the methods of asyncio.Queue that uvicorn calls.

    An asyncio.Queue takes 3 KiB per socket, of thousands that are idle most of the time.
    """

    def __init__(self) -> None:
        self._messages: list[ASGIReceiveEvent] = []
        self._waiter: asyncio.Future[None] | None = None
        """The one reader, while there are no messages."""

    def put_nowait(self, message: ASGIReceiveEvent) -> None:
        self._messages.append(message)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> ASGIReceiveEvent:
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.pop(0)

    def empty(self) -> bool:
        return not self._messages


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket with bounded memory and time, and with `write` to send without overhead.

    What arrives is parsed in slices, and the next one only after the application has taken the
    messages of the last one, in another turn of the event loop.
    """

    is_waiting = True
    """True until the client is authenticated: anyone can open handshakes."""
    _unread: _Unread
    _unparsed = b""
    """Bytes received after the last parsed slice."""
    _next_slice: asyncio.Handle | None = None
    """The scheduled turn that parses on."""
    _frames_of_turn = 0
    _frames_left: float = MAX_FRAMES_AT_ONCE
    _frames_counted_at = 0.0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.queue = _Inbox()  # type: ignore[assignment]

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._unread = _Unread(self.loop, self.transport)
        CONNECTIONS.add(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        CONNECTIONS.remove(self)
        self._unread.stop()
        self._unparsed = b""
        super().connection_lost(exc)
        # Its generator and the connection refer to each other: cyclic garbage.
        del self.conn.parser

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Release the scope: it refers to this protocol."""
        super().on_task_complete(task)
        del self.scope

    def evict(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._unparsed += data
        if self._next_slice is None:
            self._parse()

    def _parse(self) -> None:
        """Parse slices until the application has something to do, or the turn is long enough."""
        self._next_slice = None
        data, start, self._unparsed = self._unparsed, 0, b""
        self._frames_of_turn = 0
        while start < len(data) and self._reads:
            if self._frames_of_turn >= MAX_FRAMES_PER_TURN:
                self._next_slice = self.loop.call_soon(self._parse)
                break
            super().data_received(data[start : start + SLICE_BYTES])
            start += SLICE_BYTES
        if not self.transport.is_closing():
            self._unparsed = data[start:]
            if self._unparsed and not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()

    @property
    def _reads(self) -> bool:
        """Return True if nothing has to be done before more is parsed.

        A closed socket reads on until its peer's close frame; its messages are dropped.
        """
        return (
            (self.queue.empty() or self.close_sent)
            and self.writable.is_set()
            and not self.transport.is_closing()
        )

    def _read_on(self) -> None:
        """Parse or read on, if nothing has to be done before."""
        if not self._reads:
            return
        if self._unparsed:
            if self._next_slice is None:
                self._next_slice = self.loop.call_soon(self._parse)
        elif self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def handle_events(self) -> None:
        """Count frames. A peer that sends more than the limit is closed with 1008."""
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # uvicorn sends nothing and waits forever: for a line above 8 KiB, or a body.
            refusal = b"".join(self.conn.data_to_send())
            self.transport.write(refusal or self.conn.reject(400, "Bad Request").serialize())
            self.transport.close()
            return
        frames = sum(
            1
            for event in self.conn.events
            if isinstance(event, Frame)
            and (event.fin or memoryview(event.data).nbytes < MIN_FRAGMENT_BYTES)
        )
        self._frames_of_turn += frames
        now = self.loop.time()
        earned = (now - self._frames_counted_at) * MAX_FRAMES_PER_SECOND
        self._frames_left = min(MAX_FRAMES_AT_ONCE, self._frames_left + earned) - frames
        self._frames_counted_at = now
        if self._frames_left >= 0:
            super().handle_events()
            return
        self.conn.events.clear()
        if self.close_sent or not self.handshake_complete:
            self.transport.abort()
            return
        self.conn.fail(1008, "Too many messages")
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._unread.watch()

    def send_receive_event_to_app(self) -> None:
        """Refuse text that is not UTF-8, with a reason and without a traceback in the log."""
        if self.curr_msg_data_type != "text" or self.close_sent:
            super().send_receive_event_to_app()
            return
        raw, self.frames = b"".join(self.frames), []
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self.conn.fail(1007, "Text must be UTF-8")
            self.handle_parser_exception()
            return
        self.queue.put_nowait({"type": "websocket.receive", "text": text})
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_cont(self, event: Frame) -> None:
        """Drop empty fragments: they count towards no limit."""
        if event.data or event.fin:
            super().handle_cont(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.watch()

    def resume_writing(self) -> None:
        """Read from the peer again."""
        super().resume_writing()
        self._read_on()

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message. Read on after the last one."""
        message = await self.queue.get()
        self._read_on()
        return message

    def keepalive_timeout(self) -> None:
        """Drop an unresponsive peer. A close would wait forever until it reads unsent data."""
        DROPPED.inc()
        has_unsent_data = self.transport.get_write_buffer_size() > 0
        super().keepalive_timeout()
        if has_unsent_data:
            self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        """Add this protocol to the scope of an accepted handshake."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[_SOCKET_EXTENSION] = self

    async def write(self, text: bytes) -> None:
        """Send a text message like `send`, without middleware and objects per frame.

        For subscriptions, where thousands of sockets get the same event at once.
        """
        if not self.writable.is_set():
            await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise WebSocketDisconnect(1006)
        length = len(text)
        if length < 126:
            head = _TEXT_AND_7_BITS(0x81, length)
        elif length < 1 << 16:
            head = _TEXT_AND_16_BITS(0x81, 126, length)
        else:
            head = _TEXT_AND_64_BITS(0x81, 127, length)
        self.transport.write(head + text)

    async def send(self, message: ASGISendEvent) -> None:
        """Send an ASGI message. A handshake refused with a response is complete, too."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            # Not used after the handshake, and they take 3 KiB.
            del self.request, self.response
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
        elif message["type"] == "websocket.close":
            self._unread.watch()
            self._read_on()
