"""kill -9 at random moments: no partial copy is visible, no job is lost or run twice.

On SQLite the whole server is killed, on PostgreSQL one of two workers; the other worker and the
gateways keep running. Two stores have work throughout. Jobs are requested before and during each
kill, and between some kills the sources are edited. The database is checked after each kill and at
the end.
"""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

from app.domain.hierarchies import node_id
from app.services.copies import MAX_RESTARTS
from app.settings import Settings
from app.storage.engine.connect import connect
from app.storage.engine.transaction import Transaction
from app.wiring import open_database
from tests import factories
from tests.oracles.history import history_of
from tests.support.entities import read_transaction
from tests.support.processes import LiveProcess, LiveServer, start_server, start_worker

pytestmark = pytest.mark.fault

NODES = 2_500
PRODUCTS_PER_NODE = 12
OTHER_STORE = "other"
STORES = (factories.STORE, OTHER_STORE)
EDITS_PER_KILL = 0.25

LEASE_SECONDS = "1"

KILLED_WITHIN_SECONDS = 0.2
ANSWERED_WITHIN_SECONDS = 0.1
LOOK_EVERY_SECONDS = 0.05
DRAINED_WITHIN_SECONDS = 100

DUPLICATE = """
mutation($input: DuplicateHierarchyInput!) {
  duplicateHierarchy(input: $input) { job { id } replayed errors { __typename } }
}
"""


class Processes(Protocol):
    """The processes on the database, all or some of which are killed."""

    def complete(self) -> dict[str, LiveServer]:
        """Start the missing processes. Return the gateways by store."""
        ...

    def kill(self, random: Random) -> None:
        """Kill a process that runs jobs (SIGKILL)."""
        ...

    def stop(self) -> None:
        """Stop all processes by a signal they handle."""
        ...


class OneServer:
    """A server for one store that runs the jobs of both."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._server: LiveServer | None = None

    def complete(self) -> dict[str, LiveServer]:
        self._server = self._server or start_server(self._url)
        return {factories.STORE: self._server}

    def kill(self, random: Random) -> None:
        assert self._server
        self._server.kill()
        self._server = None

    def stop(self) -> None:
        assert self._server
        assert self._server.stop() == 0


class GatewaysAndWorkers:
    """A gateway per store, never killed, and two workers, one of which is killed.

    A worker runs one job at a time, so that both are busy while both stores have jobs.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._gateways = {
            store: start_server(url, "--no-runner", "--store", store) for store in STORES
        }
        self._workers: list[LiveProcess] = []

    def complete(self) -> dict[str, LiveServer]:
        while len(self._workers) < len(STORES):
            self._workers.append(
                start_worker(
                    self._url, "--concurrency", "1", JOBS_GATEWAY_LEASE_SECONDS=LEASE_SECONDS
                )
            )
        return self._gateways

    def kill(self, random: Random) -> None:
        self._workers.pop(random.randrange(len(self._workers))).kill()

    def stop(self) -> None:
        for process in (*self._workers, *self._gateways.values()):
            assert process.stop() == 0


def processes_of(url: str) -> Processes:
    """Return the processes for the kind of database."""
    return OneServer(url) if url.startswith("sqlite") else GatewaysAndWorkers(url)


class Contents(NamedTuple):
    """Counts and checksums of a hierarchy's rows."""

    nodes: int
    associations: int
    reverse: int
    names: str
    parents: int
    products: int
    nodes_of_products: int
    curation: int


class Snapshot:
    """Queries on one snapshot of the database, while other processes write."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query that both kinds of database support."""
        return list(self._tx.rows(sa.text(query), values))

    def number(self, query: str, **values: Any) -> int:
        """Run a query for one number."""
        ((number,),) = self.rows(query, **values)
        return int(number)

    def pairs(self, query: str, **values: Any) -> dict[int, int]:
        """Run a query for pairs with unique first values."""
        return dict(self.rows(query, **values))

    def contents(self, pk: int) -> Contents:
        """Read all rows of a hierarchy."""
        named = self.rows("SELECT name FROM node WHERE hierarchy_pk = :pk ORDER BY node_no", pk=pk)
        ((nodes, parents),) = self.rows(
            "SELECT count(*), sum(node_no * parent_no) FROM node WHERE hierarchy_pk = :pk", pk=pk
        )
        ((associations, products, curation),) = self.rows(
            "SELECT count(*), sum(node_no * product_pk), sum(product_pk * curated_position)"
            " FROM node_product WHERE hierarchy_pk = :pk",
            pk=pk,
        )
        ((reverse, nodes_of_products),) = self.rows(
            "SELECT count(*), sum(node_no * product_pk) FROM product_node WHERE hierarchy_pk = :pk",
            pk=pk,
        )
        names = "/".join(name for (name,) in named)
        return Contents(
            nodes, associations, reverse, names, parents, products, nodes_of_products, curation
        )


