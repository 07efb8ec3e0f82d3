"""GraphQL over HTTP: requests, content negotiation, responses and their status.

Source: the GraphQL over HTTP specification, edition of September 2026.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache

import mimeparse
import orjson
from graphql import OperationType
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.graphql.admission.documents import Operation
from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.plans.plan import GraphQLResponse
from app.api.graphql.service import GraphQLService
from app.api.graphql.shared_subscriptions import StreamResult
from app.api.graphql.transports.sse_multipart import (
    EventStreamEncoding,
    MultipartEncoding,
    StreamEncoding,
    StreamResponse,
)
from app.api.http.disconnects import ClientWatch
from app.api.http.headers import headers_of
from app.api.http.middleware.body_limit import BODY_SECONDS
from app.api.http.origins import address_of, is_cross_site
from app.api.http.refusals import BadRequest, ForeignPage, Malformed, Refused
from app.api.http.request_log import request_record
from app.api.web.playground import PLAYGROUND
from app.domain.callers import Caller

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
EVENT_STREAM = "text/event-stream"
MULTIPART = "multipart/mixed"

PARTIAL_SUCCESS = 294
"""The status of a response with `data` and `errors`."""

STREAMS: dict[str, StreamEncoding] = {
    MULTIPART: MultipartEncoding(),
    EVENT_STREAM: EventStreamEncoding(),
}

MAX_MEDIA_TYPES_LENGTH = 2048
"""Max length of Accept that is read; a longer one counts as `*/*` (64 KiB took 0.2 s to compare).
A longer Content-Type is not JSON."""

MEDIA_TYPE_CACHE_SIZE = 64
"""Parsed values of Accept, and of Content-Type. The limit on heads bounds their length."""

ALL_TYPES = (*STREAMS, JSON)
"""Media types to negotiate before the operation is known."""
QUERY_TYPES = (EVENT_STREAM, JSON)
"""Media types for a query or a mutation."""
SUBSCRIPTION_TYPES = tuple(STREAMS)
"""Media types for a subscription."""


class GraphQLEndpoint:
    """ASGI endpoint for single and batched operations, and for the playground page."""

    def __init__(
        self, service: GraphQLService, origins: Collection[str], *, playground: bool
    ) -> None:
        self._service = service
        self._origins = origins
        self._playground = playground

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, headers = Request(scope, receive), headers_of(scope)
        try:
            response = await self._response(request, headers)
            await response(scope, receive, send)
        except Refused as refused:
            request_record().record_refusal(refused)
            await refusal_response(headers, refused)(scope, receive, send)
        except ClientDisconnect:
            # While its body was read: there is no client to respond to.
            return

    async def _response(self, request: Request, headers: Mapping[str, str]) -> Response:
        if request.method not in ("GET", "POST"):
            raise _not_allowed("GraphQL requests use GET or POST.", "GET, POST")
        if self._playground and _prefers_html(request, headers):
            return PLAYGROUND.response()
        if is_cross_site(headers, self._origins):
            raise ForeignPage
        if not _negotiate(headers, ALL_TYPES):
            raise _not_acceptable(
                f"Accept names no supported media type. Supported are {JSON}, {GRAPHQL_JSON}, "
                f"{EVENT_STREAM}, and {MULTIPART} for subscriptions."
            )
        address = address_of(request)
        caller = await self._service.access.caller(headers.get("authorization"), address)
        client = self._service.access.client(caller, address)
        if request.method == "GET":
            parameters: object = _read_url(request)
            size = len(request.url.query)
        else:
            body = await _read_body(request, headers)
            parameters, size = _parse_json(body, "The body"), len(body)
        if isinstance(parameters, list):
            return await self._batch(request, caller, client, parameters, size)

        with self._service.access.throttle.work(client) as work:
            graphql_request = GraphQLRequest.of(parameters, size)
            operation = await self._service.admit(graphql_request, caller)
            work.take_cost(operation.cost)
            if request.method == "GET" and operation.kind is OperationType.MUTATION:
                raise _not_allowed("Mutations use POST.", "POST")
            is_subscription = operation.kind is OperationType.SUBSCRIPTION
            media_type = _negotiate(headers, SUBSCRIPTION_TYPES if is_subscription else QUERY_TYPES)
            if not media_type:
                raise _not_acceptable(
                    f"A subscription needs {EVENT_STREAM} or {MULTIPART} in Accept, or a WebSocket."
                    if is_subscription
                    else f"{MULTIPART} is for subscriptions, and Accept names no other media type."
                )
            if is_subscription:
                return self._stream(request, caller, client, operation, STREAMS[media_type])
            if media_type in STREAMS:
                request_record().transport = STREAMS[media_type].transport
            response = await self._execute(request, operation, caller)
        if media_type in STREAMS:
            return _single_result(STREAMS[media_type], response)
        return _json(response, media_type, _status_of(response, media_type))

    async def _execute(
        self, request: Request, operation: Operation, caller: Caller
    ) -> GraphQLResponse:
        execution = self._service.executor.execute(operation, caller, request.state.request_id)
        if operation.kind is OperationType.MUTATION:
            # Whether it was committed must not depend on its client's connection.
            return await execution
        with ClientWatch(request.receive):
            return await execution

    def _stream(
        self,
        request: Request,
        caller: Caller,
        client: str,
        operation: Operation,
        encoding: StreamEncoding,
    ) -> Response:
        request_record().transport = encoding.transport
        results = self._service.executor.stream(
            operation,
            caller,
            request.state.request_id,
            resume_from=request.headers.get("last-event-id"),
        )
        throttle, cost = self._service.access.throttle, operation.cost

        @contextmanager
        def reserve() -> Iterator[None]:
            with throttle.stream(client), throttle.subscription(client, cost):
                yield

        seconds = caller.seconds_left(datetime.now(UTC))
        return StreamResponse(results, encoding, reserve, self._service.stopping, seconds)

    async def _batch(
        self,
        request: Request,
        caller: Caller,
        client: str,
        batch: Sequence[object],
        size: int,
    ) -> Response:
        """Run the operations one after another; a refusal of one does not affect the others."""
        limit = self._service.access.limits.max_batch
        if not 1 <= len(batch) <= limit:
            raise Malformed(
                f"The batch has {len(batch)} operations; 1 to {limit} are allowed."
                if limit
                else "Batches are disabled: send one operation per request.",
                code="BATCH_LIMIT_EXCEEDED",
                extensions={"limit": limit, "found": len(batch)},
            )
        responses: list[object] = []
        spent = 0
        with self._service.access.throttle.work(client, len(batch)) as work:
            for parameters in batch:
                try:
                    graphql_request = GraphQLRequest.of(parameters, size)
                    operation = await self._service.admit(graphql_request, caller, spent)
                    if operation.kind is OperationType.SUBSCRIPTION:
                        raise Malformed("A batch may not contain a subscription: send it alone.")
                    work.take_cost(operation.cost)
                    spent += operation.cost
                    responses.append(await self._execute(request, operation, caller))
                except Refused as refused:
                    request_record().record_refusal(refused)
                    responses.append({"errors": refused.errors})
        return _json(responses, JSON)


def _accept(headers: Mapping[str, str]) -> str:
    accept = headers.get("accept") or "*/*"
    return "*/*" if len(accept) > MAX_MEDIA_TYPES_LENGTH else accept.lower()


def _negotiate(headers: Mapping[str, str], types: tuple[str, ...]) -> str:
    """Return the media type of `types` that Accept prefers, or "" if it accepts none of them.

    Of equally preferred types the last one wins. GraphQL's own media type is returned only if
    Accept names it: `*/*` yields plain JSON.
    """
    return _negotiate_accept(_accept(headers), types)


@lru_cache(MEDIA_TYPE_CACHE_SIZE)
def _negotiate_accept(accept: str, types: tuple[str, ...]) -> str:
    offered = [media_type for media_type in types if media_type != JSON]
    if JSON in types:
        offered += [JSON, GRAPHQL_JSON] if GRAPHQL_JSON in accept else [JSON]
    return _best_match(offered, accept)


def _best_match(offered: Sequence[str], accept: str) -> str:
    try:
        best: str = mimeparse.best_match(offered, accept)
    except mimeparse.MimeTypeParseException:
        return ""
    return best


def _prefers_html(request: Request, headers: Mapping[str, str]) -> bool:
    """Return True for a browser's GET of the page: no parameters, and HTML rather than JSON."""
    if request.method != "GET":
        return False
    accept = _accept(headers)
    return (
        "text/html" in accept
        and not request.query_params
        and _best_match([JSON, "text/html"], accept) == "text/html"
    )


