"""kill -9 at random moments: nothing half visible, nothing lost, nothing done twice.

On SQLite it is the whole server that is killed. On PostgreSQL it is one of two workers, and the
other one and the gateways live on. Two stores have work all the while. Jobs are asked for before
each kill and in the moment of it, and between some kills the sources are edited. What counts is
what the database says, right behind each kill and in the end.
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
from sqlmodel import Session

from app.domain.hierarchies import node_id
from app.services.copies import MAX_RESTARTS
from app.settings import Settings
from app.storage.engine.connect import connect
from app.wiring import open_database
from tests import factories
from tests.oracles.history import history_of
from tests.support.processes import LiveProcess, LiveServer, start_server, start_worker

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
    """What runs on the database, and is killed whole or in part."""

    def complete(self) -> dict[str, LiveServer]:
        """Start what is not there; the gateways, by their stores."""
        ...

    def kill(self, random: Random) -> None:
        """End one that runs jobs, as the operating system would."""
        ...

    def stop(self) -> None:
        """End all of them as they should end."""
        ...


class OneServer:
    """A server of the one store that runs the jobs of both."""

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
    """A gateway of each store, which nobody kills, and two workers. Each runs one job at a time, so
    that either has one while both stores do."""

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
    """Those that suit the kind of database."""
    return OneServer(url) if url.startswith("sqlite") else GatewaysAndWorkers(url)


class Picture(NamedTuple):
    """What a hierarchy holds, by its rows."""

    nodes: int
    associations: int
    reverse: int
    names: str
    parents: int
    products: int
    nodes_of_products: int
    curation: int


class Reading:
    """What the database says at one moment, whoever goes on writing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def rows(self, question: str, **values: Any) -> list[tuple[Any, ...]]:
        """The answer to a question that both kinds of database understand."""
        answer = self._session.connection().execute(sa.text(question), values)
        return [tuple(row) for row in answer]

    def number(self, question: str, **values: Any) -> int:
        """The answer to a question that has one number as its answer."""
        ((number,),) = self.rows(question, **values)
        return int(number)

    def pairs(self, question: str, **values: Any) -> dict[int, int]:
        """The answer to a question that has pairs as its answer, each first one once."""
        return dict(self.rows(question, **values))

    def picture(self, pk: int) -> Picture:
        """What a hierarchy holds, each row read."""
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
        return Picture(
            nodes, associations, reverse, names, parents, products, nodes_of_products, curation
        )


@contextmanager
def reading(url: str) -> Iterator[Reading]:
    """The database as it is now."""
    with closing(connect(url)) as database, Session(database.read_engine) as session:
        yield Reading(session)


@dataclass
class Ledger:
    """What the database must go on saying, whoever was killed while writing it."""

    url: str
    pictures: dict[Any, set[Picture]] = field(default_factory=dict)
    """Every picture a source has ever shown, by its id."""
    copies: set[int] = field(default_factory=set)
    """Visible copies that were compared with their sources."""
    log: set[tuple[Any, ...]] = field(default_factory=set)
    """The events that were there."""
    begun: dict[int, int] = field(default_factory=dict)
    """The unfinished copy of each started job; an edit of the source ends its claim."""

    def note_sources(self) -> None:
        """The sources look like this now, and copies begun before may begin again."""
        self.begun.clear()
        with reading(self.url) as now:
            for pk, id in now.rows("SELECT pk, id FROM hierarchy WHERE copied_from IS NULL"):
                self.pictures.setdefault(id, set()).add(now.picture(pk))

    def check(self) -> None:
        """Check all that may never be otherwise."""
        for store in STORES:
            assert history_of(self.url, store).faults == {}
        with reading(self.url) as now:
            self._check_log(now)
            self._check_begun(now)
            self._check_copies(now)

    def _check_log(self, now: Reading) -> None:
        log = set(now.rows("SELECT store, seq, job_pk, type FROM job_event"))
        assert self.log <= log, "an event that was committed is gone"
        self.log = log

    def _check_begun(self, now: Reading) -> None:
        begun = now.pairs(
            "SELECT job.pk, CAST(checkpoint ->> 'copy_pk' AS bigint) FROM job"
            " JOIN hierarchy ON hierarchy.id = source_id WHERE status = 'started'"
            " AND CAST(checkpoint ->> 'revision' AS bigint) = revision"
            " AND CAST(checkpoint ->> 'restarts' AS bigint) < :restarts",
            restarts=MAX_RESTARTS,
        )
        finished = now.pairs(
            "SELECT job.pk, hierarchy.pk FROM job JOIN hierarchy ON hierarchy.id = result_id"
        )
        assert self.begun.items() <= (finished | begun).items(), "a copy started over"
        self.begun = begun

    def _check_copies(self, now: Reading) -> None:
        visible = now.rows(
            "SELECT pk, copied_from, node_count, association_count FROM hierarchy"
            " WHERE state = 'ready' AND copied_from IS NOT NULL"
        )
        for pk, source, nodes, associations in visible:
            if pk not in self.copies:
                shown = now.picture(pk)
                assert shown in self.pictures[source], "a visible copy is no picture of its source"
                assert (nodes, associations) == (shown.nodes, shown.associations)
                self.copies.add(pk)


