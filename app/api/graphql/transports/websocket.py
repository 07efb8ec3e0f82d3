"""graphql-transport-ws: operations over a WebSocket.

Source: the protocol of the graphql-ws library, including its close codes.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import orjson
from graphql import OperationType
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.service import GraphQLService
from app.api.graphql.shared_subscriptions import StreamResult
from app.api.http.origins import address_of, is_same_origin
from app.api.http.refusals import BadRequest, Refused, Unauthenticated, report_bug
from app.api.http.request_log import RequestRecord, current_record
from app.api.http.uvicorn_protocols import frame_writer, mark_authenticated
from app.domain.callers import Caller

PROTOCOL = "graphql-transport-ws"

INIT_SECONDS = 10
"""Timeout for connection_init."""

MAX_REASON_BYTES = 123
"""Room for the reason in a close frame (RFC 6455, 5.5)."""


class CloseSocket(Exception):
    """Close the socket with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class SocketEndpoint:
    """ASGI endpoint for WebSockets from this host's pages, allowed origins, and programs.

    Programs send no Origin.
    """

    def __init__(
        self, service: GraphQLService, origins: Sequence[str], init_seconds: float = INIT_SECONDS
    ) -> None:
        self._service = service
        self._origins = frozenset(origins)
        self._init_seconds = init_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        if not is_same_origin(socket.headers, self._origins):
            # Closing before accepting fails the handshake with 403.
            await socket.close()
            return
        offered = PROTOCOL in socket.scope["subprotocols"]
        await socket.accept(PROTOCOL if offered else None)
        try:
            if not offered:
                raise CloseSocket(4406, "Subprotocol not acceptable")
            address = address_of(socket)
            self._service.access.throttle.take(address)
            with self._service.access.throttle.stream(address):
                await _SocketConnection(self._service, socket).serve(self._init_seconds)
        except CloseSocket as closed:
            await _close(socket, closed.code, closed.reason)
        except BadRequest as refused:
            # Too many sockets or too many per second: "try again later" in RFC 6455's registry.
            await _close(socket, 1013, str(refused))
        except WebSocketDisconnect:
            pass