def _read_url(request: Request) -> dict[str, object]:
    texts: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in texts:
            raise Malformed(f"The URL has {name} more than once.")
        texts[name] = value
    # An empty optional parameter counts as absent. An empty query is a syntax error.
    parameters: dict[str, object] = {
        name: text for name, text in texts.items() if text or name == "query"
    }
    for name in parameters.keys() & {"variables", "extensions"}:
        try:
            parameters[name] = _parse_json(texts[name], f"{name} in the URL")
        except BadRequest as error:
            raise Malformed(str(error)) from None
    return parameters


async def _read_body(request: Request, headers: Mapping[str, str]) -> bytes:
    if not _is_json(headers.get("content-type", "").lower()):
        raise BadRequest(
            f"The body must be {JSON} in UTF-8.",
            code="UNSUPPORTED_MEDIA_TYPE",
            status=415,
            headers={"Accept": JSON},
        )
    chunks = []
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError:
        raise BadRequest(
            f"The body took longer than {BODY_SECONDS} seconds.", code="REQUEST_TIMEOUT", status=408
        ) from None


@lru_cache(MEDIA_TYPE_CACHE_SIZE)
def _is_json(content_type: str) -> bool:
    if len(content_type) > MAX_MEDIA_TYPES_LENGTH:
        return False
    try:
        *kind, parameters = mimeparse.parse_mime_type(content_type)
    except mimeparse.MimeTypeParseException:
        return False
    charset = parameters.get("charset", "utf-8").strip('"')
    return "/".join(kind) == JSON and charset in ("utf-8", "utf8")