async def given_work(url: str, other_jobs: int) -> dict[str, UUID]:
    """A source in each of two stores, by store, and jobs that wait in the other one."""
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
    """Give a node of a source another name."""
    database = open_database(Settings(database_url=url))
    await factories.edited(database, id, name=name)
    database.close()


@dataclass
class Requests:
    """What was asked for, and what of it was answered."""

    http: httpx.Client
    sources: dict[str, UUID]
    asked: dict[str, str] = field(default_factory=dict)
    """The store that each copy was asked of, by the copy's name."""
    answers: dict[str, str] = field(default_factory=dict)
    """The id of each copy's job."""
    lost: int = 0
    """Answers that got lost."""
    lost_of_jobs: int = 0
    """Of these, how many had a job behind them."""

    def ask(self, gateways: dict[str, LiveServer], store: str) -> None:
        """Ask for another copy of the store's source."""
        name = f"copy {len(self.asked)}"
        self.asked[name] = store
        self.answers[name], replayed = self._answer(gateways, name)
        assert not replayed

    def ask_again(self, gateways: dict[str, LiveServer]) -> None:
        """Ask again for what was not answered, and for the last that was."""
        for name in list(self.answers)[-1:]:
            assert self._answer(gateways, name) == (self.answers[name], True)
        for name in self.asked.keys() - self.answers.keys():
            self.answers[name], replayed = self._answer(gateways, name)
            self.lost += 1
            self.lost_of_jobs += replayed

    def _answer(self, gateways: dict[str, LiveServer], name: str) -> tuple[str, bool]:
        """The job's id, and whether an earlier request had made it."""
        store = self.asked[name]
        wanted = {
            "hierarchyId": str(self.sources[store]),
            "name": name,
            "includeProducts": True,
            "idempotencyKey": name,
        }
        answer = self.http.post(
            f"{gateways[store].url}/graphql",
            json={"query": DUPLICATE, "variables": {"input": wanted}},
        )
        payload = answer.json()["data"]["duplicateHierarchy"]
        assert payload["errors"] == []
        return payload["job"]["id"], payload["replayed"]


def let_run(server: LiveServer, seconds: float) -> None:
    """Give the processes so long, in which the server must not end by itself."""
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(timeout=seconds)


def run_until_nothing_is(server: LiveServer, question: str) -> None:
    """Let the processes run until the database counts 0 of that."""
    deadline = monotonic() + DRAINED_WITHIN_SECONDS
    while True:
        with reading(server.database_url) as now:
            if now.number(question) == 0:
                return
        assert monotonic() < deadline
        let_run(server, LOOK_EVERY_SECONDS)


@pytest.mark.timeout(900)
def test_processes_killed_at_any_moment_show_nothing_partial_and_lose_and_repeat_nothing(
    database_url: str,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
) -> None:
    kills = counted(8, 100)
    began = monotonic()
    random = Random(seed)
    ledger = Ledger(database_url)
    sources = asyncio.run(given_work(database_url, other_jobs=kills // 2))
    ledger.note_sources()
    processes = processes_of(database_url)
    edits = 0

    with ThreadPoolExecutor(1) as meanwhile, httpx.Client(timeout=30, verify=False) as http:
        requests = Requests(http, sources)
        for _ in range(kills):
            gateways = processes.complete()
            requests.ask_again(gateways)
            for store in gateways:
                requests.ask(gateways, store)
            gateway = gateways[factories.STORE]
            let_run(gateway, random.uniform(0, KILLED_WITHIN_SECONDS))
            answer = meanwhile.submit(requests.ask, gateways, factories.STORE)
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
        requests.ask_again(gateways)

    gateway = gateways[factories.STORE]
    run_until_nothing_is(gateway, "SELECT count(*) FROM job WHERE status IN ('pending', 'started')")
    run_until_nothing_is(gateway, "SELECT count(*) FROM hierarchy WHERE state != 'ready'")
    processes.stop()

    ledger.copies.clear()
    ledger.check()
    with reading(database_url) as now:
        for table in ("node", "node_product", "product_node"):
            left = f"SELECT count(*) FROM {table} WHERE hierarchy_pk NOT IN"
            assert now.number(f"{left} (SELECT pk FROM hierarchy)") == 0
        succeeded = now.rows("SELECT id, name FROM job WHERE status = 'success'")
        jobs = now.number("SELECT count(*) FROM job")
        claims = now.number("SELECT sum(epoch) FROM lane")
        copies = now.rows(
            "SELECT job.id FROM hierarchy LEFT JOIN job"
            " ON job.result_id = hierarchy.id AND job.name = hierarchy.name"
            " WHERE hierarchy.copied_from IS NOT NULL"
        )
    done = {UUID(str(id)): name for id, name in succeeded}
    wanted = {UUID(id): name for name, id in requests.answers.items()}
    others = {id: name for id, name in done.items() if name.startswith("other")}
    assert done == wanted | others
    assert len(others) == kills // 2
    assert len(done) == jobs
    assert Counter(UUID(str(id)) for (id,) in copies) == Counter(done.keys())
    report(
        f"{kills} kills, {jobs} jobs, {claims - jobs} taken over, {edits} edits; "
        f"{requests.lost} answers lost, {requests.lost_of_jobs} of them of jobs that were made; "
        f"partial 0, lost 0, twice 0; {monotonic() - began:.0f} s"
    )
