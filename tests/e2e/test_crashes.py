"""kill -9 at random moments: nothing half visible, nothing lost, nothing done twice.

Two stores have work all the while. Jobs are asked for before each kill and in the moment of it,
and between some kills the sources are edited. What counts is what the file says while nobody runs.
"""

import asyncio
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic
from typing import NamedTuple
from uuid import UUID

import httpx
import pytest

from app.domain.hierarchies import node_id
from app.main import Settings, open_database
from tests import given
from tests.conftest import LiveServer, start_server

NODES = 2_500
PRODUCTS_PER_NODE = 12
OTHER_STORE = "other"
EDITS_PER_KILL = 0.25

KILLED_WITHIN_SECONDS = 0.4
ANSWERED_WITHIN_SECONDS = 0.1
LOOK_EVERY_SECONDS = 0.05
DRAINED_WITHIN_SECONDS = 100

DUPLICATE = """
mutation($input: DuplicateHierarchyInput!) {
  duplicateHierarchy(input: $input) { job { id } replayed errors { __typename } }
}
"""

CREATED = ("created", None)
STARTED = ("started", "pending")
SUCCEEDED = ("succeeded", "started")
STORIES = {
    "pending": [CREATED],
    "started": [CREATED, STARTED],
    "success": [CREATED, STARTED, SUCCEEDED],
}
"""The events that a job in each status must have had: these, in this order, and no others."""


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


@dataclass
class Ledger:
    """What the file must go on saying, whoever was killed while writing it."""

    path: Path
    pictures: dict[str, set[Picture]] = field(default_factory=dict)
    """Every picture a source has ever shown, by its id."""
    copies: set[int] = field(default_factory=set)
    """Visible copies that were compared with their sources."""
    log: set[tuple[str, int, int, str]] = field(default_factory=set)
    """The events that were there."""
    begun: dict[int, int] = field(default_factory=dict)
    """The unfinished copy of each interrupted job; an edit of the source ends its claim."""
    resumed: int = 0
    """Interruptions of copies that had rows already and went on from there."""

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The file, for reading only."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            yield connection

    def note_sources(self) -> None:
        """The sources look like this now, and copies begun before may begin again."""
        self.begun.clear()
        with self.reading() as file:
            sources = file.execute("SELECT pk, id FROM hierarchy WHERE copied_from IS NULL")
            for pk, id in sources.fetchall():
                self.pictures.setdefault(id, set()).add(picture(file, pk))

    def check(self) -> None:
        """Check all that may never be otherwise."""
        with self.reading() as file:
            self._check_log(file)
            self._check_interrupted(file)
            self._check_copies(file)

    def _check_log(self, file: sqlite3.Connection) -> None:
        events = file.execute(
            "SELECT store, seq, job_pk, type, previous_status FROM job_event ORDER BY store, seq"
        ).fetchall()
        heads = dict(file.execute("SELECT store, event_seq FROM lane").fetchall())
        numbers = [(store, seq) for store, seq, *_ in events]
        assert numbers == [(s, n) for s in sorted(heads) for n in range(1, heads[s] + 1)]

        stories: dict[int, list[tuple[str, str | None]]] = {}
        for _, _, job, type, previous in events:
            stories.setdefault(job, []).append((type, previous))
        jobs = file.execute("SELECT pk, status FROM job").fetchall()
        assert stories == {job: STORIES[status] for job, status in jobs}

        log = {(store, seq, job, type) for store, seq, job, type, _ in events}
        assert self.log <= log, "an event that was committed is gone"
        self.log = log

    def _check_interrupted(self, file: sqlite3.Connection) -> None:
        started = file.execute(
            "SELECT pk, store, checkpoint ->> 'copy_pk', completed_items FROM job"
            " WHERE status = 'started'"
        ).fetchall()
        assert len({store for _, store, *_ in started}) == len(started)

        begun = {job: copy for job, _, copy, _ in started if copy}
        finished = file.execute(
            "SELECT job.pk, hierarchy.pk FROM job JOIN hierarchy ON hierarchy.id = job.result_id"
        ).fetchall()
        gone_on = dict(finished) | begun
        assert self.begun.items() <= gone_on.items(), "a copy started over"
        self.resumed += sum(completed > 0 for *_, completed in started)
        self.begun = begun

    def _check_copies(self, file: sqlite3.Connection) -> None:
        visible = file.execute(
            "SELECT pk, copied_from, node_count, association_count FROM hierarchy"
            " WHERE state = 'ready' AND copied_from IS NOT NULL"
        ).fetchall()
        for pk, source, nodes, associations in visible:
            if pk not in self.copies:
                shown = picture(file, pk)
                assert shown in self.pictures[source], "a visible copy is no picture of its source"
                assert (nodes, associations) == (shown.nodes, shown.associations)
                self.copies.add(pk)


def picture(file: sqlite3.Connection, pk: int) -> Picture:
    """What a hierarchy holds, each row read."""
    (names,) = file.execute(
        "SELECT group_concat(name, '/') FROM"
        " (SELECT name FROM node WHERE hierarchy_pk = ? ORDER BY node_no)",
        [pk],
    ).fetchone()
    nodes, parents = file.execute(
        "SELECT count(*), sum(node_no * parent_no) FROM node WHERE hierarchy_pk = ?", [pk]
    ).fetchone()
    associations, products, curation = file.execute(
        "SELECT count(*), sum(node_no * product_pk), total(product_pk * curated_position)"
        " FROM node_product WHERE hierarchy_pk = ?",
        [pk],
    ).fetchone()
    reverse, nodes_of_products = file.execute(
        "SELECT count(*), sum(node_no * product_pk) FROM product_node WHERE hierarchy_pk = ?", [pk]
    ).fetchone()
    return Picture(
        nodes, associations, reverse, names, parents, products, nodes_of_products, curation
    )