def _parse_json(text: str | bytes, source: str) -> object:
    """Parse JSON. `source` names it in the error. Raises BadRequest."""
    try:
        # orjson rejects what could not be stored and encoded again, such as half a surrogate pair,
        # and nesting beyond Python's recursion limit.
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{source} is not JSON: {error}.") from None


def _json(content: object, media_type: str, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content),
        status,
        {"Content-Type": f"{media_type}; charset=utf-8", "Vary": "Accept"},
    )


def _single_result(encoding: StreamEncoding, response: Mapping[str, object]) -> Response:
    """Build the stream of one response, known from its start: it is not counted as an open one."""
    return Response(
        encoding.start + encoding.encode(StreamResult.of(response)) + encoding.end,
        headers={"Content-Type": encoding.media_type, "Cache-Control": "no-store"},
    )


def _status_of(response: GraphQLResponse, media_type: str) -> int:
    """Return the status of a response with `data`.

    PARTIAL_SUCCESS is defined only for GraphQL's own media type.
    """
    return PARTIAL_SUCCESS if "errors" in response and media_type == GRAPHQL_JSON else 200


def refusal_response(headers: Mapping[str, str], refused: Refused) -> Response:
    """Build the response to an operation that does not run.

    It has GraphQL's own media type also for legacy clients, which name only plain JSON: with a
    status other than 2xx, plain JSON may come from any proxy. Those that name both, or neither, get
    what they prefer.
    """
    accepted = _negotiate(headers, QUERY_TYPES)
    media_type = accepted or JSON
    content = {"errors": refused.errors}
    if media_type == EVENT_STREAM and refused.well_formed:
        # A browser's EventSource hides any response that is not a stream from its page.
        return _single_result(STREAMS[media_type], content)
    if media_type == EVENT_STREAM:
        media_type = JSON
    elif accepted == JSON and JSON in _accept(headers) and GRAPHQL_JSON not in _accept(headers):
        media_type = GRAPHQL_JSON
    response = _json(content, media_type, refused.status)
    response.headers.update(refused.headers)
    return response


def _not_acceptable(message: str) -> BadRequest:
    return BadRequest(message, code="NOT_ACCEPTABLE", status=406)


def _not_allowed(message: str, methods: str) -> BadRequest:
    return BadRequest(message, code="METHOD_NOT_ALLOWED", status=405, headers={"Allow": methods})
