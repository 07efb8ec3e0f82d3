"""A client of the gateway's wire: GraphQL over HTTP to ask, graphql-transport-ws to follow."""

import asyncio
import http
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from enum import StrEnum
from types import TracebackType
from typing import Any, Literal, NotRequired, Self, TypedDict, cast
from urllib.parse import urlsplit, urlunsplit

import httpx
from gql import Client, GraphQLRequest, gql
from gql.client import AsyncClientSession
from gql.transport.exceptions import (
    TransportConnectionFailed,
    TransportError,
    TransportProtocolError,
    TransportQueryError,
    TransportServerError,
)
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport
from graphql import ExecutionResult
from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus


class JobStatus(StrEnum):
    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


FINAL = frozenset({"SUCCESS", "FAILED", "CANCELLED"})

PAGE = 100
PATIENCE_SECONDS = 30.0
# A server going down still accepts connections for a moment and ends them at once. Only a
# subscription that stands this long, or has brought an event, counts as contact.
SETTLE_SECONDS = 0.2
TRANSIENT = frozenset({"UNREACHABLE", "TIMEOUT", "INTERRUPTED", "HTTP_502", "HTTP_503", "HTTP_504"})


class HierarchyRef(TypedDict):
    id: str
    name: str
    nodeCount: NotRequired[int]


class Duplication(TypedDict):
    sourceId: str
    source: HierarchyRef | None
    name: str | None
    description: str | None
    includeProducts: bool
    result: HierarchyRef | None


class Progress(TypedDict):
    completed: int
    total: int | None
    ratio: float | None
    estimatedCompletionAt: str | None


class JobError(TypedDict):
    id: str
    code: str
    message: str
    createdAt: str


class JobErrors(TypedDict):
    nodes: list[JobError]


class Job(TypedDict):
    id: str
    type: str
    status: str
    createdAt: str
    startedAt: str | None
    completedAt: str | None
    updatedAt: str
    requestId: str
    requestedBy: str | None
    version: int
    canCancel: bool
    queuePosition: int | None
    estimatedStartAt: str | None
    progress: Progress | None
    duplication: Duplication | None
    errors: NotRequired[JobErrors]


class JobEvent(TypedDict):
    cursor: str
    type: Literal["SNAPSHOT", "CREATED", "STARTED", "PROGRESS", "SUCCEEDED", "FAILED", "CANCELLED"]
    at: str
    previousStatus: str | None
    job: Job


class JobQueue(TypedDict):
    pending: int
    running: Job | None
    oldestPendingAt: str | None


class Duplicated(TypedDict):
    job: Job
    replayed: bool


JOB_FIELDS = """
fragment JobFields on Job {
  id type status createdAt startedAt completedAt updatedAt requestId requestedBy version canCancel
  queuePosition estimatedStartAt
  progress { completed total ratio estimatedCompletionAt }
  duplication {
    sourceId source { id name } name description includeProducts result { id name }
  }
}
"""
EVENT_FIELDS = (
    """
fragment EventFields on JobEvent {
  cursor type at previousStatus
  job {
    ...JobFields
    duplication { result { nodeCount } }
    errors(first: 20) { nodes { id code message createdAt } }
  }
}
"""
    + JOB_FIELDS
)

DUPLICATE = gql(
    """
mutation Duplicate($input: DuplicateHierarchyInput!) {
  duplicateHierarchy(input: $input) {
    job { ...JobFields }
    replayed
    errors {
      __typename
      ... on UserError { message path }
      ... on IdempotencyConflict { job { id } }
    }
  }
}
"""
    + JOB_FIELDS
)
CANCEL = gql(
    """
mutation Cancel($input: CancelJobInput!) {
  cancelJob(input: $input) {
    job { ...JobFields }
    errors {
      __typename
      ... on UserError { message path }
      ... on JobNotCancellable { status }
    }
  }
}
"""
    + JOB_FIELDS
)
JOBS = gql(
    """
query Jobs($first: Int!, $after: String, $filter: JobFilter) {
  jobs(first: $first, after: $after, filter: $filter) {
    nodes { ...JobFields }
    pageInfo { hasNextPage endCursor }
  }
}
"""
    + JOB_FIELDS
)
QUEUE = gql(
    """
query Queue {
  jobQueue { pending running { ...JobFields } oldestPendingAt }
}
"""
    + JOB_FIELDS
)
JOB_UPDATES = gql(
    """
subscription JobUpdates($id: ID!, $after: String) {
  jobUpdates(id: $id, after: $after) { ...EventFields }
}
"""
    + EVENT_FIELDS
)
JOB_EVENTS = gql(
    """
subscription JobEvents($filter: JobFilter, $after: String) {
  jobEvents(filter: $filter, after: $after) { ...EventFields }
}
"""
    + EVENT_FIELDS
)


