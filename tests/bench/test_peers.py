"""The same requests to this gateway and its peers, on copies of the same file, one core each.

Before the measurements all answers and written rows are compared. The servers are measured in turn,
in another order per round, so that other load on the machine affects all alike. A ratio is that of
the medians of the rounds.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.bench.documents import ENQUEUE, HIERARCHIES, JOB, LOCALES, TREE
from tests.bench.load import load
from tests.bench.peers.running import CLIENT, GATEWAY, PROJECT, Server, node_scripts, pinned, served
from tests.bench.table import Figures
from tests.support.node_js import missing

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = 5
SECONDS = 2
WARM_UP_SECONDS = 1
CONNECTIONS = 16

OURS = "jobs-gateway"
BEFORE = "jobs-gateway of --before"
MERCURIUS = "Mercurius + JIT"
ROUTE = "hand-written route"

LIST, ONE, BRANCHES = "50 hierarchies with translations", "one job by id", "a tree of 20 x 10"
LAST = "the last pending job"

GOALS: Mapping[tuple[str, str], float] = {
    (LIST, MERCURIUS): 1.5,
    (ONE, MERCURIUS): 1,
    (BRANCHES, MERCURIUS): 1.5,
    (LIST, ROUTE): 0.8,
    (ONE, ROUTE): 0.8,
    (BRANCHES, ROUTE): 0.8,
    ("duplicateHierarchy", BEFORE): 2,
}
"""The minimum ratio of this gateway's requests per second to those of another server."""

SIZES = {1: (20, 10), 10: (20, 100), 100: (200, 100)}
"""Departments, and categories per department, of the tree, per factor by which the data grows."""

MAX_SLOWDOWN = 1.3
"""Factor by which a request may get slower while the data grows by 100."""


@dataclass(frozen=True)
class Work:
    """A request that is repeated."""

    name: str
    query: str
    id: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """The posted document."""
        return {"query": self.query, "variables": {"id": self.id}}


@dataclass(frozen=True)
class Round:
    """The figures of a server in one round; times in seconds."""

    requests: int
    seconds: float
    p99: float
    cpu_seconds: float
    """CPU time for all requests; other load on the machine affects it less than the pace."""


@dataclass(frozen=True)
class Shop:
    """A database file with 50 hierarchies and a pending job."""

    path: Path
    earlier: Path
    """The same data in the schema of the --before version, or of this one without --before."""
    hierarchy_id: str
    job_id: str

    @property
    def reads(self) -> list[Work]:
        """The read requests."""
        return [
            Work(LIST, HIERARCHIES),
            Work(ONE, JOB, self.job_id),
            Work(BRANCHES, TREE, self.hierarchy_id),
        ]


@pytest.fixture
def shop(tmp_path: Path, before: Path | None) -> Shop:
    earlier, path = tmp_path / "earlier.db", tmp_path / "shop.db"
    script = [sys.executable, str(PROJECT / "tests" / "bench" / "peers" / "shop.py"), str(earlier)]
    environment = {**os.environ, "PYTHONPATH": str(before or PROJECT)}
    printed = subprocess.run(script, env=environment, stdout=PIPE, text=True, check=True).stdout
    shutil.copyfile(earlier, path)
    # Migrates the file.
    open_database(Settings(database_url=f"sqlite:///{path}")).close()
    return Shop(path, earlier, *printed.split())


@pytest.fixture
def servers(shop: Shop, tmp_path: Path, before: Path | None) -> Iterator[list[Server]]:
    """Start the gateway and its peers. The gateway comes first."""
    assert not missing(), f"missing: {', '.join(missing())}"
    scripts = node_scripts(tmp_path)
    with ExitStack() as stack:
        started: list[Server] = []

        def start(name: str, *command: str, folder: Path = PROJECT, **environment: str) -> None:
            path = tmp_path / f"{len(started)}.db"
            shutil.copyfile(shop.earlier if name == BEFORE else shop.path, path)
            command = tuple(part.format(path) for part in command)
            started.append(stack.enter_context(served(name, command, path, folder, **environment)))

        start(OURS, *GATEWAY)
        start("jobs-gateway without plans", *GATEWAY, JOBS_GATEWAY_PLANS="no")
        if before:
            start(BEFORE, *GATEWAY, folder=before)
        python = (GATEWAY[0], "-m")
        start(ROUTE, *python, "tests.bench.peers.route", "{}")
        start(MERCURIUS, "node", "mercurius.mjs", "{}", folder=scripts)
        start("GraphQL Yoga + JIT", "node", "yoga.mjs", "{}", folder=scripts)
        start("Ariadne", *python, "tests.bench.peers.ariadne_server", "{}")
        yield started