class _SocketConnection:
    """State of one accepted socket: its caller and its running operations."""

    def __init__(self, service: GraphQLService, socket: WebSocket) -> None:
        self._service = service
        self._socket = socket
        self._address = address_of(socket)
        self._request_id: str = socket.state.request_id
        self._caller: Caller | None = None
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._admitting = asyncio.Lock()
        self._write = frame_writer(socket.scope)
        self._message_size = 0
        """Length of the message that is handled."""

    async def serve(self, init_seconds: float) -> None:
        """Handle messages until the client disconnects. Raises CloseSocket on a violation."""
        try:
            async with asyncio.timeout(init_seconds) as deadline:
                while True:
                    await self._handle(await self._receive(), deadline)
        except TimeoutError:
            if self._caller is None:
                raise CloseSocket(4408, "Connection initialisation timeout") from None
            raise CloseSocket(4403, "The token has expired") from None
        finally:
            tasks = list(self._operations.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _receive(self) -> Mapping[str, object]:
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received["code"])
        if (text := received.get("text")) is None:
            raise CloseSocket(4400, "A message must be text")
        try:
            message = orjson.loads(text)
            self._message_size = len(text)
        except orjson.JSONDecodeError:
            raise CloseSocket(4400, "A message must be JSON") from None
        if not isinstance(message, dict):
            raise CloseSocket(4400, "A message must be a JSON object")
        return message

    async def _handle(self, message: Mapping[str, object], deadline: asyncio.Timeout) -> None:
        match message.get("type"):
            case "connection_init":
                await self._init(_payload(message))
                deadline.reschedule(self._expiry())
                await self._send(type="connection_ack")
            case "ping":
                # The payload is echoed, as graphql-ws's reference server does.
                echo = {} if message.get("payload") is None else {"payload": _payload(message)}
                try:
                    pong = orjson.dumps({"type": "pong", **echo})
                except orjson.JSONEncodeError:
                    # orjson parses deeper nesting than it encodes.
                    raise CloseSocket(4400, "The payload is nested too deeply") from None
                await _send_text(self._socket, pong.decode())
            case "pong":
                _payload(message)
            case "subscribe":
                await self._subscribe(_id(message), message.get("payload"))
            case "complete":
                if task := self._operations.pop(_id(message), None):
                    task.cancel()
            case str(kind):
                raise CloseSocket(4400, f"There is no message of type {kind[:50]!r}")
            case _:
                raise CloseSocket(4400, "A message must have a type")

    async def _init(self, parameters: Mapping[str, object]) -> None:
        if self._caller is not None:
            raise CloseSocket(4429, "Too many initialisation requests")
        authorization: object = self._socket.headers.get("authorization")
        for name in ("Authorization", "authorization"):
            if parameters.get(name) is not None:
                authorization = parameters[name]
        if not isinstance(authorization, str | None):
            raise CloseSocket(4400, "Authorization must be a string")
        try:
            self._caller = await self._service.access.caller(authorization, self._address)
        except Unauthenticated as refused:
            raise CloseSocket(4403, str(refused)) from None
        mark_authenticated(self._socket.scope)

    def _expiry(self) -> float | None:
        """Return the expiry of the caller's token in event loop time, None without expiry."""
        assert self._caller
        seconds = self._caller.seconds_left(datetime.now(UTC))
        return None if seconds is None else asyncio.get_running_loop().time() + seconds

    async def _subscribe(self, id: str, payload: object) -> None:
        try:
            request = GraphQLRequest.of(payload, self._message_size)
        except BadRequest as refused:
            raise CloseSocket(4400, str(refused)) from None
        if self._caller is None:
            raise CloseSocket(4401, "Unauthorized")
        if id in self._operations:
            raise CloseSocket(4409, f"Subscriber for {id} already exists")
        limit = self._service.access.limits.max_operations_per_socket
        if (count := len(self._operations) + 1) > limit:
            too_many = BadRequest(
                f"Too many operations: at most {limit} may run on a socket.",
                code="OPERATION_LIMIT_EXCEEDED",
                extensions={"limit": limit, "found": count},
            )
            await self._send(id=id, **_error(too_many.errors))
            return
        self._operations[id] = asyncio.create_task(self._run(id, request, self._caller))

    async def _run(self, id: str, request: GraphQLRequest, caller: Caller) -> None:
        """Run an operation and send its results. Its failure does not affect other operations."""
        record = RequestRecord("ws", caller)
        current_record.set(record)
        end: dict[str, object] = {"type": "complete"}
        try:
            try:
                client = self._service.access.client(caller, self._address)
                throttle = self._service.access.throttle
                with throttle.work(client) as work:
                    # In their order: a later mutation must not overtake a subscription.
                    async with self._admitting:
                        operation = await self._service.admit(request, caller)
                    work.take_cost(operation.cost)
                    cost = operation.cost
                    is_subscription = operation.kind is OperationType.SUBSCRIPTION
                    results = self._service.executor.stream(operation, caller, self._request_id)
                    # Thousands of tasks may wait below for hours: release what they no longer need.
                    del operation, request
                    if not is_subscription:
                        await self._deliver(id, results)
                if is_subscription:
                    with throttle.subscription(client, cost):
                        await self._deliver(id, results)
            except WebSocketDisconnect:
                return
            except Refused as refused:
                record.record_refusal(refused)
                end = _error(refused.errors)
            except Exception as error:
                end = _error([report_bug(error, self._request_id)])
            # The id is free before the client learns of the end and may use it again.
            if self._operations.get(id) is asyncio.current_task():
                del self._operations[id]
            with suppress(WebSocketDisconnect):
                await self._send(id=id, **end)
        finally:
            record.log()

    async def _deliver(self, id: str, results: AsyncGenerator[StreamResult, None]) -> None:
        head = orjson.dumps({"type": "next", "id": id}).removesuffix(b"}")
        write = self._write
        async with aclosing(results):
            async for result in results:
                await write(b'%s,"payload":%s}' % (head, result.payload))

    async def _send(self, **message: object) -> None:
        await _send_text(self._socket, orjson.dumps(message).decode())


def _error(errors: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {"type": "error", "payload": errors}


def _payload(message: Mapping[str, object]) -> Mapping[str, object]:
    payload = message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        raise CloseSocket(4400, "payload must be an object")
    return payload or {}


def _id(message: Mapping[str, object]) -> str:
    id = message.get("id")
    if not isinstance(id, str) or not id:
        raise CloseSocket(4400, "id must be a non-empty string")
    return id


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close with the reason, cut to the room in a close frame."""
    cut = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
    with suppress(WebSocketDisconnect, WebSocketDisconnected):
        await socket.close(code, cut)


async def _send_text(socket: WebSocket, text: str) -> None:
    """Send a message. Raises WebSocketDisconnect if the client has disconnected."""
    try:
        await socket.send_text(text)
    except WebSocketDisconnected:
        # Another operation has already noticed the disconnect.
        raise WebSocketDisconnect(1006) from None
