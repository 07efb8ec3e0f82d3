"""The body limit: larger bodies are refused before they are held in memory."""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_SECONDS = 30
"""How long a body may take to come."""


DRAINED_BYTES = 64 * 1024**2


DRAIN_SECONDS = 10
"""How much of a body that is refused, and for how long, is read and dropped: whoever still sends
would find the connection reset before the answer."""


class BodyTooLarge(Exception):
    """A body with more bytes than are taken."""

    def __init__(self, found: int, limit: int) -> None:
        super().__init__(f"The body has {found:,} bytes or more; at most {limit:,} are allowed.")
        self.found = found


class BodyLimitMiddleware:
    """Refuses bodies that are too large with 413, before they are held in memory.

    An answer that comes before its request was read ends once the rest of that is dropped.
    """

    def __init__(
        self, app: ASGIApp, limit: int, refusal: Callable[[str, BodyTooLarge], Response]
    ) -> None:
        self._app = app
        self._limit = limit
        self._refusal = refusal
        """What to answer at a path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while its body is small enough."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        received = 0
        # Who asks whether to go on has sent nothing yet.
        unread = headers.get("expect", "").lower() != "100-continue" and (
            "content-length" in headers or "transfer-encoding" in headers
        )

        async def receive_some() -> Message:
            nonlocal received, unread
            message = await receive()
            unread = bool(message.get("more_body"))
            received += len(message.get("body", b""))
            if received > self._limit:
                raise BodyTooLarge(received, self._limit)
            return message

        async def send_all(message: Message) -> None:
            ends = message["type"] == "http.response.body" and not message.get("more_body")
            if ends and unread:
                await send({**message, "more_body": True})
                await _drain(receive)
                message = {"type": "http.response.body"}
            await send(message)

        try:
            if (said := int(headers.get("content-length", 0))) > self._limit:
                raise BodyTooLarge(said, self._limit)
            await self._app(scope, receive_some, send_all)
        except BodyTooLarge as too_large:
            response = self._refusal(scope["path"], too_large)
            await response(scope, receive, send_all)


async def _drain(receive: Receive) -> None:
    left = DRAINED_BYTES
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return
