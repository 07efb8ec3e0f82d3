"""GraphQL over HTTP: what is accepted, how it is answered, and with which status.

Source: the GraphQL over HTTP specification, with its appendix on persisted documents.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import mimeparse
import orjson
from graphql import OperationType
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.graphql.admission.documents import Operation
from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.service import GraphQLService
from app.api.graphql.shared_subscriptions import StreamResult
from app.api.graphql.transports.streams import Encoding, EventStream, Multipart, Stream
from app.api.http.middleware.body_limit import BODY_SECONDS
from app.api.http.origins import address_of
from app.api.http.refusals import BadRequest, Refused
from app.api.http.request_log import request_record
from app.api.web.playground import PLAYGROUND
from app.domain.callers import Caller

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"
MULTIPART = "multipart/mixed"

STREAMS: dict[str, Encoding] = {MULTIPART: Multipart(), EVENT_STREAM: EventStream()}

MEDIA_TYPE_CACHE_SIZE = 64
"""Values of Accept, and of Content-Type, whose meaning is kept; a head bounds their length."""

ANYTHING = (*STREAMS, JSON)
AN_ANSWER = (EVENT_STREAM, JSON)
A_STREAM = tuple(STREAMS)
"""What there is to choose from: before the operation is known, for a query or a mutation, and for a
subscription."""


class GraphQLEndpoint:
    """Operations over HTTP, one or a batch of them, and the playground for a browser's GET."""

    def __init__(self, service: GraphQLService, *, playground: bool) -> None:
        self._service = service
        self._playground = playground

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._response(request)
            await response(scope, receive, send)
        except Refused as refused:
            request_record().refused(refused)
            await _refusal(request, refused)(scope, receive, send)
        except ClientDisconnect:
            # In the middle of its body: nobody is there to be answered.
            return

    async def _response(self, request: Request) -> Response:
        if request.method not in ("GET", "POST"):
            raise _not_allowed("GraphQL is asked with GET or POST.", "GET, POST")
        if self._playground and _is_a_browsers(request):
            return PLAYGROUND.answer()
        if not _accepted(request, ANYTHING):
            raise _not_acceptable(
                f"Nothing that Accept names can be answered with. There are {JSON}, "
                f"{GRAPHQL_JSON}, {EVENT_STREAM}, and {MULTIPART} for subscriptions."
            )
        address = address_of(request)
        caller = await self._service.access.caller(request.headers.get("authorization"), address)
        client = self._service.access.client(caller, address)
        parameters = _from_url(request) if request.method == "GET" else await _from_body(request)
        if isinstance(parameters, list):
            return await self._batch(request, caller, client, parameters)

        self._service.access.throttle.take(client)
        operation = self._service.documents.admit(GraphQLRequest.of(parameters), caller)
        if request.method == "GET" and operation.kind is OperationType.MUTATION:
            raise _not_allowed("A mutation is sent with POST.", "POST")
        streamed = operation.kind is OperationType.SUBSCRIPTION
        media_type = _accepted(request, A_STREAM if streamed else AN_ANSWER)
        if not media_type:
            raise _not_acceptable(
                f"A subscription is answered with {EVENT_STREAM} or {MULTIPART}, and Accept "
                "names neither; or ask over a WebSocket."
                if streamed
                else f"{MULTIPART} is for subscriptions, and Accept names nothing else."
            )
        if media_type in STREAMS:
            return self._stream(request, caller, client, operation, STREAMS[media_type])
        answer = await self._service.executor.answer(operation, caller, request.state.request_id)
        return _json(answer, media_type)

    def _stream(
        self,
        request: Request,
        caller: Caller,
        client: str,
        operation: Operation,
        encoding: Encoding,
    ) -> Response:
        request_record().transport = encoding.transport
        results = self._service.executor.results(
            operation,
            caller,
            request.state.request_id,
            resume_from=request.headers.get("last-event-id"),
        )
        place = partial(self._service.access.throttle.stream, client)
        left = caller.seconds_left(datetime.now(UTC))
        return Stream(results, encoding, place, self._service.stopping, left)

    async def _batch(
        self, request: Request, caller: Caller, client: str, batch: Sequence[object]
    ) -> Response:
        """Every operation, one after the other, each with its own errors."""
        limit = self._service.access.limits.max_batch
        if not 1 <= len(batch) <= limit:
            raise BadRequest(
                f"The batch has {len(batch)} operations; 1 to {limit} are allowed."
                if limit
                else "Batches are not taken: send one operation a request.",
                "BATCH_LIMIT_EXCEEDED",
                extensions={"limit": limit, "found": len(batch)},
            )
        self._service.access.throttle.take(client, len(batch))
        answers: list[Any] = []
        spent = 0
        for parameters in batch:
            try:
                asked = GraphQLRequest.of(parameters)
                operation = self._service.documents.admit(asked, caller, spent)
                if operation.kind is OperationType.SUBSCRIPTION:
                    raise BadRequest("A subscription is sent alone, not in a batch.")
                spent += operation.cost
                answers.append(
                    await self._service.executor.answer(operation, caller, request.state.request_id)
                )
            except Refused as refused:
                request_record().refused(refused)
                answers.append({"errors": refused.errors})
        return _json(answers, JSON)


