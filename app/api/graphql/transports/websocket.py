"""graphql-transport-ws: operations over a WebSocket.

Source: the protocol of the graphql-ws library, its close codes included.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.service import GraphQLService
from app.api.http.origins import address_of, is_same_origin
from app.api.http.refusals import BadRequest, Refused, Unauthenticated, bug
from app.api.http.request_log import RequestRecord, current_record
from app.api.http.uvicorn_protocols import frame_writer
from app.domain.callers import Caller

PROTOCOL = "graphql-transport-ws"

INIT_SECONDS = 10
"""How long a socket may take to say connection_init."""

REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, 5.5)."""


class Closed(Exception):
    """The socket is to be closed with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class SocketEndpoint:
    """WebSockets of this host's pages, of the pages of origins that are allowed, and of programs,
    which name no origin."""

    def __init__(
        self, service: GraphQLService, origins: Sequence[str], init_seconds: float = INIT_SECONDS
    ) -> None:
        self._service = service
        self._origins = frozenset(origins)
        self._init_seconds = init_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket to its end."""
        socket = WebSocket(scope, receive, send)
        if not is_same_origin(socket, self._origins):
            # Closed before it is accepted: the handshake is answered with 403.
            await socket.close()
            return
        offered = PROTOCOL in socket.scope["subprotocols"]
        await socket.accept(PROTOCOL if offered else None)
        try:
            if not offered:
                raise Closed(4406, "Subprotocol not acceptable")
            address = address_of(socket)
            self._service.access.throttle.take(address)
            with self._service.access.throttle.stream(address):
                await _SocketConnection(self._service, socket).serve(self._init_seconds)
        except Closed as closed:
            await _close(socket, closed.code, closed.reason)
        except BadRequest as refused:
            # Too many sockets, or too often: the client may try again later (RFC 6455's registry).
            await _close(socket, 1013, str(refused))
        except WebSocketDisconnect:
            pass


