"""uvicorn's protocols, where strangers can neither fill memory or the log, nor stay for ever."""

import asyncio

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from app.services.metrics import DROPPED

HEAD_BYTES = 64 * 1024
"""How large a request line and headers may be, together."""

HEAD_SECONDS = 30
"""How long they may take, from the connection on or from their first byte."""


class HttpWire(HttpToolsProtocol):
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


class SocketWire(WebSocketsSansIOProtocol):
    """WebSocket."""

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

    async def send(self, message: ASGISendEvent) -> None:
        """Send. A handshake that is refused with an answer is over, too."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