async def given_work(url: str, other_jobs: int) -> dict[str, UUID]:
    """A source in each of two stores, by store, and jobs that wait in the other one."""
    database = open_database(Settings(database_url=url))
    skus = [f"sku {number}" for number in range(PRODUCTS_PER_NODE)]
    sources = {
        store: await given.hierarchy(
            database,
            given.wide_tree(NODES),
            store=store,
            products={f"node {number}": skus for number in range(1, NODES + 1)},
            curated={f"node {number}": skus[::-5] for number in range(1, NODES + 1, 10)},
        )
        for store in (given.STORE, OTHER_STORE)
    }
    for number in range(other_jobs):
        await given.pending_duplication(
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
    await given.edited(database, id, name=name)
    database.close()


def ask(http: httpx.Client, source: UUID, name: str) -> tuple[str, bool]:
    """Ask for a copy of that name; the job's id and whether it was asked for before."""
    wanted = {
        "hierarchyId": str(source),
        "name": name,
        "includeProducts": True,
        "idempotencyKey": name,
    }
    answer = http.post("/graphql", json={"query": DUPLICATE, "variables": {"input": wanted}})
    payload = answer.json()["data"]["duplicateHierarchy"]
    assert payload["errors"] == []
    return payload["job"]["id"], payload["replayed"]


def let_run(server: LiveServer, seconds: float) -> None:
    """Give the server so long, in which it must not end by itself."""
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(timeout=seconds)


def run_until(server: LiveServer, done: Callable[[], bool]) -> None:
    """Let the server run until that is so."""
    deadline = monotonic() + DRAINED_WITHIN_SECONDS
    while not done():
        assert monotonic() < deadline
        let_run(server, LOOK_EVERY_SECONDS)


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often the server is killed."""
    number: int = request.config.getoption("--kills")
    return number


@pytest.mark.timeout(900)
def test_a_server_killed_at_any_moment_shows_nothing_partial_and_loses_and_repeats_nothing(
    tmp_path: Path, kills: int, seed: int, report: Callable[[str], None]
) -> None:
    began = monotonic()
    random = Random(seed)
    ledger = Ledger(tmp_path / "crashes.db")
    url = f"sqlite:///{ledger.path}"
    sources = asyncio.run(given_work(url, other_jobs=kills // 2))
    source = sources[given.STORE]
    ledger.note_sources()
    names = map("copy {}".format, count(1))
    answers: dict[str, str] = {}
    unanswered: list[str] = []
    lost_answers, lost_but_made, edits = 0, 0, 0

    with ThreadPoolExecutor(1) as meanwhile:
        for _ in range(kills):
            server = start_server(url)
            with httpx.Client(base_url=server.url) as http:
                for name in unanswered:
                    answers[name], made = ask(http, source, name)
                    lost_but_made += made
                unanswered.clear()
                for name in list(answers)[-1:]:
                    assert ask(http, source, name) == (answers[name], True)
                name = next(names)
                answers[name], _ = ask(http, source, name)
                let_run(server, random.uniform(0, KILLED_WITHIN_SECONDS))

                name = next(names)
                answer = meanwhile.submit(ask, http, source, name)
                let_run(server, random.uniform(0, ANSWERED_WITHIN_SECONDS))
                server.kill()
                unanswered.append(name)
                with suppress(httpx.TransportError):
                    answers[name], _ = answer.result()
                    unanswered.clear()
            lost_answers += len(unanswered)
            ledger.check()
            if random.random() < EDITS_PER_KILL:
                edits += 1
                for root in sources.values():
                    node = node_id(root, random.randint(1, NODES))
                    asyncio.run(edit(url, node, f"edit {edits}"))
                ledger.note_sources()

    server = start_server(url)
    with httpx.Client(base_url=server.url) as http:
        for name in unanswered:
            answers[name], made = ask(http, source, name)
            lost_but_made += made

    def counted(question: str) -> int:
        with ledger.reading() as file:
            (number,) = file.execute(question).fetchone()
            return int(number)

    run_until(
        server,
        lambda: counted("SELECT count(*) FROM job WHERE status IN ('pending', 'started')") == 0,
    )
    run_until(server, lambda: counted("SELECT count(*) FROM hierarchy WHERE state != 'ready'") == 0)
    assert server.stop() == 0

    ledger.copies.clear()
    ledger.check()
    for table in ("node", "node_product", "product_node"):
        left = f"SELECT count(*) FROM {table} WHERE hierarchy_pk NOT IN (SELECT pk FROM hierarchy)"
        assert counted(left) == 0
    with ledger.reading() as file:
        jobs = dict(file.execute("SELECT id, name FROM job WHERE status = 'success'").fetchall())
        copies = file.execute(
            "SELECT job.id FROM hierarchy LEFT JOIN job"
            " ON job.result_id = hierarchy.id AND job.name = hierarchy.name"
            " WHERE hierarchy.copied_from IS NOT NULL"
        ).fetchall()
    wanted = {UUID(id).hex: name for name, id in answers.items()}
    others = {id: name for id, name in jobs.items() if name.startswith("other")}
    assert jobs == wanted | others
    assert len(others) == kills // 2
    assert counted("SELECT count(*) FROM job") == len(jobs)
    assert Counter(id for (id,) in copies) == Counter(jobs.keys())
    report(
        f"{kills} kills, {len(jobs)} jobs, {ledger.resumed} copies resumed, {edits} edits; "
        f"{lost_answers} answers lost, {lost_but_made} of them of jobs that were made; "
        f"partial 0, lost 0, twice 0; {monotonic() - began:.0f} s"
    )