def _accepted(request: Request, types: tuple[str, ...]) -> str:
    """The best of these media types by Accept, the last one in doubt; empty where none will do.

    The media type of GraphQL is for those who name it: `*/*` is answered with plain JSON.
    """
    return _acceptable((request.headers.get("accept") or "*/*").lower(), types)


@lru_cache(MEDIA_TYPE_CACHE_SIZE)
def _acceptable(accept: str, types: tuple[str, ...]) -> str:
    offered = [one for one in types if one != JSON]
    if JSON in types:
        offered += [JSON, GRAPHQL_JSON] if GRAPHQL_JSON in accept else [JSON]
    return _best(offered, accept)


def _best(offered: Sequence[str], accept: str) -> str:
    try:
        best: str = mimeparse.best_match(offered, accept)
    except mimeparse.MimeTypeParseException:
        return ""
    return best


def _is_a_browsers(request: Request) -> bool:
    if request.method != "GET":
        return False
    accept = request.headers.get("accept", "").lower()
    return (
        "text/html" in accept
        and not request.query_params
        and _best([JSON, "text/html"], accept) == "text/html"
    )


def _from_url(request: Request) -> dict[str, object]:
    parameters: dict[str, object] = {}
    for name, value in request.query_params.multi_items():
        if name in parameters:
            raise BadRequest(f"The URL has {name} more than once.")
        parameters[name] = value
    for name in ("variables", "extensions"):
        if name in parameters:
            parameters[name] = _read(str(parameters[name]), f"{name} in the URL")
    return parameters


async def _from_body(request: Request) -> object:
    if not _is_json(request.headers.get("content-type", "").lower()):
        raise BadRequest(
            f"The body must be {JSON} in UTF-8.", "UNSUPPORTED_MEDIA_TYPE", 415, {"Accept": JSON}
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
    except TimeoutError:
        raise BadRequest(
            f"The body took longer than {BODY_SECONDS} seconds.", "REQUEST_TIMEOUT", 408
        ) from None
    return _read(body, "The body")


@lru_cache(MEDIA_TYPE_CACHE_SIZE)
def _is_json(content_type: str) -> bool:
    try:
        *kind, parameters = mimeparse.parse_mime_type(content_type)
    except mimeparse.MimeTypeParseException:
        return False
    charset = parameters.get("charset", "utf-8").strip('"')
    return "/".join(kind) == JSON and charset in ("utf-8", "utf8")


def _read(text: str | bytes, what: str) -> object:
    try:
        # orjson takes nothing that could not be stored and shown again, such as half a surrogate
        # pair, and no nesting that Python could not follow.
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{what} is not JSON: {error}.") from None


def _json(content: object, media_type: str, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content),
        status,
        {"Content-Type": f"{media_type}; charset=utf-8", "Vary": "Accept"},
    )


def _refusal(request: Request, refused: Refused) -> Response:
    media_type = _accepted(request, AN_ANSWER) or JSON
    answer = {"errors": refused.errors}
    if media_type == EVENT_STREAM and refused.well_formed:
        # A browser's EventSource shows its page nothing of an answer that is no stream.
        stream = STREAMS[media_type]
        return Response(
            stream.start + stream.result(StreamResult.of(answer)) + stream.end,
            headers={"Content-Type": stream.media_type},
        )
    if media_type == EVENT_STREAM:
        media_type = JSON
    status = 200 if refused.well_formed and media_type == JSON else refused.status
    response = _json(answer, media_type, status)
    response.headers.update(refused.headers)
    return response


def _not_acceptable(message: str) -> BadRequest:
    return BadRequest(message, "NOT_ACCEPTABLE", 406)


def _not_allowed(message: str, methods: str) -> BadRequest:
    return BadRequest(message, "METHOD_NOT_ALLOWED", 405, {"Allow": methods})
