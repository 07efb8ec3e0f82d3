"""uvicorn's protocols, where strangers can neither fill memory or the log, nor stay for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from struct import Struct
from typing import Any

from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from app.observability.metrics import DROPPED

HEAD_BYTES = 64 * 1024
"""How large a request line and headers may be, together."""

HEAD_SECONDS = 30
"""How long they may take, from the connection on or from their first byte."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP. A connection whose request line and headers have no end in sight is ended: the parser
    would keep them all in memory, and wait for ever."""

    _head_bytes: int | None = 0
    """What came of a head that is not complete; None while a body comes."""
    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._too_late = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._head_bytes or self.transport.is_closing():
            return
        if self._head_bytes > HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
        elif self._too_late is None:
            self._too_late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._head_bytes = None
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        self._head_bytes = 0
        super().on_message_complete()

    def _stop_waiting(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


FRAME_WRITER_EXTENSION = "jobs_gateway.write"
"""The extension of a socket's scope (ASGI) that is `SocketWire.write`."""

# RFC 6455, 5.2: the end of a text message, not masked, and its length.
_TEXT_AND_7_BITS = Struct("!BB").pack
_TEXT_AND_16_BITS = Struct("!BBH").pack
_TEXT_AND_64_BITS = Struct("!BBQ").pack


def frame_writer(scope: Scope) -> Callable[[bytes], Awaitable[None]]:
    """Sends a text message on an accepted socket. Raises WebSocketDisconnect where nobody is there
    any more."""
    write: Callable[[bytes], Awaitable[None]] = scope["extensions"][FRAME_WRITER_EXTENSION]
    return write


class _Inbox:
    """What came on a socket and was not taken yet. A queue of the standard library's takes 3 KiB of
    each of thousands of sockets, which wait most of the time."""

    def __init__(self) -> None:
        self._messages: list[ASGIReceiveEvent] = []
        self._waiting: asyncio.Future[None] | None = None
        """Its one reader, while nothing is there."""

    def put_nowait(self, message: ASGIReceiveEvent) -> None:
        """Add a message."""
        self._messages.append(message)
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> ASGIReceiveEvent:
        """Take the next message, once there is one."""
        while not self._messages:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._messages.pop(0)

    def empty(self) -> bool:
        """Whether all were taken."""
        return not self._messages


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = _Inbox()  # type: ignore[assignment]

    def send_receive_event_to_app(self) -> None:
        """Refuse text that is no UTF-8, with a reason and without a traceback in the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.fail(1007, "Text must be UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        """Take a piece of a message. Empty ones count towards no limit, so they are dropped."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, and hear no more of a peer that does not read the answers, until it does."""
        super().handle_ping()
        if not (self.writable.is_set() or self.read_paused):
            self.read_paused = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on, and hear the peer again."""
        super().resume_writing()
        if self.read_paused and self.queue.empty() and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def keepalive_timeout(self) -> None:
        """Drop a peer that is not there, also where it has left much unread: closing alone would
        wait for ever until it reads it."""
        DROPPED.inc()
        stuck = self.transport.get_write_buffer_size() > 0
        super().keepalive_timeout()
        if stuck:
            self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        """Begin to serve a socket, which may be written to in a shorter way, too."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[FRAME_WRITER_EXTENSION] = self.write

    async def write(self, text: bytes) -> None:
        """Send a text message, as `send` would.

        For thousands of sockets that are told the same at once: a message goes neither through all
        that is around the application nor through objects made for it alone.
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
        """Send. A handshake that is refused with an answer is over, too."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            # Nobody asks for them again, and they take 3 KiB.
            del self.request, self.response
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