async def test_side_by_side(
    shop: Shop, servers: list[Server], tmp_path: Path, figures: Figures
) -> None:
    enqueueing = Work("duplicateHierarchy", ENQUEUE, shop.hierarchy_id)
    ours, *peers = servers
    for work in shop.reads:
        expected = _answer(ours, work)
        for peer in peers:
            assert _answer(peer, work) == expected, peer.name
    for server in servers:
        payload = _answer(server, enqueueing)["duplicateHierarchy"]
        assert payload["job"]["status"] == "PENDING"
        assert payload["errors"] == []
    expected_rows = _written(ours.path)
    for peer in peers:
        # The columns of an earlier version may differ.
        if peer.name != BEFORE:
            assert _written(peer.path) == expected_rows, peer.name

    for work in (*shop.reads, enqueueing):
        rounds = _measure(dict.fromkeys(servers, work), tmp_path)
        _heading(figures, work.name)
        figures.add(f"  {OURS}", _summary(rounds[ours]))
        for peer in peers:
            ratio = _ratio(rounds[ours], rounds[peer], _pace)
            cpu_ratio = _ratio(rounds[peer], rounds[ours], _cpu)
            text = f"{_summary(rounds[peer])}; {OURS} {ratio:.2f} x, by CPU {cpu_ratio:.2f} x"
            goal = GOALS.get((work.name, peer.name))
            if goal is None:
                figures.add(f"  {peer.name}", text)
            else:
                figures.add_judged(f"  {peer.name}", text, f"at least {goal}", ratio >= goal)
    # A broken plan logs and falls back to the reference executor, which would be measured instead.
    assert ours.log.read_text() == ""


async def test_growth(shop: Shop, tmp_path: Path, figures: Figures) -> None:
    with ExitStack() as stack:
        sizes: dict[Server, list[Work]] = {}
        for times in SIZES:
            path = tmp_path / f"{times}x.db"
            shutil.copyfile(shop.path, path)
            requests = await _grow(path, shop, times)
            server = stack.enter_context(served(f"{times}x data", GATEWAY, path, PROJECT))
            assert all(_answer(server, work) is not None for work in requests)
            sizes[server] = requests
        for works in zip(*sizes.values(), strict=True):
            name = works[0].name
            rounds = _measure(dict(zip(sizes, works, strict=True)), tmp_path)
            _heading(figures, f"{name}, as the data grows")
            small, *larger = sizes
            figures.add(f"  {small.name}", _summary(rounds[small]))
            for server in larger:
                slower = _ratio(rounds[small], rounds[server], _pace)
                text = f"{_summary(rounds[server])}; {slower:.2f} times slower"
                if name == LAST:
                    # All servers count the queue position: the cost grows with the jobs in front.
                    figures.add(f"  {server.name}", text)
                else:
                    goal = f"at most {MAX_SLOWDOWN}"
                    figures.add_judged(f"  {server.name}", text, goal, slower <= MAX_SLOWDOWN)
        for server in sizes:
            assert server.log.read_text() == ""


