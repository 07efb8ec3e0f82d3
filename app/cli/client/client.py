"""A client of the gateway's wire: GraphQL over HTTP to ask, graphql-transport-ws to follow."""

import asyncio
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httpx
from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import (
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
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.cli.client.operations import (
    CANCEL,
    DIFF,
    DUPLICATE,
    JOB_EVENTS,
    JOB_UPDATES,
    JOBS,
    MOVE,
    PAUSE,
    RESUME,
    RETRY,
)
from app.cli.client.records import Duplicated, DuplicationDiff, Job, JobEvent, JobListing, JobQueue
from app.domain.jobs import JobStatus

PAGE = 100
PATIENCE_SECONDS = 30
"""How long a subscription that lost its connection tries to get another."""

OVERLOADED_OR_GONE = frozenset({502, 503, 504})
PRIVATE_CLOSE_CODES = 4000
"""From here on a WebSocket close code says what was wrong with the request, not with the line."""


class GatewayError(Exception):
    """Why a request was not answered as asked, in one sentence."""


class Unreachable(GatewayError):
    """The gateway could not be spoken to; later it may."""


def base_url(url: str) -> str:
    """The gateway's URL without /graphql. Raises ValueError."""
    base = url.strip().rstrip("/").removesuffix("/graphql")
    parts = urlsplit(base)
    if "@" in parts.netloc:
        raise ValueError("Credentials do not belong in a URL: use --token.")
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.port == 0
        or parts.query
        or parts.fragment
    ):
        raise ValueError(f"{url!r} is not a URL such as http://127.0.0.1:8000")
    return base


