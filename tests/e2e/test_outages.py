"""PostgreSQL crashes repeatedly under load: requests during an outage are data_of with its error
code, and the same processes continue by themselves afterwards. No event is lost, repeated or out of
order.

Two gateways and two workers run throughout. Each client requests a copy once its last one is done,
and repeats requests that failed by an outage with the same key. Readers query the queue without
a pause. Subscribers switch between the gateways and follow the log by cursor.
"""

import asyncio
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from time import monotonic
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlmodel import col, select

from app.domain.jobs import JobStatus
from app.settings import Settings
from app.storage.engine.connect import connect
from app.storage.tables import Hierarchy
from app.wiring import migrate, open_database
from tests import factories
from tests.oracles.history import history_of
from tests.support import pgbouncer, postgres
from tests.support.entities import session_of
from tests.support.processes import LiveServer, start_server, start_worker
from tests.support.subscriber import Event, Follower, Refused, whole_log

pytestmark = pytest.mark.fault

GATEWAYS = 2
WORKERS = 2
LEASE_SECONDS = "1"
CLIENTS = 6
SUBSCRIBERS = 4
MAX_EVENTS_PER_CONNECTION = 60

ENDS_PER_OUTAGE = (10, 40)
"""Minimum and maximum of the jobs that end between two outages."""

MAX_OUTAGE_SECONDS = 2.0
"""Some outages are longer than the lease."""

UNAVAILABLE = "DATABASE_UNAVAILABLE"
LAST = "the last copy"

QUEUE = (
    "{ jobQueue { pending } jobs(first: 5) { nodes { status duplication { result { name } } } } }"
)

DUPLICATE = """
mutation($id: ID!, $name: String!) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name, idempotencyKey: $name}) {
    job { id } errors { __typename }
  }
}
"""


def data_of(response: httpx.Response) -> dict[str, Any] | None:
    """Return the data of an answer, or None if it reports the outage."""
    if response.status_code == 503:
        return None
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    if "errors" in answer:
        assert {error["extensions"]["code"] for error in answer["errors"]} == {UNAVAILABLE}
        return None
    data: dict[str, Any] = answer["data"]
    return data


@dataclass
class Load:
    """The clients, readers and subscribers of the gateways."""

    http: httpx.AsyncClient
    gateways: Sequence[LiveServer]
    source: UUID
    random: Random
    back: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the database is up."""
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: dict[str, str] = field(default_factory=dict)
    """The job id of each copy, by name."""
    ended: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """Set once any subscriber has received a job's last event."""
    ends: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    """The ids of ended jobs, as subscribers receive the events."""
    unavailable: Counter[str] = field(default_factory=Counter)
    """Number of answers that report the outage, by kind of client."""

    async def request_copies(self, number: int) -> None:
        """Request copies, each once the one before is done, until `enough` is set."""
        for index in count():
            if self.enough.is_set():
                return
            await self.request_copy(f"copy {number}-{index}")

    async def request_copy(self, name: str) -> None:
        """Request a copy until it is accepted, and wait for its end."""
        query = {"query": DUPLICATE, "variables": {"id": str(self.source), "name": name}}
        while True:
            url = self.random.choice(self.gateways).url
            data = data_of(await self.http.post(f"{url}/graphql", json=query))
            if data:
                break
            self.unavailable["clients"] += 1
            await self.back.wait()
        assert data["duplicateHierarchy"]["errors"] == []
        self.jobs[name] = data["duplicateHierarchy"]["job"]["id"]
        await self.ended[self.jobs[name]].wait()

    async def read_queue(self, gateway: LiveServer) -> None:
        """Query the queue repeatedly, also during outages."""
        while not self.enough.is_set():
            data = data_of(await self.http.post(f"{gateway.url}/graphql", json={"query": QUEUE}))
            self.unavailable["readers"] += data is None

    async def follow(self, follower: Follower) -> None:
        """Follow the log to its end, over many connections."""
        while True:
            url = self.random.choice(self.gateways).url
            events = self.random.randint(1, MAX_EVENTS_PER_CONNECTION)
            try:
                if await follower.listen(url, events, goodbye=self.random.random() < 0.5):
                    return
            except Refused as refused:
                if refused.code != UNAVAILABLE:
                    raise
                self.unavailable["subscribers"] += 1
                await self.back.wait()

    def note(self, event: Event) -> None:
        """Record the end of a job, and wake its client."""
        id = event["job"]["id"]
        if event["type"] == "SUCCEEDED" and not self.ended[id].is_set():
            self.ended[id].set()
            self.ends.put_nowait(id)

    async def check_outage(self, gateway: LiveServer) -> None:
        """Check that a gateway answers every kind of request during an outage, with its code."""
        ready = await self.http.get(f"{gateway.url}/readyz")
        assert ready.status_code == 503
        healthy = await self.http.get(f"{gateway.url}/healthz")
        assert healthy.status_code == 200
        variables = {"id": str(self.source), "name": "outage"}
        for query in ({"query": QUEUE}, {"query": DUPLICATE, "variables": variables}):
            assert data_of(await self.http.post(f"{gateway.url}/graphql", json=query)) is None
        with pytest.raises(Refused) as refused:
            await Follower(LAST).listen(gateway.url, 1)
        assert refused.value.code == UNAVAILABLE


