"""Gateway client: operations over HTTP, subscriptions over graphql-transport-ws."""

import asyncio
import os
import random
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
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.exceptions import ProxyError as SocketProxyError

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
from app.cli.client.records import (
    DuplicationDiff,
    ErrorExtensions,
    Job,
    JobEvent,
    JobListing,
    JobQueue,
    JobRequest,
    RequestError,
)
from app.cli.streams import print_notice
from app.domain.display import shown_url
from app.domain.jobs import JobStatus
from app.domain.proxies import BadProxy, Proxy, proxy_for

ACCEPT = "application/graphql-response+json, application/json;q=0.9"
PAGE_SIZE = 100
RECONNECT_SECONDS = 30
"""Max time to reconnect a subscription that lost its connection."""

OVERLOADED_OR_GONE = frozenset({502, 503, 504})
MIN_PRIVATE_CLOSE_CODE = 4000
"""WebSocket close codes from here on report an error of the request, not of the connection."""


class GatewayError(Exception):
    """A failed request; the message is one sentence."""


class Unreachable(GatewayError):
    """The gateway cannot be reached; a retry may succeed."""


def base_url(url: str) -> str:
    """Return the gateway's URL without /graphql. Raises ValueError."""
    base = url.strip().rstrip("/").removesuffix("/graphql")
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError:
        raise ValueError(f"'{shown_url(url)}' is not a valid URL.") from None
    if "@" in parts.netloc:
        raise ValueError("Credentials do not belong in a URL: use --token.")
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or parts.query
        or parts.fragment
    ):
        raise ValueError(f"'{shown_url(url)}' is not a URL such as http://127.0.0.1:8000")
    try:
        httpx.URL(base)
    except httpx.InvalidURL as error:
        raise ValueError(f"'{shown_url(url)}' is not a valid URL: {error}") from None
    return base