class GatewayClient:
    """Speaks to one gateway. Every failure is a GatewayError.

    A subscription survives a lost connection: it says so on stderr, connects again and goes on
    behind the last event it saw.
    """

    def __init__(self, url: str, headers: dict[str, str], session: AsyncClientSession) -> None:
        self.url = url
        self._headers = headers
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, token: str | None) -> AsyncIterator[Self]:
        """A client of the gateway at `url`, which is the base of its paths."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(30, connect=5)
        http = HTTPXAsyncTransport(f"{url}/graphql", headers=headers, timeout=timeout)
        async with Client(transport=http, execute_timeout=None) as session:
            yield cls(url, headers, session)

    async def duplicate(self, hierarchy_id: str, **asked: str | bool | None) -> Duplicated:
        """Queue a copy. None keeps what the source has; an empty description clears it."""
        payload = await self._change(DUPLICATE, {"hierarchyId": hierarchy_id, **asked})
        return cast(Duplicated, payload)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a pending job."""
        return cast(Job, (await self._change(CANCEL, {"jobId": job_id}))["job"])

    async def retry(self, job_id: str) -> Duplicated:
        """Queue a failed job once more."""
        return cast(Duplicated, await self._change(RETRY, {"jobId": job_id}))

    async def move(self, job_id: str) -> Job:
        """Let a pending job be the next to start."""
        return cast(Job, (await self._change(MOVE, {"jobId": job_id}))["job"])

    async def pause(self, reason: str | None) -> JobQueue:
        """Start no more jobs."""
        return cast(JobQueue, (await self._change(PAUSE, {"reason": reason}))["queue"])

    async def resume(self) -> JobQueue:
        """Start jobs again."""
        return cast(JobQueue, (await self._change(RESUME))["queue"])

    async def diff(self, job_id: str) -> DuplicationDiff:
        """What differs now between the source and the copy of a job."""
        diff = (await self._ask(DIFF, {"jobId": job_id}))["duplicationDiff"]
        if diff is None:
            raise GatewayError(
                f"{job_id} is no duplication that succeeded and whose two hierarchies are there."
            )
        return cast(DuplicationDiff, diff)

    async def jobs(self, status: Sequence[JobStatus], limit: int) -> JobListing:
        """The newest jobs, at most `limit`, in one of these states if any are given."""
        listing: JobListing | None = None
        after = None
        while True:
            left = limit - len(listing.jobs) if listing else limit
            asked = {"first": min(left, PAGE), "after": after, "filter": _filter(status)}
            answer = await self._ask(JOBS, asked)
            listing = listing or JobListing(answer["jobQueue"], [])
            listing.jobs.extend(answer["jobs"]["nodes"])
            page = answer["jobs"]["pageInfo"]
            after = page["endCursor"]
            if not page["hasNextPage"] or len(listing.jobs) >= limit:
                return listing

    def updates(self, job_id: str, after: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """One job as it stands, or all that happened to it behind a cursor, then every change up
        to its end."""
        return self._follow("jobUpdates", JOB_UPDATES, {"id": job_id, "after": after}, {})

    def events(
        self, listing: JobListing, status: Sequence[JobStatus]
    ) -> AsyncGenerator[JobEvent, None]:
        """Every change of the store's jobs since the listing, without end."""
        asked = {"filter": _filter(status), "after": listing.queue["cursor"]}
        held = {job["id"]: job["version"] for job in listing.jobs}
        return self._follow("jobEvents", JOB_EVENTS, asked, held)

    async def _change(
        self, document: GraphQLRequest, input: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        payload: dict[str, Any]
        variables = {} if input is None else {"input": input}
        (payload,) = (await self._ask(document, variables)).values()
        if payload["errors"]:
            raise GatewayError(" ".join(error["message"] for error in payload["errors"]))
        return payload

    async def _ask(self, document: GraphQLRequest, variables: dict[str, Any]) -> dict[str, Any]:
        asked = GraphQLRequest(document, variable_values=variables)
        try:
            answer: dict[str, Any] = await self._session.execute(asked)
            return answer
        except TransportError as error:
            raise self._failure(error) from error

    async def _follow(
        self,
        field: str,
        document: GraphQLRequest,
        variables: dict[str, Any],
        held: dict[str, int],
    ) -> AsyncGenerator[JobEvent, None]:
        """The events of a subscription, over as many connections as it takes, but for those at or
        below the version that is held of their job."""
        connect = AsyncRetrying(
            retry=retry_if_exception_type(Unreachable),
            wait=wait_random_exponential(multiplier=0.5, max=4),
            stop=stop_after_delay(PATIENCE_SECONDS),
            reraise=True,
        )
        while True:
            socket: WebsocketsTransport = await connect(self._connect)
            asked = GraphQLRequest(document, variable_values=variables)
            try:
                async with aclosing(socket.subscribe(asked)) as results:
                    async for result in results:
                        event = cast(JobEvent, _data(result)[field])
                        variables["after"] = event["cursor"]
                        job = event["job"]
                        if job["version"] > held.get(job["id"], 0):
                            held[job["id"]] = job["version"]
                            yield event
                return
            except TransportError as error:
                failure = self._failure(error)
                if not isinstance(failure, Unreachable):
                    raise failure from error
            finally:
                await socket.close()
            print(f"{failure} Connecting again ...", file=sys.stderr, flush=True)
            # A gateway that comes back is not to meet all its clients at once.
            await asyncio.sleep(random.random())

    async def _connect(self) -> WebsocketsTransport:
        socket = WebsocketsTransport(
            f"ws{self.url.removeprefix('http')}/graphql",
            headers=self._headers,
            init_payload=self._headers,
            subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
            connect_timeout=5,
            ack_timeout=5,
            close_timeout=1,
            connect_args={"ping_interval": 10, "ping_timeout": 10, "compression": None},
        )
        try:
            await socket.connect()
        except (TransportError, TimeoutError) as error:
            await socket.close()
            raise self._failure(error) from error
        return socket

    def _failure(self, error: Exception) -> GatewayError:
        """What a failure of the library means to whoever asked."""
        match error:
            case TransportQueryError():
                return _refusal(error)
            case TransportServerError(code=int(status)):
                return self._http_failure(status)
            case TransportProtocolError() | TransportServerError():
                return GatewayError(f"What answers at {self.url} is not a gateway.")
        match error if isinstance(error, TimeoutError) else error.__cause__:
            case InvalidStatus() as cause:
                return self._http_failure(cause.response.status_code)
            case ConnectionClosed(rcvd=close) if close and close.code >= PRIVATE_CLOSE_CODES:
                return GatewayError(f"The gateway refused the subscription: {close.reason}")
            case httpx.TimeoutException() | TimeoutError():
                return Unreachable(f"The gateway at {self.url} does not answer.")
            case (httpx.ConnectError() | OSError()) as cause:
                return Unreachable(
                    f"No gateway answers at {self.url} ({cause}). "
                    "Start one with: jobs-gateway serve"
                )
        return Unreachable(f"Lost the connection to {self.url}.")

    def _http_failure(self, status: int) -> GatewayError:
        phrase = httpx.codes.get_reason_phrase(status)
        said = f"{self.url}/graphql answers {status} {phrase}".rstrip() + "."
        if status in OVERLOADED_OR_GONE:
            return Unreachable(said)
        if status == httpx.codes.UNAUTHORIZED:
            return GatewayError(f"{said} Give a token: --token or JOBS_GATEWAY_TOKEN.")
        return GatewayError(f"{said} Is it the URL of a gateway?")


def _filter(status: Sequence[JobStatus]) -> dict[str, Any]:
    return {"status": [one.name for one in status]} if status else {}


def _data(result: ExecutionResult) -> dict[str, Any]:
    if result.errors or result.data is None:
        raise TransportQueryError("refused", errors=cast(Any, result.errors))
    return result.data


def _refusal(error: TransportQueryError) -> GatewayError:
    first = cast(dict[str, Any], (error.errors or [{}])[0])
    message = first.get("message", "The gateway refused the request.")
    extensions = first.get("extensions") or {}
    if extensions.get("code") == "UNAUTHENTICATED":
        message = f"{message} Use --token or JOBS_GATEWAY_TOKEN."
    request_id = extensions.get("requestId")
    return GatewayError(f"{message} (request {request_id})" if request_id else message)
