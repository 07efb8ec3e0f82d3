"""The body limit: refuse too large bodies before they are in memory, and compressed ones."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.headers import headers_of
from app.api.http.refusals import BadRequest, Refusal

BODY_SECONDS = 30
"""Max time to receive a body."""

MAX_DRAINED_BYTES = 64 * 1024**2
MAX_DRAIN_SECONDS = 10
"""The rest of a refused body is read and dropped up to these limits: a client that still sends
would see a connection reset before the response."""


class BodyTooLarge(BadRequest):
    """A body that exceeds the limit. `received` counts the bytes so far or Content-Length."""

    def __init__(self, received: int, limit: int) -> None:
        super().__init__(
            f"The body has {received:,} bytes or more; at most {limit:,} are allowed.",
            code="BODY_TOO_LARGE",
            status=413,
            extensions={"limit": limit, "found": received},
        )


class BodyEncoded(BadRequest):
    """A body with a Content-Encoding, such as gzip: its size would be unknown before it is read."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"The body must not be encoded: Content-Encoding is {encoding[:50]!r}.",
            code="UNSUPPORTED_MEDIA_TYPE",
            status=415,
            # RFC 9110, 15.5.16.
            headers={"Accept-Encoding": "identity"},
        )


class BodyLimitMiddleware:
    """Refuses bodies larger than `limit` bytes with 413, and compressed ones with 415.

    A response that is sent before its request was fully read ends once the rest of the body is
    dropped.
    """

    def __init__(self, app: ASGIApp, limit: int, refusal: Refusal) -> None:
        self._app = app
        self._limit = limit
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        received = 0
        length = int(headers.get("content-length", 0))
        has_body = length > 0 or "transfer-encoding" in headers
        # A client that expects 100 Continue has not sent its body yet.
        unread = has_body and headers.get("expect", "").lower() != "100-continue"

        async def receive_limited() -> Message:
            nonlocal received, unread
            message = await receive()
            unread = bool(message.get("more_body"))
            received += len(message.get("body", b""))
            if received > self._limit:
                raise BodyTooLarge(received, self._limit)
            return message

        async def send_after_drain(message: Message) -> None:
            ends = message["type"] == "http.response.body" and not message.get("more_body")
            if ends and unread:
                await send({**message, "more_body": True})
                await _drain(receive)
                message = {"type": "http.response.body"}
            await send(message)

        try:
            encoding = headers.get("content-encoding", "")
            if has_body and encoding.lower() not in ("", "identity"):
                raise BodyEncoded(encoding)
            if length > self._limit:
                raise BodyTooLarge(length, self._limit)
            await self._app(scope, receive_limited, send_after_drain)
        except (BodyTooLarge, BodyEncoded) as refused:
            response = self._refusal(scope, refused)
            await response(scope, receive, send_after_drain)


async def _drain(receive: Receive) -> None:
    left = MAX_DRAINED_BYTES
    try:
        async with asyncio.timeout(MAX_DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return
