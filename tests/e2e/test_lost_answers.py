"""Answers lost after a commit: a client that repeats its request with the same idempotency key gets
the one job with one event; a worker continues and has run each job once.

A proxy on a real socket drops the answers, between client and gateway, or between PostgreSQL and
the gateway or worker.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.domain.jobs import JobStatus
from app.main import Gateway
from app.settings import Settings
from app.storage.tables import Hierarchy
from app.wiring import open_database
from tests import factories
from tests.oracles.history import history_of
from tests.support.clients import GraphQLClient, http_client
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
from tests.support.processes import start_server, start_worker
from tests.support.subscriber import Event, Follower

pytestmark = pytest.mark.fault

READ_BYTES = 64 * 1024

COMMIT = b"COMMIT\0"
"""The end of the message to PostgreSQL that contains only the COMMIT."""

LOST_SHARE = 0.5
"""Share of the events of the worker's jobs after which the next answer to a COMMIT is dropped."""

DUPLICATE = """
mutation($id: ID!, $key: String!) {
  duplicateHierarchy(input: {hierarchyId: $id, idempotencyKey: $key}) {
    job { id } replayed errors { __typename }
  }
}
"""

Connect = Callable[[], Awaitable[tuple[StreamReader, StreamWriter]]]


class Proxy:
    """Forwards everything in both directions, except the answers to drop."""

    def __init__(self, connect: Connect) -> None:
        self.port = 0
        self.lost = 0
        """Number of dropped answers."""
        self._connect = connect
        self._words: bytes | None = None

    def lose_answer_to(self, words: bytes) -> None:
        """Forward the next message that contains `words`, and abort its connection on both sides
        when the first byte of the answer arrives."""
        self._words = words

    async def serve(self, near: StreamReader, near_writer: StreamWriter) -> None:
        """Serve one connection."""
        far, far_writer = await self._connect()
        losing = False

        async def forward() -> None:
            nonlocal losing
            recent = b""
            while data := await near.read(READ_BYTES):
                recent += data
                if self._words and self._words in recent:
                    losing, self._words = True, None
                recent = recent[1 - len(self._words) :] if self._words else b""
                far_writer.write(data)

        async def forward_answers() -> None:
            while data := await far.read(READ_BYTES):
                if losing:
                    self.lost += 1
                    return
                near_writer.write(data)

        directions = [asyncio.create_task(forward()), asyncio.create_task(forward_answers())]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            for writer in (near_writer, far_writer):
                writer.transport.abort()
            await asyncio.gather(*directions, return_exceptions=True)


