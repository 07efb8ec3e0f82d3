"""Streamed HTTP responses: server-sent events and multipart/mixed.

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

KEEPALIVE_SECONDS = 10
"""Maximum silence of a stream, so that proxies do not close it as idle."""

ResultStream = AsyncGenerator[StreamResult, None]


class StreamEncoding(ABC):
    """Wire format of a stream of results."""

    transport: str
    """Label in metrics and in the request log."""
    media_type: str
    start: bytes
    """Sent first: confirms to the client that the stream is open."""
    keepalive: bytes
    """Sent during silence: carries no result."""
    end: bytes
    """Sent last: no more results follow."""

    @abstractmethod
    def encode(self, result: StreamResult) -> bytes:
        """Encode one result."""


class EventStreamEncoding(StreamEncoding):
    """text/event-stream. An event's id is its cursor: Last-Event-ID resumes after it."""

    transport = "sse"
    media_type = "text/event-stream"
    start = keepalive = b":\n\n"
    end = b"event: complete\ndata:\n\n"

    def encode(self, result: StreamResult) -> bytes:
        """Encode id and payload, one line each: JSON from orjson has no line breaks."""
        id = f"id: {result.cursor}\n".encode() if result.cursor else b""
        return b"%sevent: next\ndata: %s\n\n" % (id, result.payload)


class MultipartEncoding(StreamEncoding):
    """multipart/mixed in Apollo's subscription protocol.

    A part is sent together with the delimiter after it: only then does a client treat it as
    complete.
    """

    transport = "multipart"
    media_type = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
    start = b"\r\n--graphql"
    _head = b"\r\nContent-Type: application/json\r\n\r\n"
    keepalive = _head + b"{}" + start
    end = b"--\r\n"

    def encode(self, result: StreamResult) -> bytes:
        """Encode a part with the result as its payload."""
        return b'%s{"payload":%s}%s' % (self._head, result.payload, self.start)


class StreamResponse(StreamingResponse):
    """HTTP response that streams results as they arrive.

    `reserve` counts the stream against the client's limit for as long as it lasts. `seconds` is
    the remaining lifetime of the caller's token, None without expiry.
    """

    def __init__(
        self,
        results: ResultStream,
        encoding: StreamEncoding,
        reserve: Callable[[], AbstractContextManager[None]],
        stopping: asyncio.Event,
        seconds: float | None = None,
    ) -> None:
        self._chunks = encode_results(results, encoding, stopping, seconds)
        self._reserve = reserve
        super().__init__(
            self._chunks,
            headers={
                "Content-Type": encoding.media_type,
                "Cache-Control": "no-store",
                # nginx would buffer the response and delay results.
                "X-Accel-Buffering": "no",
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream. Raises Refused, before any byte is sent, above the client's limit."""
        async with aclosing(self._chunks):
            with self._reserve():
                await super().__call__(scope, receive, send)


async def encode_results(
    results: ResultStream, encoding: StreamEncoding, stopping: asyncio.Event, seconds: float | None
) -> AsyncGenerator[bytes, None]:
    """Encode results as they arrive, with keep-alives during silence, and then the end.

    After `seconds` the caller's token has expired: an error is sent, then the end. When the server
    is `stopping` the end is left out, so that clients reconnect.
    """
    clock = asyncio.get_running_loop().time
    expiry = None if seconds is None else clock() + seconds
    pending: asyncio.Task[StreamResult] | None = None
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        yield encoding.start
        while expiry is None or clock() < expiry:
            pending = pending or asyncio.ensure_future(_next(results))
            timeout = (
                KEEPALIVE_SECONDS if expiry is None else min(KEEPALIVE_SECONDS, expiry - clock())
            )
            await asyncio.wait([pending, stopped], timeout=timeout, return_when=FIRST_COMPLETED)
            if stopped.done():
                return
            if not pending.done():
                yield encoding.keepalive
                continue
            try:
                result = pending.result()
            except StopAsyncIteration:
                break
            except Refused as refused:
                result = StreamResult.of({"errors": refused.errors})
            pending = None
            yield encoding.encode(result)
        else:
            yield encoding.encode(
                StreamResult.of({"errors": Unauthenticated("The token has expired.").errors})
            )
        yield encoding.end
    finally:
        stopped.cancel()
        if pending is not None:
            pending.cancel()
            await asyncio.wait([pending])
        await results.aclose()


async def _next(results: ResultStream) -> StreamResult:
    return await anext(results)