async def _grow(path: Path, shop: Shop, times: int) -> list[Work]:
    """Grow a file's data to `times` times 50 hierarchies, 1,000 jobs of which every tenth is
    pending, and 200 nodes of one hierarchy. Return the requests to measure."""
    departments, categories = SIZES[times]
    tree: factories.Tree = {
        f"Department {i}": {f"Category {i}.{k}": {} for k in range(categories)}
        for i in range(departments)
    }
    database = open_database(Settings(database_url=f"sqlite:///{path}"))
    id = await factories.hierarchy(database, tree, name="Departments", locales=LOCALES)
    database.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        jobs = 1000 * times
        _add(
            connection,
            "hierarchy",
            50 * (times - 1),
            f"id = '{UUID(shop.hierarchy_id).hex}'",
            {
                "pk": "NULL",
                "id": "lower(hex(randomblob(12))) || '00000000'",
                "name": "'Catalogue ' || n",
                "created_at": _AGO,
                "updated_at": _AGO,
            },
        )
        status = "CASE WHEN n % 10 THEN 'success' ELSE 'pending' END"
        ended_at = f"CASE WHEN n % 10 THEN {_AGO} END"
        _add(
            connection,
            "job",
            jobs,
            "job_seq = 1",
            {
                "pk": "NULL",
                "id": "lower(hex(randomblob(16)))",
                "job_seq": "n + 1",
                "turn": "n + 1",
                "status": status,
                "started_at": ended_at,
                "completed_at": ended_at,
            },
        )
        connection.execute("UPDATE lane SET job_seq = ?, pending = ?", (jobs + 1, jobs // 10 + 1))
        last = "SELECT id FROM job WHERE status = 'pending' ORDER BY turn DESC LIMIT 1"
        (last_id,) = connection.execute(last).fetchone()
    return [
        Work(LIST, HIERARCHIES),
        Work(ONE, JOB, shop.job_id),
        Work(LAST, JOB, str(UUID(last_id))),
        Work(BRANCHES, TREE, str(id)),
    ]


_AGO = "strftime('%Y-%m-%d %H:%M:%f000', 'now', -n || ' minutes')"
"""An instant `n` minutes ago, in the gateway's stored form."""


def _add(
    connection: sqlite3.Connection, table: str, rows: int, like: str, changed: Mapping[str, str]
) -> None:
    """Add copies n = 1 to `rows` of the row matching `like`, with other values in some columns."""
    columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(changed.get(name, name) for name in columns)
    connection.execute(
        f"WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
        f" INSERT INTO {table} SELECT {values}"
        f" FROM (SELECT * FROM {table} WHERE {like}), number WHERE n > 0",
        (rows,),
    )


def _answer(server: Server, work: Work) -> Any:
    """Post a request. Return the data of an answer without errors."""
    answer = httpx.post(server.url, json=work.body, timeout=30).json()
    assert "errors" not in answer, f"{server.name}: {answer}"
    return answer["data"]


def _written(path: Path) -> list[dict[str, Any]]:
    """Return the rows that the latest request wrote, without ids and instants, which differ."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        job, event, lane = (
            dict(connection.execute(f"SELECT * FROM {table} ORDER BY {order} DESC").fetchone())
            for table, order in (("job", "job_seq"), ("job_event", "seq"), ("lane", "job_seq"))
        )
    snapshot = json.loads(event.pop("snapshot"))
    assert snapshot["id"].replace("-", "") == job["id"]
    assert snapshot["request_id"] == job["request_id"]
    # Null of SQL or of JSON.
    assert job.pop("checkpoint") in (None, "null")
    rows = [job, event, lane, snapshot]
    for row in rows:
        for own in ("id", "request_id", "created_at", "updated_at", "at", "last_created_at"):
            row.pop(own, None)
    return rows


def _measure(works: Mapping[Server, Work], folder: Path) -> dict[Server, list[Round]]:
    """Measure each server's request in every round."""

    def run_round(server: Server, seconds: int) -> Round:
        before = server.cpu_seconds()
        with pinned(CLIENT):
            result = load(server.url, json.dumps(works[server].body), CONNECTIONS, seconds, folder)
        return Round(result.requests, result.seconds, result.p99, server.cpu_seconds() - before)

    servers = list(works)
    for server in servers:
        run_round(server, WARM_UP_SECONDS)
    rounds: dict[Server, list[Round]] = {server: [] for server in servers}
    for _ in range(ROUNDS):
        servers = servers[1:] + servers[:1]
        for server in servers:
            rounds[server].append(run_round(server, SECONDS))
    return rounds


def _pace(round: Round) -> float:
    """Return the requests per second."""
    return round.requests / round.seconds


def _cpu(round: Round) -> float:
    """Return the CPU seconds per request."""
    return round.cpu_seconds / max(1, round.requests)


def _summary(rounds: list[Round]) -> str:
    pace, cpu = median(map(_pace, rounds)), median(map(_cpu, rounds))
    p99 = median(round.p99 for round in rounds)
    return f"{pace:,.0f} requests/s, p99 {p99 * 1e3:.0f} ms, CPU {cpu * 1e6:,.0f} µs per request"


def _ratio(first: list[Round], second: list[Round], figure: Callable[[Round], float]) -> float:
    """Return the ratio of a figure of two servers, by the medians of the rounds."""
    return median(map(figure, first)) / median(map(figure, second))


def _heading(figures: Figures, work: str) -> None:
    figures.add(f"{work}, {CONNECTIONS} connections", f"machine load {os.getloadavg()[0]:.1f}")
