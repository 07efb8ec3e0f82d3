"""Results over one long HTTP answer: server-sent events, and parts of a multipart answer.

Sources: graphql-sse's protocol, distinct connections mode; Apollo's multipart subscriptions.
"""

import asyncio
from abc import ABC, abstractmethod
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.graphql.shared_subscriptions import StreamResult
from app.api.http.refusals import Refused, Unauthenticated

BEAT_SECONDS = 10
"""How long a stream may be silent, so that nothing between takes it for dead."""

ResultStream = AsyncGenerator[StreamResult, None]


class Encoding(ABC):
    """How results are written one after the other."""

    transport: str
    """What the way is called in figures and in the log."""
    media_type: str
    start: bytes
    """Opens the stream: by it a client knows that it was taken up."""
    beat: bytes
    """Says nothing, but that the server is there."""
    end: bytes
    """Says that no more results follow."""

    @abstractmethod
    def result(self, told: StreamResult) -> bytes:
        """One result."""


class EventStream(Encoding):
    """text/event-stream. An event's id is its cursor, so that Last-Event-ID resumes behind it."""

    transport = "sse"
    media_type = "text/event-stream"
    start = beat = b":\n\n"
    end = b"event: complete\ndata:\n\n"

    def result(self, told: StreamResult) -> bytes:
        """Its id and its answer on a line each; JSON has no line breaks."""
        id = f"id: {told.cursor}\n".encode() if told.cursor else b""
        return b"%sevent: next\ndata: %s\n\n" % (id, told.payload)


class Multipart(Encoding):
    """multipart/mixed, as Apollo's clients read it. A part goes out with the delimiter behind it,
    since only by that a client knows that it is whole."""

    transport = "multipart"
    media_type = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
    start = b"\r\n--graphql"
    _head = b"\r\nContent-Type: application/json\r\n\r\n"
    beat = _head + b"{}" + start
    end = b"--\r\n"

    def result(self, told: StreamResult) -> bytes:
        """A part that has the answer as its payload."""
        return b'%s{"payload":%s}%s' % (self._head, told.payload, self.start)


class Stream(StreamingResponse):
    """An HTTP answer of results as they come. Its place among the client's streams is taken when it
    begins, and given back however it ends."""

    def __init__(
        self,
        results: ResultStream,
        encoding: Encoding,
        place: Callable[[], AbstractContextManager[None]],
        stopping: asyncio.Event,
        seconds: float | None = None,
    ) -> None:
        self._chunks = encoded(results, encoding, stopping, seconds)
        self._place = place
        super().__init__(
            self._chunks,
            headers={
                "Content-Type": encoding.media_type,
                "Cache-Control": "no-store",
                # nginx keeps what it proxies to itself until it has much of it.
                "X-Accel-Buffering": "no",
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all. Raises Refused before anything is sent where there is no place."""
        async with aclosing(self._chunks):
            with self._place():
                await super().__call__(scope, receive, send)


async def encoded(
    results: ResultStream, encoding: Encoding, stopping: asyncio.Event, seconds: float | None
) -> AsyncGenerator[bytes, None]:
    """The results as bytes, with a beat whenever there was none for long, and the end behind the
    last one. Once `seconds` are over the caller is no longer believed, is told so, and that is the
    end. A server that stops leaves the end out: who follows comes again."""
    clock = asyncio.get_running_loop().time
    until = None if seconds is None else clock() + seconds
    coming: asyncio.Task[StreamResult] | None = None
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        yield encoding.start
        while until is None or clock() < until:
            coming = coming or asyncio.ensure_future(_next(results))
            patience = BEAT_SECONDS if until is None else min(BEAT_SECONDS, until - clock())
            await asyncio.wait([coming, stopped], timeout=patience, return_when=FIRST_COMPLETED)
            if stopped.done():
                return
            if not coming.done():
                yield encoding.beat
                continue
            try:
                told = coming.result()
            except StopAsyncIteration:
                break
            except Refused as refused:
                told = StreamResult.of({"errors": refused.errors})
            coming = None
            yield encoding.result(told)
        else:
            yield encoding.result(
                StreamResult.of({"errors": Unauthenticated("The token has expired.").errors})
            )
        yield encoding.end
    finally:
        stopped.cancel()
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
        await results.aclose()


async def _next(results: ResultStream) -> StreamResult:
    return await anext(results)