@contextmanager
def snapshot(url: str) -> Iterator[Snapshot]:
    """Yield a snapshot of the database."""
    with closing(connect(url)) as database, read_transaction(database) as tx:
        yield Snapshot(tx)


@dataclass
class Ledger:
    """The invariants that hold after every kill."""

    url: str
    contents: dict[Any, set[Contents]] = field(default_factory=dict)
    """All earlier and current contents of each source, by its id."""
    copies: set[int] = field(default_factory=set)
    """Visible copies already compared with their sources."""
    log: set[tuple[Any, ...]] = field(default_factory=set)
    """The events at the last check."""
    begun: dict[int, int] = field(default_factory=dict)
    """The unfinished copy of each started job, which must not restart unless the source changes."""

    def note_sources(self) -> None:
        """Record the contents of the sources; copies begun before may start over."""
        self.begun.clear()
        with snapshot(self.url) as now:
            for pk, id in now.rows("SELECT pk, id FROM hierarchy WHERE copied_from IS NULL"):
                self.contents.setdefault(id, set()).add(now.contents(pk))

    def check(self) -> None:
        """Check all invariants."""
        for store in STORES:
            assert history_of(self.url, store).faults == {}
        with snapshot(self.url) as now:
            self._check_log(now)
            self._check_begun(now)
            self._check_copies(now)

    def _check_log(self, now: Snapshot) -> None:
        log = set(now.rows("SELECT store, seq, job_pk, type FROM job_event"))
        assert self.log <= log, "a committed event is missing"
        self.log = log

    def _check_begun(self, now: Snapshot) -> None:
        begun = now.pairs(
            "SELECT job.pk, CAST(checkpoint ->> 'copy_pk' AS bigint) FROM job"
            " JOIN hierarchy ON hierarchy.id = subject_id WHERE status = 'started'"
            " AND CAST(checkpoint ->> 'revision' AS bigint) = revision"
            " AND CAST(checkpoint ->> 'restarts' AS bigint) < :restarts",
            restarts=MAX_RESTARTS,
        )
        finished = now.pairs(
            "SELECT job.pk, hierarchy.pk FROM job JOIN hierarchy ON hierarchy.id = result_id"
        )
        assert self.begun.items() <= (finished | begun).items(), "a copy started over"
        self.begun = begun

    def _check_copies(self, now: Snapshot) -> None:
        visible = now.rows(
            "SELECT pk, copied_from, node_count, association_count FROM hierarchy"
            " WHERE state = 'ready' AND copied_from IS NOT NULL"
        )
        for pk, source, nodes, associations in visible:
            if pk not in self.copies:
                shown = now.contents(pk)
                assert shown in self.contents[source], "a visible copy differs from its source"
                assert (nodes, associations) == (shown.nodes, shown.associations)
                self.copies.add(pk)


async def create_work(url: str, other_jobs: int) -> dict[str, UUID]:
    """Create a source per store, and jobs in the other store. Return the sources by store."""
    database = open_database(Settings(database_url=url))
    skus = [f"sku {number}" for number in range(PRODUCTS_PER_NODE)]
    sources = {
        store: await factories.hierarchy(
            database,
            factories.wide_tree(NODES),
            store=store,
            products={f"node {number}": skus for number in range(1, NODES + 1)},
            curated={f"node {number}": skus[::-5] for number in range(1, NODES + 1, 10)},
        )
        for store in (factories.STORE, OTHER_STORE)
    }
    for number in range(other_jobs):
        await factories.pending_duplication(
            database,
            sources[OTHER_STORE],
            store=OTHER_STORE,
            name=f"other {number}",
            include_products=True,
        )
    database.close()
    return sources


async def edit(url: str, id: UUID, name: str) -> None:
    """Rename a node of a source."""
    database = open_database(Settings(database_url=url))
    await factories.edited(database, id, name=name)
    database.close()