class GatewayError(Exception):
    """What keeps a request from being answered, in one sentence; code is for programs."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class GatewayClient:
    """Speaks to one gateway. Every failure is a GatewayError.

    A subscription survives a dropped connection: it says so on stderr, connects again and goes on
    behind the last event it saw. It gives up after 30 seconds without contact.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.strip().rstrip("/").removesuffix("/graphql")
        try:
            parts = urlsplit(self.url)
            usable = parts.port != 0 and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise GatewayError(
                f'"{url}" is not the URL of a gateway. It looks like: http://127.0.0.1:8000',
                "BAD_URL",
            )
        if parts.username is not None or parts.password is not None:
            raise GatewayError("Credentials do not belong in the URL: use --token.", "BAD_URL")
        self._http_url = f"{self.url}/graphql"
        socket_scheme = "wss" if parts.scheme == "https" else "ws"
        self._socket_url = urlunsplit((socket_scheme, *urlsplit(self._http_url)[1:]))

        token = (token or "").strip()
        if not (token.isascii() and token.isprintable()):
            raise GatewayError("The token has characters an HTTP header cannot carry.", "BAD_TOKEN")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._resources = AsyncExitStack()
        self._session: AsyncClientSession
        self._has_answered = False

    async def __aenter__(self) -> Self:
        transport = HTTPXAsyncTransport(
            self._http_url, headers=self._headers, timeout=httpx.Timeout(30, connect=5)
        )
        self._session = await self._resources.enter_async_context(
            Client(transport=transport, execute_timeout=None)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._resources.aclose()

    async def duplicate(
        self,
        hierarchy_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        include_products: bool = False,
        idempotency_key: str | None = None,
    ) -> Duplicated:
        """None keeps what the source has; an empty description clears it."""
        given = {
            "name": name,
            "description": description,
            "idempotencyKey": idempotency_key,
        }
        payload = await self._mutate(
            DUPLICATE,
            {
                "hierarchyId": hierarchy_id,
                "includeProducts": include_products,
                **{key: value for key, value in given.items() if value is not None},
            },
        )
        return cast(Duplicated, {"job": payload["job"], "replayed": payload["replayed"]})

    async def cancel(self, job_id: str) -> Job:
        payload = await self._mutate(CANCEL, {"jobId": job_id})
        return cast(Job, payload["job"])

    async def jobs(
        self, *, status: Sequence[JobStatus] = (), limit: int = 25
    ) -> AsyncGenerator[Job, None]:
        """Newest first, page by page as it is read."""
        after: str | None = None
        while limit > 0:
            variables: dict[str, Any] = {"first": min(limit, PAGE), **_job_filter(status)}
            if after is not None:
                variables["after"] = after
            page = (await self._ask(JOBS, variables))["jobs"]
            for job in page["nodes"]:
                yield cast(Job, job)
            limit -= len(page["nodes"])
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"] or not page["nodes"]:
                return

    async def queue(self) -> JobQueue:
        return cast(JobQueue, (await self._ask(QUEUE, {}))["jobQueue"])

    async def job_updates(
        self, job_id: str, after: str | None = None
    ) -> AsyncGenerator[JobEvent, None]:
        """One job: a SNAPSHOT or the events past `after`, then every change up to its end."""
        seen = False
        updates = self._follow("jobUpdates", JOB_UPDATES, {"id": job_id}, after, may_be_empty=True)
        async for event in updates:
            if event is None:
                # The server completed the stream. Without one event there was nothing past
                # `after`; in the middle of a job it is a server that goes down politely.
                if not seen:
                    return
                continue
            seen = True
            yield event
            if event["job"]["status"] in FINAL:
                return

    async def job_events(
        self,
        after: str | None = None,
        *,
        status: Sequence[JobStatus] = (),
        on_gap: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[JobEvent, None]:
        """Every change of the store's jobs, past `after` or else from now on, without end.

        on_gap is awaited whenever the stream begins without a cursor, with the subscription already
        standing: what it then reads, and the events that follow, leave nothing out between them.
        """
        variables = _job_filter(status)
        async for event in self._follow("jobEvents", JOB_EVENTS, variables, after, on_gap):
            if event is not None:
                yield event

    async def _mutate(self, request: GraphQLRequest, fields: dict[str, Any]) -> dict[str, Any]:
        payload: dict[str, Any]
        (payload,) = (await self._ask(request, {"input": fields})).values()
        for error in payload["errors"]:
            match error:
                case {"__typename": "JobNotCancellable", "status": status}:
                    raise GatewayError(
                        f"Job {fields['jobId']} cannot be cancelled: it is {status}.",
                        "JOB_NOT_CANCELLABLE",
                    )
                case {"__typename": "IdempotencyConflict", "message": message, "job": job}:
                    raise GatewayError(f"{message} (job {job['id']})", "IDEMPOTENCY_CONFLICT")
                case {"__typename": "NotFound", "message": message}:
                    raise GatewayError(message, "NOT_FOUND")
                case {"__typename": "Forbidden", "message": message}:
                    raise GatewayError(message, "FORBIDDEN")
                case {"message": message}:
                    raise GatewayError(message, "INVALID_INPUT")
        return payload

    async def _ask(self, request: GraphQLRequest, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._session.execute(GraphQLRequest(request, variable_values=variables))
        except TransportError as error:
            raise self._failure(error) from error
        self._has_answered = True
        return answer

    async def _follow(
        self,
        field: str,
        request: GraphQLRequest,
        variables: dict[str, Any],
        after: str | None,
        on_gap: Callable[[], Awaitable[None]] | None = None,
        *,
        may_be_empty: bool = False,
    ) -> AsyncGenerator[JobEvent | None, None]:
        """The events of a subscription over as many connections as it takes.

        None stands for a stream that the server completed; to go on is to subscribe again.
        may_be_empty: completed at once, without an event, is an answer and not a lost connection.
        """
        retrying = AsyncRetrying(
            # The first contact fails at once: there is nothing yet that is worth waiting for.
            retry=retry_if_exception(lambda error: self._has_answered and _is_transient(error)),
            wait=wait_random_exponential(multiplier=0.5, max=4),
            stop=stop_after_delay(PATIENCE_SECONDS),
        )
        dropped = False
        while True:
            since = {**variables, "after": after} if after is not None else variables
            subscription = GraphQLRequest(request, variable_values=since)
            async with AsyncExitStack() as stack:
                try:
                    results: AsyncIterator[dict[str, Any]] = await retrying(
                        self._open, stack, subscription, may_be_empty
                    )
                except RetryError:
                    raise GatewayError(
                        f"Gave up: no contact with the gateway at {self.url}"
                        f" for {PATIENCE_SECONDS:.0f} s.",
                        "UNREACHABLE",
                    ) from None
                self._has_answered = True
                if dropped:
                    _say(f"Connected to {self.url} again.")
                    dropped = False
                if after is None and on_gap is not None:
                    await on_gap()
                try:
                    async for result in results:
                        event = cast(JobEvent, result[field])
                        after = event["cursor"]
                        may_be_empty = False
                        yield event
                    yield None
                except GatewayError as error:
                    if not _is_transient(error):
                        raise
            dropped = True
            _say(f"Lost the connection to {self.url}. Connecting again ...")

    async def _open(
        self, stack: AsyncExitStack, request: GraphQLRequest, may_be_empty: bool
    ) -> AsyncIterator[dict[str, Any]]:
        return await stack.enter_async_context(self._subscribed(request, may_be_empty))

    @asynccontextmanager
    async def _subscribed(
        self, request: GraphQLRequest, may_be_empty: bool
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """A subscription on a connection of its own; entered once it stands."""
        transport = WebsocketsTransport(
            self._socket_url,
            headers=self._headers,
            init_payload=self._headers,
            subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
            connect_timeout=5,
            ack_timeout=5,
            close_timeout=1,
            connect_args={"ping_interval": 10, "ping_timeout": 10, "compression": None},
        )
        stream = transport.subscribe(request)
        first: asyncio.Future[ExecutionResult | None] | None = None

        async def results(first: asyncio.Future[ExecutionResult | None]) -> AsyncIterator[Any]:
            try:
                result = await first
                while result is not None:
                    yield _data(result)
                    result = await anext(stream, None)
            except TransportError as error:
                raise self._failure(error) from error

        try:
            try:
                await transport.connect()
                first = asyncio.ensure_future(anext(stream, None))
                await asyncio.wait({first}, timeout=SETTLE_SECONDS)
                if first.done() and await first is None and not may_be_empty:
                    raise TransportConnectionFailed("Completed without an event")
            except (TransportError, TimeoutError) as error:
                raise self._failure(error) from error
            yield results(first)
        finally:
            if first is not None:
                first.cancel()
                with suppress(TransportError, asyncio.CancelledError):
                    await first
            with suppress(TransportError):
                await stream.aclose()
            await transport.close()

    def _failure(self, error: Exception) -> GatewayError:
        """What a failure of the library means to whoever asked."""
        if isinstance(error, TransportQueryError):
            return _refusal(error)
        if isinstance(error, TransportServerError) and error.code is not None:
            return self._http_failure(error.code)
        if isinstance(error, TransportProtocolError | TransportServerError):
            return GatewayError(f"What answers at {self.url} is not a gateway.", "NOT_A_GATEWAY")
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
            chain.append(cause)
        # The deepest cause knows best: a name that does not resolve is also a failed connect.
        for cause in reversed(chain):
            match cause:
                case InvalidStatus():
                    return self._http_failure(cause.response.status_code)
                case ConnectionClosed(rcvd=close) if close and close.code in (4400, 4401, 4403):
                    return GatewayError(
                        f"The gateway closed the subscription: {close.reason or 'refused'}.",
                        f"CLOSED_{close.code}",
                    )
                case socket.gaierror() | ssl.SSLError():
                    return GatewayError(
                        f"No gateway answers at {self.url}: {cause.strerror or cause}.",
                        "UNREACHABLE",
                    )
                case httpx.TimeoutException() | TimeoutError():
                    return GatewayError(f"The gateway at {self.url} does not answer.", "TIMEOUT")
                case ConnectionResetError() | BrokenPipeError():
                    break
                case httpx.ConnectError() | OSError():
                    return GatewayError(
                        f"No gateway answers at {self.url}. Start one with: jobs-gateway serve",
                        "UNREACHABLE",
                    )
        return GatewayError(f"Lost the connection to the gateway at {self.url}.", "INTERRUPTED")

    def _http_failure(self, status: int) -> GatewayError:
        try:
            phrase = f"{status} {http.HTTPStatus(status).phrase}"
        except ValueError:
            phrase = str(status)
        if status == 401:
            hint = " Give a token: --token or JOBS_GATEWAY_TOKEN."
        elif status == 403:
            # Also what a WebSocket to a path that does not exist is answered with.
            hint = " Is it the URL of a gateway, and is the token allowed to?"
        elif status < 500:
            hint = " Is it the URL of a gateway?"
        else:
            hint = ""
        return GatewayError(f"{self._http_url} answers {phrase}.{hint}", f"HTTP_{status}")


def _refusal(error: TransportQueryError) -> GatewayError:
    first = error.errors[0] if error.errors else {}
    if not isinstance(first, dict):
        return GatewayError(str(error), "GRAPHQL_ERROR")
    extensions = first.get("extensions") or {}
    message = str(first.get("message") or "The gateway refused the request.")
    request_id = extensions.get("requestId")
    if request_id and str(request_id) not in message:
        message = f"{message} (request {request_id})"
    return GatewayError(message, str(extensions.get("code") or "GRAPHQL_ERROR"))


def _data(result: ExecutionResult) -> dict[str, Any]:
    if result.errors or result.data is None:
        raise TransportQueryError("The subscription failed", errors=cast(Any, result.errors))
    return result.data


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, GatewayError) and error.code in TRANSIENT


def _job_filter(status: Sequence[JobStatus]) -> dict[str, Any]:
    return {"filter": {"status": list(status)}} if status else {}


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
