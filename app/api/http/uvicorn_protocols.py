"""uvicorn's HTTP and WebSocket protocols, with bounded memory, time and log output per connection.

The one module that overrides these protocols; tests/contract/test_seams.py names each internal.
"""

import asyncio
from collections.abc import Awaitable, Callable
from struct import Struct
from typing import Any

from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from app.observability.metrics import DROPPED

MAX_HEAD_BYTES = 64 * 1024
"""Max size of a request head: request line and headers."""

MAX_HEAD_SECONDS = 30
"""Max time to receive a head, from the connection or from the head's first byte."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP with bounded request heads: the parser alone stores any number of bytes, forever."""

    _head_bytes: int | None = 0
    """Bytes received of an incomplete head; None while a body is received."""
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(MAX_HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._head_bytes or self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(MAX_HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._cancel_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # The next byte begins another head.
        self._head_bytes = 0
        super().on_message_complete()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


FRAME_WRITER_EXTENSION = "jobs_gateway.write"
"""ASGI scope extension of sockets, which holds `BoundedWebSocketProtocol.write`."""

# RFC 6455, 5.2: the head of a final, unmasked text frame, and its length.
_TEXT_AND_7_BITS = Struct("!BB").pack
_TEXT_AND_16_BITS = Struct("!BBH").pack
_TEXT_AND_64_BITS = Struct("!BBQ").pack


def frame_writer(scope: Scope) -> Callable[[bytes], Awaitable[None]]:
    """Return the function that sends a text message on an accepted socket.

    It raises WebSocketDisconnect once the connection is closed.
    """
    write: Callable[[bytes], Awaitable[None]] = scope["extensions"][FRAME_WRITER_EXTENSION]
    return write


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
    """WebSocket with bounded memory, and with `write` to send without overhead."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.queue = _Inbox()  # type: ignore[assignment]

    def send_receive_event_to_app(self) -> None:
        """Refuse text that is not UTF-8, with a reason and without a traceback in the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.fail(1007, "Text must be UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        """Drop empty fragments: they count towards no limit."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Send a pong. Stop reading from a peer that does not read them, until it does."""
        super().handle_ping()
        if not (self.writable.is_set() or self.read_paused):
            self.read_paused = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the peer again."""
        super().resume_writing()
        if self.read_paused and self.queue.empty() and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def keepalive_timeout(self) -> None:
        """Drop an unresponsive peer. A close would wait forever until it reads unsent data."""
        DROPPED.inc()
        has_unsent_data = self.transport.get_write_buffer_size() > 0
        super().keepalive_timeout()
        if has_unsent_data:
            self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        """Add the frame writer to the scope of an accepted handshake."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[FRAME_WRITER_EXTENSION] = self.write

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
