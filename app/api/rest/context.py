"""What stands before every endpoint, who asks, how often and with what, and what it can do."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import mimeparse
import orjson
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from sqlmodel import Session
from starlette.requests import ClientDisconnect

from app.api.auth.access import Access
from app.api.http.middleware.body_limit import BODY_SECONDS, BodyTooLarge
from app.api.http.origins import address_of, is_same_origin
from app.api.http.refusals import BadRequest, TimedOut
from app.api.http.tracing import traceparent
from app.api.rest.errors import refused, to_response
from app.domain.callers import Caller, Scope
from app.services.jobs import Requester
from app.storage.engine.database import Database

P = ParamSpec("P")
T = TypeVar("T")

SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class RestState:
    """What all endpoints share."""

    database: Database
    access: Access
    origins: frozenset[str]
    """Pages that may ask besides our own."""


@dataclass(frozen=True, slots=True)
class RestContext:
    """One request: its caller, and the database within its time."""

    caller: Caller
    request_id: str
    state: RestState

    @property
    def store(self) -> str:
        """The store whose things the caller sees."""
        return self.caller.store

    @property
    def requester(self) -> Requester:
        """Whom a job that is asked for is made for."""
        return Requester(self.caller.store, self.request_id, self.caller.subject, traceparent())

    async def read(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `fn` finds, all in one consistent picture. Raises TimedOut."""
        return await self._in_time(self.state.database.read(fn, *args, **kwargs))

    async def scan(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`read`, for lists: filters, orders, offsets and totals look at more than they show."""
        return await self._in_time(self.state.database.scan(fn, *args, **kwargs))

    async def write(
        self, fn: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `fn` returns, after its one transaction committed. Raises TimedOut."""
        return await self._in_time(self.state.database.write(fn, *args, **kwargs))

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        limit = self.state.access.limits.max_execution_seconds
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(limit):
                return await work
        except TimeoutError:
            raise TimedOut(limit, clock() - began) from None


class JsonRequest(Request):
    """A request whose body comes in time, and is JSON as it can be stored and shown again."""

    async def body(self) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await super().body()
        except TimeoutError:
            raise BadRequest(
                f"The body took longer than {BODY_SECONDS} seconds.", "REQUEST_TIMEOUT", 408
            ) from None

    async def json(self) -> Any:
        return orjson.loads(await self.body())


class Endpoint(APIRoute):
    """A route that is open to those whom the gate knows, shows only what is there, and tells every
    error as JSON:API does."""

    def __init__(self, *args: Any, **more: Any) -> None:
        more["response_model_exclude_unset"] = True
        more["generate_unique_id_function"] = lambda route: route.name
        super().__init__(*args, **more)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                request = JsonRequest(request.scope, request.receive)
                request.state.asking = await _admitted(request)
                # Before the framework does, which would take any failure of it for bad JSON.
                body = await request.body()
                if body and self.body_field and not _is_json(request):
                    raise BadRequest("The body must be application/json.", status=415)
                return await handle(request)
            except BodyTooLarge as error:
                # Raised any further it would be a bug to the framework around us.
                return refused(413, [str(error)])
            except ClientDisconnect:
                # In the middle of its body: nobody is there to be answered.
                return Response(status_code=400)
            except Exception as error:
                return to_response(request, error)

        return answer


async def _admitted(request: Request) -> RestContext:
    """The request, if its caller may ask. Raises Unauthenticated, BadRequest."""
    state: RestState = request.app.state.rest
    # A page of another site can make a browser post without asking it first.
    if request.method not in SAFE and not is_same_origin(request, state.origins):
        raise BadRequest("Pages of this origin may not do this.", "FORBIDDEN", 403)
    address = address_of(request)
    caller = await state.access.caller(request.headers.get("authorization"), address)
    state.access.throttle.take(state.access.client(caller, address))
    return RestContext(caller, request.state.request_id, state)


def _is_json(request: Request) -> bool:
    try:
        sent = request.headers.get("content-type", "").lower()
        kind, subtype, _ = mimeparse.parse_mime_type(sent)
    except mimeparse.MimeTypeParseException:
        return False
    return bool(kind == "application" and (subtype == "json" or subtype.endswith("+json")))


def _allowed(*scopes: Scope) -> Any:
    def asking(request: Request) -> RestContext:
        admitted: RestContext = request.state.asking
        admitted.caller.check(*scopes)
        return admitted

    return Depends(asking)


JobsRead = Annotated[RestContext, _allowed(Scope.JOBS_READ)]
JobsWrite = Annotated[RestContext, _allowed(Scope.JOBS_WRITE)]
HierarchiesRead = Annotated[RestContext, _allowed(Scope.HIERARCHIES_READ)]
HierarchiesWrite = Annotated[RestContext, _allowed(Scope.HIERARCHIES_WRITE)]
Duplicates = Annotated[RestContext, _allowed(Scope.JOBS_WRITE, Scope.HIERARCHIES_WRITE)]
"""A job is queued, and a hierarchy comes of it."""