class _SocketConnection:
    """One accepted socket: what it has said so far, and its operations."""

    def __init__(self, service: GraphQLService, socket: WebSocket) -> None:
        self._service = service
        self._socket = socket
        self._address = address_of(socket)
        self._request_id: str = socket.state.request_id
        self._caller: Caller | None = None
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._write = frame_writer(socket.scope)

    async def serve(self, init_seconds: float) -> None:
        """Take messages until the client goes. Raises Closed when it has to go."""
        try:
            async with asyncio.timeout(init_seconds) as patience:
                while True:
                    await self._take(await self._message(), patience)
        except TimeoutError:
            if self._caller is None:
                raise Closed(4408, "Connection initialisation timeout") from None
            raise Closed(4403, "The token has expired") from None
        finally:
            running = list(self._operations.values())
            for operation in running:
                operation.cancel()
            if running:
                await asyncio.wait(running)

    async def _message(self) -> Mapping[str, Any]:
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received["code"])
        if (text := received.get("text")) is None:
            raise Closed(4400, "A message must be text")
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise Closed(4400, "A message must be JSON") from None
        if not isinstance(message, dict):
            raise Closed(4400, "A message must be a JSON object")
        return message

    async def _take(self, message: Mapping[str, Any], patience: asyncio.Timeout) -> None:
        match message.get("type"):
            case "connection_init":
                await self._init(_payload(message))
                patience.reschedule(self._expiry())
                await self._send(type="connection_ack")
            case "ping":
                # What comes with it goes back with it, as the reference server has it.
                echo = {} if message.get("payload") is None else {"payload": _payload(message)}
                try:
                    pong = orjson.dumps({"type": "pong", **echo})
                except orjson.JSONEncodeError:
                    # What can be read may be nested more deeply than what can be written.
                    raise Closed(4400, "The payload is nested too deeply") from None
                await _tell(self._socket, pong.decode())
            case "pong":
                _payload(message)
            case "subscribe":
                await self._subscribe(_id(message), message.get("payload"))
            case "complete":
                if operation := self._operations.pop(_id(message), None):
                    operation.cancel()
            case str(kind):
                raise Closed(4400, f"There is no message of type {kind[:50]!r}")
            case _:
                raise Closed(4400, "A message must have a type")

    async def _init(self, parameters: Mapping[str, Any]) -> None:
        if self._caller is not None:
            raise Closed(4429, "Too many initialisation requests")
        authorization = self._socket.headers.get("authorization")
        for name in ("Authorization", "authorization"):
            if parameters.get(name) is not None:
                authorization = parameters[name]
        if not isinstance(authorization, str | None):
            raise Closed(4400, "Authorization must be a string")
        try:
            self._caller = await self._service.access.caller(authorization, self._address)
        except Unauthenticated as refused:
            raise Closed(4403, str(refused)) from None

    def _expiry(self) -> float | None:
        """When the caller's token is no longer good, by the clock of the event loop."""
        assert self._caller
        left = self._caller.seconds_left(datetime.now(UTC))
        return None if left is None else asyncio.get_running_loop().time() + left

    async def _subscribe(self, id: str, payload: object) -> None:
        try:
            request = GraphQLRequest.of(payload)
        except BadRequest as refused:
            raise Closed(4400, str(refused)) from None
        if self._caller is None:
            raise Closed(4401, "Unauthorized")
        if id in self._operations:
            raise Closed(4409, f"Subscriber for {id} already exists")
        limit = self._service.access.limits.max_operations_per_socket
        if (found := len(self._operations) + 1) > limit:
            too_many = BadRequest(
                f"Too many operations: at most {limit} may run on a socket.",
                "OPERATION_LIMIT_EXCEEDED",
                extensions={"limit": limit, "found": found},
            )
            await self._send(id=id, **_error(too_many.errors))
            return
        self._operations[id] = asyncio.create_task(self._run(id, request, self._caller))

    async def _run(self, id: str, request: GraphQLRequest, caller: Caller) -> None:
        """Run an operation and tell its results; nothing that goes wrong with it ends another."""
        exchange = RequestRecord("ws", caller)
        current_record.set(exchange)
        end: dict[str, object] = {"type": "complete"}
        try:
            try:
                self._service.access.throttle.take(
                    self._service.access.client(caller, self._address)
                )
                operation = self._service.documents.admit(request, caller)
                results = self._service.executor.results(operation, caller, self._request_id)
                # Thousands may wait in here for hours.
                del operation, request
                head = orjson.dumps({"type": "next", "id": id}).removesuffix(b"}")
                write = self._write
                async with aclosing(results):
                    async for told in results:
                        await write(b'%s,"payload":%s}' % (head, told.payload))
            except WebSocketDisconnect:
                return
            except Refused as refused:
                exchange.refused(refused)
                end = _error(refused.errors)
            except Exception as error:
                end = _error([bug(error, self._request_id)])
            # Free before the client hears that it is.
            if self._operations.get(id) is asyncio.current_task():
                del self._operations[id]
            with suppress(WebSocketDisconnect):
                await self._send(id=id, **end)
        finally:
            exchange.tell()

    async def _send(self, **message: object) -> None:
        await _tell(self._socket, orjson.dumps(message).decode())


def _error(errors: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    return {"type": "error", "payload": errors}


def _payload(message: Mapping[str, Any]) -> Mapping[str, Any]:
    payload = message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        raise Closed(4400, "payload must be an object")
    return payload or {}


def _id(message: Mapping[str, Any]) -> str:
    id = message.get("id")
    if not isinstance(id, str) or not id:
        raise Closed(4400, "id must be a string that is not empty")
    return id


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Close with as much of the reason as a close frame has room for."""
    room = reason.encode()[:REASON_BYTES].decode(errors="ignore")
    with suppress(WebSocketDisconnect, WebSocketDisconnected):
        await socket.close(code, room)


async def _tell(socket: WebSocket, text: str) -> None:
    """Send a message. Raises WebSocketDisconnect where nobody is there any more."""
    try:
        await socket.send_text(text)
    except WebSocketDisconnected:
        # Another operation has found that out before.
        raise WebSocketDisconnect(1006) from None