@dataclass
class Requests:
    """The requested copies and their answers."""

    http: httpx.Client
    sources: dict[str, UUID]
    stores: dict[str, str] = field(default_factory=dict)
    """The store of each requested copy, by the copy's name."""
    answers: dict[str, str] = field(default_factory=dict)
    """The id of each copy's job."""
    lost: int = 0
    """Number of lost answers."""
    lost_of_jobs: int = 0
    """Number of lost answers to requests that had created a job."""

    def send(self, gateways: dict[str, LiveServer], store: str) -> None:
        """Request another copy of the store's source."""
        name = f"copy {len(self.stores)}"
        self.stores[name] = store
        self.answers[name], replayed = self._answer(gateways, name)
        assert not replayed

    def send_again(self, gateways: dict[str, LiveServer]) -> None:
        """Repeat the requests without an answer, and the last one with an answer."""
        for name in list(self.answers)[-1:]:
            assert self._answer(gateways, name) == (self.answers[name], True)
        for name in self.stores.keys() - self.answers.keys():
            self.answers[name], replayed = self._answer(gateways, name)
            self.lost += 1
            self.lost_of_jobs += replayed

    def _answer(self, gateways: dict[str, LiveServer], name: str) -> tuple[str, bool]:
        """Request a copy. Return the job's id, and True if an earlier request had created it."""
        store = self.stores[name]
        input = {
            "hierarchyId": str(self.sources[store]),
            "name": name,
            "includeProducts": True,
            "idempotencyKey": name,
        }
        answer = self.http.post(
            f"{gateways[store].url}/graphql",
            json={"query": DUPLICATE, "variables": {"input": input}},
        )
        payload = answer.json()["data"]["duplicateHierarchy"]
        assert payload["errors"] == []
        return payload["job"]["id"], payload["replayed"]


def let_run(server: LiveServer, seconds: float) -> None:
    """Wait `seconds`, in which the server must not exit by itself."""
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(timeout=seconds)


def run_until_none(server: LiveServer, query: str) -> None:
    """Let the processes run until the query counts 0."""
    deadline = monotonic() + DRAINED_WITHIN_SECONDS
    while True:
        with snapshot(server.database_url) as now:
            if now.number(query) == 0:
                return
        assert monotonic() < deadline
        let_run(server, LOOK_EVERY_SECONDS)


@pytest.mark.timeout(900)
def test_kills_at_random_moments_leave_no_partial_copy_and_lose_or_repeat_no_job(
    database_url: str,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
) -> None:
    kills = counted(8, 100)
    began = monotonic()
    random = Random(seed)
    ledger = Ledger(database_url)
    sources = asyncio.run(create_work(database_url, other_jobs=kills // 2))
    ledger.note_sources()
    processes = processes_of(database_url)
    edits = 0

    with ThreadPoolExecutor(1) as background, httpx.Client(timeout=30, verify=False) as http:
        requests = Requests(http, sources)
        for _ in range(kills):
            gateways = processes.complete()
            requests.send_again(gateways)
            for store in gateways:
                requests.send(gateways, store)
            gateway = gateways[factories.STORE]
            let_run(gateway, random.uniform(0, KILLED_WITHIN_SECONDS))
            answer = background.submit(requests.send, gateways, factories.STORE)
            let_run(gateway, random.uniform(0, ANSWERED_WITHIN_SECONDS))
            processes.kill(random)
            with suppress(httpx.TransportError):
                answer.result()

            ledger.check()
            if random.random() < EDITS_PER_KILL:
                edits += 1
                for root in sources.values():
                    node = node_id(root, random.randint(1, NODES))
                    asyncio.run(edit(database_url, node, f"edit {edits}"))
                ledger.note_sources()

        gateways = processes.complete()
        requests.send_again(gateways)

    gateway = gateways[factories.STORE]
    run_until_none(gateway, "SELECT count(*) FROM job WHERE status IN ('pending', 'started')")
    run_until_none(gateway, "SELECT count(*) FROM hierarchy WHERE state != 'ready'")
    processes.stop()

    ledger.copies.clear()
    ledger.check()
    with snapshot(database_url) as now:
        for table in ("node", "node_product", "product_node"):
            left = f"SELECT count(*) FROM {table} WHERE hierarchy_pk NOT IN"
            assert now.number(f"{left} (SELECT pk FROM hierarchy)") == 0
        succeeded = now.rows("SELECT id, args ->> 'name' FROM job WHERE status = 'success'")
        jobs = now.number("SELECT count(*) FROM job")
        claims = now.number("SELECT sum(epoch) FROM lane")
        copies = now.rows(
            "SELECT job.id FROM hierarchy LEFT JOIN job"
            " ON job.result_id = hierarchy.id AND job.args ->> 'name' = hierarchy.name"
            " WHERE hierarchy.copied_from IS NOT NULL"
        )
    done = {UUID(str(id)): name for id, name in succeeded}
    requested = {UUID(id): name for name, id in requests.answers.items()}
    others = {id: name for id, name in done.items() if name.startswith("other")}
    assert done == requested | others
    assert len(others) == kills // 2
    assert len(done) == jobs
    assert Counter(UUID(str(id)) for (id,) in copies) == Counter(done.keys())
    report(
        f"{kills} kills, {jobs} jobs, {claims - jobs} takeovers, {edits} edits; "
        f"{requests.lost} lost answers, {requests.lost_of_jobs} of them after a job was created; "
        f"partial copies 0, jobs lost 0, jobs run twice 0; {monotonic() - began:.0f} s"
    )
