"""Routes of the REST API: access checks before each endpoint, and the context it runs in."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import mimeparse
import orjson
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from app.api.auth.access import Access
from app.api.auth.throttle import ClientWork
from app.api.http.disconnects import ClientWatch
from app.api.http.middleware.body_limit import BODY_SECONDS
from app.api.http.origins import address_of, is_cross_site, is_same_origin
from app.api.http.refusals import BadRequest, ForeignPage, TimedOut
from app.api.http.tracing import traceparent
from app.api.rest.errors import to_response
from app.domain.answers import AnswerBudget
from app.domain.callers import Caller, Scope
from app.services.jobs import Requester
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")

MAX_BODY_VALUES = 5_000
"""Values of a body, nested ones included. The largest valid request has 3,000. Each can be an
error, and 9,000 errors take 0.2 s of the event loop."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class RestState:
    """State shared by all endpoints."""

    database: Database
    access: Access
    origins: frozenset[str]
    """Origins, besides our own, whose pages may send requests."""


@dataclass(frozen=True, slots=True)
class RestContext:
    """One request: its caller, and the database under the time limit."""

    caller: Caller
    request_id: str
    state: RestState
    work: ClientWork

    @property
    def store(self) -> str:
        return self.caller.store

    @property
    def requester(self) -> Requester:
        """Origin of the jobs that this request creates."""
        return Requester(self.caller.store, self.request_id, self.caller.subject, traceparent())

    @property
    def max_tree_depth(self) -> int:
        """The greatest depth of a node that is created or moved."""
        return self.state.access.limits.max_tree_depth

    async def read(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in one consistent snapshot. Raises TimedOut, TextsTooLong."""
        read = self.state.database.client_read
        return await self.in_time(read(self.store, _counted(fn), *args, **kwargs))

    async def scan(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`read` for lists, whose filters, orders, offsets and totals read unreturned rows too."""
        scan = self.state.database.client_scan
        return await self.in_time(scan(self.store, _counted(fn), *args, **kwargs))

    async def write(
        self, fn: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `fn` in one transaction and return its result after the commit. Raises TimedOut."""
        write = self.state.database.client_write(self.store, fn, *args, **kwargs)
        return await self.in_time(write)

    async def in_time(self, work: Awaitable[T]) -> T:
        """Await `work` under the time limit of one operation. Raises TimedOut."""
        limit = self.state.access.limits.max_execution_seconds
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(limit):
                return await work
        except TimeoutError:
            raise TimedOut(limit, clock() - began) from None


def _counted(
    fn: Callable[Concatenate[Transaction, P], T],
) -> Callable[Concatenate[Transaction, P], T]:
    """Count the texts that `fn` reads."""

    def read(tx: Transaction, /, *args: P.args, **kwargs: P.kwargs) -> T:
        tx.budget = AnswerBudget()
        return fn(tx, *args, **kwargs)

    return read


class JsonRequest(Request):
    """A request with a time limit for its body, and strict JSON.

    orjson refuses NaN and lone surrogates, which could not be stored and returned.
    """

    async def body(self) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await super().body()
        except TimeoutError:
            raise BadRequest(
                f"The body took longer than {BODY_SECONDS} seconds.",
                code="REQUEST_TIMEOUT",
                status=408,
            ) from None

    async def json(self) -> object:
        return orjson.loads(await self.body())


def _has_too_many_values(body: bytes) -> bool:
    """Return True for JSON of more than MAX_BODY_VALUES values; what is no JSON has none."""
    try:
        unvisited = [orjson.loads(body)]
    except orjson.JSONDecodeError:
        return False
    count = 0
    while unvisited and count <= MAX_BODY_VALUES:
        match unvisited.pop():
            case dict() as mapping:
                count += len(mapping)
                unvisited += mapping.values()
            case list() as values:
                count += len(values)
                unvisited += values
    return count > MAX_BODY_VALUES


class RestRoute(APIRoute):
    """A route with access checks and JSON:API errors, which omits absent fields of responses."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["response_model_exclude_unset"] = True
        options["generate_unique_id_function"] = lambda route: route.name
        super().__init__(*args, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def respond(request: Request) -> Response:
            try:
                request = JsonRequest(request.scope, request.receive)
                state, caller, client = await _admit(request)
                with state.access.throttle.work(client) as work:
                    request.state.context = RestContext(
                        caller, request.state.request_id, state, work
                    )
                    # Read the body here: FastAPI would report any failure as invalid JSON.
                    body = await request.body()
                    if body and self.body_field and not _is_json(request):
                        raise BadRequest("The body must be application/json.", status=415)
                    # Here too: FastAPI would report any failure to parse it as invalid JSON.
                    if len(body) > MAX_BODY_VALUES and _has_too_many_values(body):
                        reason = f"The body has more than {MAX_BODY_VALUES:,} values."
                        raise BadRequest(reason, status=422)
                    if request.method not in SAFE_METHODS:
                        return await handle(request)
                    with ClientWatch(request.receive):
                        return await handle(request)
            except ClientDisconnect:
                # The client left, and nothing receives this response.
                return Response(status_code=400)
            except Exception as error:
                return to_response(request, error)

        return respond


async def _admit(request: Request) -> tuple[RestState, Caller, str]:
    """Check origin and credentials. Return state, caller and the client's key of the throttle.

    Raises Unauthenticated, BadRequest.
    """
    state: RestState = request.app.state.rest
    # A page of another site can make a browser post without a preflight request.
    if request.method not in SAFE_METHODS and not is_same_origin(request.headers, state.origins):
        raise ForeignPage
    address = address_of(request)
    caller = await state.access.caller(request.headers.get("authorization"), address)
    return state, caller, state.access.client(caller, address)


def _is_json(request: Request) -> bool:
    try:
        content_type = request.headers.get("content-type", "").lower()
        kind, subtype, _ = mimeparse.parse_mime_type(content_type)
    except mimeparse.MimeTypeParseException:
        return False
    return bool(kind == "application" and (subtype == "json" or subtype.endswith("+json")))


def _context_with(*scopes: Scope) -> object:
    def context(request: Request) -> RestContext:
        admitted: RestContext = request.state.context
        # Reads too: they cost time. The OpenAPI document is no read, and other sites link to it.
        if is_cross_site(request.headers, admitted.state.origins):
            raise ForeignPage
        admitted.caller.check(*scopes)
        return admitted

    return Depends(context)


JobsRead = Annotated[RestContext, _context_with(Scope.JOBS_READ)]
JobsWrite = Annotated[RestContext, _context_with(Scope.JOBS_WRITE)]
HierarchiesRead = Annotated[RestContext, _context_with(Scope.HIERARCHIES_READ)]
HierarchiesWrite = Annotated[RestContext, _context_with(Scope.HIERARCHIES_WRITE)]
DuplicationsWrite = Annotated[RestContext, _context_with(Scope.JOBS_WRITE, Scope.HIERARCHIES_WRITE)]
"""A duplication queues a job, and the job creates a hierarchy."""