def let_run(server: LiveServer, seconds: float) -> None:
    """Wait `seconds`, in which the server must not exit by itself."""
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(timeout=seconds)


async def source_in(database_url: str) -> UUID:
    """Create a small hierarchy in a new database. Return its id."""
    migrate(Settings(database_url=database_url), check=False)
    database = open_database(Settings(database_url=database_url))
    source = await factories.hierarchy(database, factories.wide_tree(30))
    database.close()
    return source


@contextmanager
def pooled(server_url: str, mode: str | None) -> Iterator[Callable[[str], str]]:
    """Yield a function that returns the URL of a database through a pooler, or its own URL."""
    if mode is None:
        yield lambda url: url
        return
    # In session mode each connection of the processes needs one.
    sessions = 20 if mode == "transaction" else 13 * (GATEWAYS + WORKERS)
    with pgbouncer.pooler(server_url, mode, sessions) as through:
        yield through


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    "pooler_mode",
    [None, *(pytest.param(mode, marks=pytest.mark.pooler) for mode in pgbouncer.MODES)],
)
async def test_outages_under_load_are_reported_and_survived_without_loss(
    pooler_mode: str | None,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    outages = counted(2, 10)
    random = Random(seed)
    recovery_seconds: list[float] = []
    with (
        postgres.cluster() as cluster,
        pooled(cluster.server_url, pooler_mode) as through,
    ):
        url = postgres.new_database(cluster.server_url)
        source = await source_in(url)
        gateways = [start_server(through(url), "--no-runner") for _ in range(GATEWAYS)]
        workers = [
            start_worker(through(url), JOBS_GATEWAY_LEASE_SECONDS=LEASE_SECONDS)
            for _ in range(WORKERS)
        ]
        followers = [Follower(LAST) for _ in range(SUBSCRIBERS)]
        async with (
            httpx.AsyncClient(timeout=30, verify=False) as http,
            asyncio.TaskGroup() as tasks,
        ):
            load = Load(http, gateways, source, random)
            load.back.set()
            for follower in followers:
                follower.on_event = load.note
                tasks.create_task(load.follow(follower))
            for gateway in gateways:
                tasks.create_task(load.read_queue(gateway))
            clients = [tasks.create_task(load.request_copies(number)) for number in range(CLIENTS)]
            for _ in range(outages):
                for _ in range(random.randint(*ENDS_PER_OUTAGE)):
                    await load.ends.get()
                load.back.clear()
                await asyncio.to_thread(cluster.stop, "immediate")
                for gateway in gateways:
                    await load.check_outage(gateway)
                outage_seconds = random.uniform(0, MAX_OUTAGE_SECONDS)
                await asyncio.to_thread(let_run, gateways[0], outage_seconds)
                load.ends = asyncio.Queue()
                await asyncio.to_thread(cluster.start)
                load.back.set()
                began = monotonic()
                await load.ends.get()
                recovery_seconds.append(monotonic() - began)
            load.enough.set()
            await asyncio.gather(*clients)
            await load.request_copy(LAST)
        assert [process.stop() for process in (*workers, *gateways)] == [0] * (WORKERS + GATEWAYS)
        assert "Traceback" not in capfd.readouterr().err

        history = history_of(url)
        log = whole_log(url)
        database = connect(url)
        copies = await database.read(
            lambda tx: (
                session_of(tx)
                .exec(select(Hierarchy.name).where(col(Hierarchy.copied_from) == source))
                .all()
            )
        )
        database.close()
    assert history.faults == {}
    assert history.statuses == {JobStatus.SUCCESS: len(load.jobs)}
    assert sorted(copies) == sorted(load.jobs)
    for follower in followers:
        assert follower.entries == log
    assert len(log) == history.events == 3 * len(load.jobs)
    report(
        f"{outages} outages, {history}; answers {UNAVAILABLE}: "
        f"{', '.join(f'{client} {times}' for client, times in load.unavailable.items())}; "
        f"each subscriber received events 1..{len(log)}; "
        f"first end of a job within {max(recovery_seconds):.1f} s after an outage"
    )