class GatewayClient:
    """Client of one gateway. Every failure is a GatewayError.

    A subscription that loses its connection reports that on stderr, reconnects, and continues after
    the last received event.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        session: AsyncClientSession,
        proxy: Proxy | None = None,
    ) -> None:
        self.url = url
        self._proxy = proxy
        self._headers = headers
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, token: str | None) -> AsyncIterator[Self]:
        """Connect to the gateway at `url`, the base of its paths."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(30, connect=5)
        try:
            proxy = proxy_for(url, os.environ)
            # A transport keeps httpx from reading the variables itself, by other rules.
            transport = httpx.AsyncHTTPTransport(proxy=proxy.url if proxy else None)
        except BadProxy as error:
            raise GatewayError(str(error)) from None
        except OSError as error:
            raise GatewayError(
                f"The certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}."
            ) from None
        http = HTTPXAsyncTransport(
            f"{url}/graphql",
            headers={"Accept": ACCEPT, **headers},
            timeout=timeout,
            transport=transport,
        )
        async with Client(transport=http, execute_timeout=None) as session:
            yield cls(url, headers, session, proxy)

    async def duplicate(self, hierarchy_id: str, **options: str | bool | None) -> JobRequest:
        """Queue a copy. None keeps the source's value; an empty description clears it."""
        payload = await self._mutate(DUPLICATE, {"hierarchyId": hierarchy_id, **options})
        return cast(JobRequest, payload)

    async def cancel(self, job_id: str) -> Job:
        return cast(Job, (await self._mutate(CANCEL, {"jobId": job_id}))["job"])

    async def retry(self, job_id: str) -> JobRequest:
        """Queue a failed job again."""
        return cast(JobRequest, await self._mutate(RETRY, {"jobId": job_id}))

    async def move(self, job_id: str) -> Job:
        """Move a pending job to the front of the queue."""
        return cast(Job, (await self._mutate(MOVE, {"jobId": job_id}))["job"])

    async def pause(self, reason: str | None) -> JobQueue:
        """Pause the store's queue."""
        return cast(JobQueue, (await self._mutate(PAUSE, {"reason": reason}))["queue"])

    async def resume(self) -> JobQueue:
        """Resume the store's queue."""
        return cast(JobQueue, (await self._mutate(RESUME))["queue"])

    async def diff(self, job_id: str) -> DuplicationDiff:
        """Return the current differences between a duplication's source and its copy."""
        diff = (await self._execute(DIFF, {"jobId": job_id}))["duplicationDiff"]
        if diff is None:
            raise GatewayError(
                f"{job_id} is not a duplication that succeeded and whose hierarchies both exist."
            )
        return cast(DuplicationDiff, diff)

    async def jobs(self, status: Sequence[JobStatus], limit: int) -> JobListing:
        """Return the newest jobs, at most `limit`, with one of `status` unless it is empty."""
        listing: JobListing | None = None
        after = None
        while True:
            left = limit - len(listing.jobs) if listing else limit
            data = await self._execute(
                JOBS,
                {"first": min(left, PAGE_SIZE), "after": after, "filter": _filter(status)},
            )
            listing = listing or JobListing(data["jobQueue"], [])
            listing.jobs.extend(data["jobs"]["nodes"])
            page = data["jobs"]["pageInfo"]
            after = page["endCursor"]
            if not page["hasNextPage"] or len(listing.jobs) >= limit:
                return listing

    def updates(self, job_id: str, after: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """Yield a job's current state, or its events after a cursor, then changes to its end."""
        return self._follow("jobUpdates", JOB_UPDATES, {"id": job_id, "after": after}, {})

    def events(
        self, listing: JobListing, status: Sequence[JobStatus]
    ) -> AsyncGenerator[JobEvent, None]:
        """Yield the changes of the store's jobs since the listing, without end."""
        variables: dict[str, object] = {
            "filter": _filter(status),
            "after": listing.queue["cursor"],
        }
        versions = {job["id"]: job["version"] for job in listing.jobs}
        return self._follow("jobEvents", JOB_EVENTS, variables, versions)

    async def _mutate(
        self, document: GraphQLRequest, input: dict[str, object] | None = None
    ) -> dict[str, Any]:
        payload: dict[str, Any]
        variables: dict[str, object] = {} if input is None else {"input": input}
        (payload,) = (await self._execute(document, variables)).values()
        if payload["errors"]:
            raise GatewayError(" ".join(error["message"] for error in payload["errors"]))
        return payload

    async def _execute(
        self, document: GraphQLRequest, variables: dict[str, object]
    ) -> dict[str, Any]:
        request = GraphQLRequest(document, variable_values=variables)
        try:
            data: dict[str, Any] = await self._session.execute(request)
            return data
        except TransportError as error:
            raise self._failure(error) from error

    async def _follow(
        self,
        field: str,
        document: GraphQLRequest,
        variables: dict[str, object],
        versions: dict[str, int],
    ) -> AsyncGenerator[JobEvent, None]:
        """Yield a subscription's events, and reconnect as often as needed.

        `versions`: known version by job id; events up to that version are skipped.
        """
        connect = AsyncRetrying(
            retry=retry_if_exception_type(Unreachable),
            wait=wait_random_exponential(multiplier=0.5, max=4),
            stop=stop_after_delay(RECONNECT_SECONDS),
            reraise=True,
        )
        while True:
            socket: WebsocketsTransport = await connect(self._connect)
            request = GraphQLRequest(document, variable_values=variables)
            try:
                async with aclosing(socket.subscribe(request)) as results:
                    async for result in results:
                        if result.errors or result.data is None:
                            raise TransportQueryError("refused", errors=result.errors)
                        event = cast(JobEvent, result.data[field])
                        variables["after"] = event["cursor"]
                        job = event["job"]
                        if job["version"] > versions.get(job["id"], 0):
                            versions[job["id"]] = job["version"]
                            yield event
                return
            except TransportError as error:
                failure = self._failure(error)
                if not isinstance(failure, Unreachable):
                    raise failure from error
            finally:
                await socket.close()
            print_notice(f"{failure} Reconnecting ...")
            # Random delay: a restarted gateway must not get all its clients at once.
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
            connect_args={
                "ping_interval": 10,
                "ping_timeout": 10,
                "compression": None,
                "proxy": self._proxy.url if self._proxy else None,
            },
        )
        try:
            await socket.connect()
        except (TransportError, TimeoutError) as error:
            await socket.close()
            raise self._failure(error) from error
        return socket

    def _failure(self, error: Exception) -> GatewayError:
        """Return the GatewayError for an exception of gql, httpx or websockets."""
        match error:
            case TransportQueryError():
                return _refusal(error)
            case TransportServerError(code=int(status)):
                return self._http_failure(status)
            case TransportProtocolError() | TransportServerError():
                return GatewayError(f"The server at {self.url} is not a gateway.")
        match error if isinstance(error, TimeoutError) else error.__cause__:
            case InvalidStatus() as cause:
                return self._http_failure(cause.response.status_code)
            case ConnectionClosed(rcvd=close) if close and close.code >= MIN_PRIVATE_CLOSE_CODE:
                return GatewayError(f"The gateway refused the subscription: {close.reason}")
            case httpx.TimeoutException() | TimeoutError():
                return Unreachable(f"The gateway at {self.url} does not respond{self._through()}.")
            case (httpx.ProxyError() | SocketProxyError()) as cause:
                return Unreachable(f"The proxy {self._proxy} refused {self.url} ({cause}).")
            case (httpx.ConnectError() | OSError()) as cause if self._proxy:
                return Unreachable(
                    f"The proxy {self._proxy} does not answer ({cause}). Unset its variable, or "
                    f"add {urlsplit(self.url).hostname} to no_proxy, to reach {self.url} directly."
                )
            case (httpx.ConnectError() | OSError()) as cause:
                return Unreachable(
                    f"No gateway at {self.url} ({cause}). Start one with: jobs-gateway serve"
                )
        return Unreachable(f"Lost the connection to {self.url}{self._through()}.")

    def _through(self) -> str:
        return f" through the proxy {self._proxy}" if self._proxy else ""

    def _http_failure(self, status: int) -> GatewayError:
        phrase = httpx.codes.get_reason_phrase(status)
        response = f"{self.url}/graphql responded {status} {phrase}".rstrip()
        response = f"{response}{self._through()}."
        if status in OVERLOADED_OR_GONE:
            return Unreachable(response)
        if status == httpx.codes.UNAUTHORIZED:
            return GatewayError(f"{response} Send a token: --token or JOBS_GATEWAY_TOKEN.")
        return GatewayError(f"{response} Is it the URL of a gateway?")


def _filter(status: Sequence[JobStatus]) -> dict[str, list[str]]:
    return {"status": [each.name for each in status]} if status else {}


def _refusal(error: TransportQueryError) -> GatewayError:
    first: RequestError = (error.errors or [{}])[0]
    message = first.get("message", "The gateway refused the request.")
    extensions: ErrorExtensions = first.get("extensions") or {}
    if extensions.get("code") == "UNAUTHENTICATED":
        message = f"{message} Use --token or JOBS_GATEWAY_TOKEN."
    request_id = extensions.get("requestId")
    return GatewayError(f"{message} (request {request_id})" if request_id else message)