@asynccontextmanager
async def proxy_to(connect: Connect) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port."""
    proxy = Proxy(connect)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy


@asynccontextmanager
async def client_at(url: str) -> AsyncIterator[GraphQLClient]:
    """Yield a client of the server at `url`."""
    async with http_client(url) as http:
        yield GraphQLClient(http)


async def check_sent_again(client: GraphQLClient, source: str, key: str) -> str:
    """Repeat a request with a used key. Return the id of the job that it had created."""
    data = await client.data(DUPLICATE, id=source, key=key)
    payload = data["duplicateHierarchy"]
    assert payload["errors"] == []
    assert payload["replayed"]
    id: str = payload["job"]["id"]
    return id


def check_one_job_each(database_url: str, job_ids: list[str], times: int) -> None:
    """Check that there are `times` pending jobs, each with its CREATED event only."""
    history = history_of(database_url)
    assert history.faults == {}
    assert history.statuses == {JobStatus.PENDING: times}
    assert history.events == len(set(job_ids)) == times


async def test_a_request_with_a_lost_answer_can_be_repeated(
    idle_gateway: Gateway,
    counted: Callable[[int, int], int],
    report: Callable[[str], None],
) -> None:
    times = counted(20, 200)
    source = str(await factories.hierarchy(idle_gateway.database, {}))
    port = urlsplit(idle_gateway.url).port
    job_ids = []
    async with (
        proxy_to(lambda: asyncio.open_connection("127.0.0.1", port)) as proxy,
        client_at(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        for key in map("key {}".format, range(times)):
            proxy.lose_answer_to(key.encode())
            with pytest.raises(httpx.TransportError):
                await client.data(DUPLICATE, id=source, key=key)
            job_ids.append(await check_sent_again(client, source, key))

    assert proxy.lost == times
    check_one_job_each(idle_gateway.settings.database_url, job_ids, times)
    report(f"{times} lost answers, each request repeated: 1 job and 1 event each")


async def test_a_lost_answer_to_commit_is_reported_and_the_request_can_be_repeated(
    new_database: NewDatabase, counted: Callable[[int, int], int], report: Callable[[str], None]
) -> None:
    times = counted(20, 200)
    url = new_database("postgresql")
    database = open_database(Settings(database_url=url))
    source = str(await factories.hierarchy(database, {}))
    database.close()
    job_ids = []
    async with proxy_to(lambda: connected_to(url)) as proxy:
        server = await asyncio.to_thread(start_server, through(proxy, url), "--no-runner")
        async with client_at(server.url) as client:
            for key in map("key {}".format, range(times)):
                proxy.lose_answer_to(COMMIT)
                refused = await client.refusal(DUPLICATE, id=source, key=key)
                assert refused["extensions"]["code"] == "DATABASE_UNAVAILABLE"
                job_ids.append(await check_sent_again(client, source, key))
        assert await asyncio.to_thread(server.stop) == 0

    assert proxy.lost == times
    check_one_job_each(url, job_ids, times)
    report(f"{times} lost answers to COMMIT, each request repeated: 1 job and 1 event each")


async def test_a_worker_with_lost_answers_to_commit_runs_each_job_once(
    new_database: NewDatabase,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
) -> None:
    names = [f"copy {number}" for number in range(counted(6, 60))]
    random = Random(seed)
    url = new_database("postgresql")
    database = open_database(Settings(database_url=url))
    source = await factories.hierarchy(database, factories.wide_tree(10))
    for name in names:
        await factories.pending_duplication(database, source, name=name)

    async with proxy_to(lambda: connected_to(url)) as proxy:

        def lose_the_next(event: Event) -> None:
            if event["type"] != "CREATED" and random.random() < LOST_SHARE:
                proxy.lose_answer_to(COMMIT)

        server = await asyncio.to_thread(start_server, url, "--no-runner")
        worker = await asyncio.to_thread(
            start_worker, through(proxy, url), JOBS_GATEWAY_LEASE_SECONDS="1"
        )
        follower = Follower(names[-1], lose_the_next)
        assert await follower.listen(server.url, 3 * len(names))
        for process in (worker, server):
            assert await asyncio.to_thread(process.stop) == 0

    copies = await database.read(
        lambda tx: (
            session_of(tx)
            .exec(select(Hierarchy.name).where(col(Hierarchy.copied_from) == source))
            .all()
        )
    )
    database.close()
    history = history_of(url)
    assert history.faults == {}
    assert history.statuses == {JobStatus.SUCCESS: len(names)}
    assert sorted(copies) == sorted(names)
    report(f"{proxy.lost} lost answers to COMMIT, {history}")


def connected_to(url: str) -> Awaitable[tuple[StreamReader, StreamWriter]]:
    """Connect to the PostgreSQL server of a database."""
    parsed = sa.make_url(url)
    host = str(parsed.query.get("host", parsed.host))
    port = parsed.port or 5432
    if host.startswith("/"):
        return asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return asyncio.open_connection(host, port)


def through(proxy: Proxy, url: str) -> str:
    """Return the URL of the database through the proxy, unencrypted: the proxy reads messages."""
    proxied = sa.make_url(url).set(
        host="127.0.0.1", port=proxy.port, query={"sslmode": "disable", "gssencmode": "disable"}
    )
    return proxied.render_as_string(hide_password=False)
