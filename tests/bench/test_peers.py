"""Requests beside those of others: the same work on copies of the same file, one core each.

All answers are compared, and what each wrote, before anything is timed. Then everybody is asked in
turn, round after round in another order, so that whatever else the machine does falls on all alike;
a ratio is that of the medians of the rounds.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.bench.documents import CATALOGUE, ENQUEUE, HIERARCHIES, JOB, LOCALES, TREE
from tests.bench.load import load
from tests.bench.peers.running import CLIENT, GATEWAY, PROJECT, Server, node_scripts, pinned, served
from tests.bench.table import Figures
from tests.support.node_js import MISSING

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = 5
SECONDS = 2
WARM_UP_SECONDS = 1
CONNECTIONS = 16

OURS = "jobs-gateway"
BEFORE = "jobs-gateway, before"
MERCURIUS = "Mercurius + JIT"
ROUTE = "a route by hand"

LIST, ONE, BRANCHES = "50 hierarchies with localizations", "one job by id", "a tree of 20 x 10"
LAST = "the last of many pending jobs"

GOALS: Mapping[tuple[str, str], float] = {
    (LIST, MERCURIUS): 1.5,
    (ONE, MERCURIUS): 1,
    (BRANCHES, MERCURIUS): 1.5,
    (LIST, ROUTE): 0.8,
    (ONE, ROUTE): 0.8,
    (BRANCHES, ROUTE): 0.8,
    ("duplicateHierarchy", BEFORE): 2,
}
"""Our requests a second, at least so many times those of the other."""

SIZES = {1: (20, 10), 10: (20, 100), 100: (200, 100)}
"""How many times the data is made more, and the departments and categories of its tree."""

GROWN = 1.3
"""How many times slower a request may get while the data grows a hundredfold."""


@dataclass(frozen=True)
class Work:
    """A request that is sent over and over."""

    name: str
    query: str
    id: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """What is posted."""
        return {"query": self.query, "variables": {"id": self.id}}


@dataclass(frozen=True)
class Taken:
    """How a server took its work in one round."""

    requests: int
    seconds: float
    p99: float
    cpu_seconds: float
    """What it used for all of them. Less than the pace it depends on what else the machine does."""


@dataclass(frozen=True)
class Shop:
    """A file of 50 hierarchies and a pending job."""

    path: Path
    hierarchy_id: str
    job_id: str

    @property
    def reads(self) -> list[Work]:
        """What is read of it."""
        return [
            Work(LIST, HIERARCHIES),
            Work(ONE, JOB, self.job_id),
            Work(BRANCHES, TREE, self.hierarchy_id),
        ]


@pytest.fixture
async def shop(tmp_path: Path) -> Shop:
    path = tmp_path / "shop.db"
    database = open_database(Settings(database_url=f"sqlite:///{path}"))
    for i in range(49):
        await factories.hierarchy(database, {"A": {}}, name=f"Catalogue {i}", locales=LOCALES)
    id = await factories.hierarchy(database, CATALOGUE, name="Departments", locales=LOCALES)
    job = await factories.pending_duplication(database, id)
    database.close()
    return Shop(path, str(id), str(job.id))


@pytest.fixture
def servers(shop: Shop, tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[list[Server]]:
    """The gateway first, and whoever else there is."""
    assert not MISSING, f"there is no {', '.join(MISSING)}"
    scripts = node_scripts(tmp_path)
    with ExitStack() as stack:
        started: list[Server] = []

        def start(name: str, *command: str, folder: Path = PROJECT, **environment: str) -> None:
            path = tmp_path / f"{len(started)}.db"
            shutil.copyfile(shop.path, path)
            command = tuple(part.format(path) for part in command)
            started.append(stack.enter_context(served(name, command, path, folder, **environment)))

        start(OURS, *GATEWAY)
        start("jobs-gateway, plans off", *GATEWAY, JOBS_GATEWAY_PLANS="no")
        before: Path | None = pytestconfig.getoption("--before", None)
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
    ours, *others = servers
    for work in shop.reads:
        expected = _answer(ours, work)
        for other in others:
            assert _answer(other, work) == expected, other.name
    for server in servers:
        payload = _answer(server, enqueueing)["duplicateHierarchy"]
        assert payload["job"]["status"] == "PENDING"
        assert payload["errors"] == []
    expected_rows = _written(ours.path)
    for other in others:
        assert _written(other.path) == expected_rows, other.name

    for work in (*shop.reads, enqueueing):
        taken = _measured(dict.fromkeys(servers, work), tmp_path)
        _heading(figures, work.name)
        figures.add(f"  {OURS}", _told(taken[ours]))
        for other in others:
            ratio = _ratio(taken[ours], taken[other], _pace)
            work_ratio = _ratio(taken[other], taken[ours], _cpu)
            told = f"{_told(taken[other])}; ours {ratio:.2f}, by CPU {work_ratio:.2f}"
            goal = GOALS.get((work.name, other.name))
            if goal is None:
                figures.add(f"  {other.name}", told)
            else:
                figures.add_judged(f"  {other.name}", told, f"at least {goal}", ratio >= goal)
    # What breaks a plan is answered without one, and would be measured so.
    assert ours.log.read_text() == ""


async def test_growth(shop: Shop, tmp_path: Path, figures: Figures) -> None:
    with ExitStack() as stack:
        sizes: dict[Server, list[Work]] = {}
        for times in SIZES:
            path = tmp_path / f"{times}x.db"
            shutil.copyfile(shop.path, path)
            works = await _grow(path, shop, times)
            server = stack.enter_context(served(f"{times}x", GATEWAY, path, PROJECT))
            assert all(_answer(server, work) is not None for work in works)
            sizes[server] = works
        for asked in zip(*sizes.values(), strict=True):
            name = asked[0].name
            taken = _measured(dict(zip(sizes, asked, strict=True)), tmp_path)
            _heading(figures, f"{name}, as the data grows")
            small, *larger = sizes
            figures.add(f"  {small.name}", _told(taken[small]))
            for server in larger:
                slower = _ratio(taken[small], taken[server], _pace)
                told = f"{_told(taken[server])}; {slower:.2f} times slower"
                if name == LAST:
                    # Its place is counted, by everybody: it grows with the jobs in front.
                    figures.add(f"  {server.name}", told)
                else:
                    goal_met = slower <= GROWN
                    figures.add_judged(f"  {server.name}", told, f"at most {GROWN}", goal_met)
        for server in sizes:
            assert server.log.read_text() == ""


async def _grow(path: Path, shop: Shop, times: int) -> list[Work]:
    """Make the file's data so many times more, and tell what is to be read of it: `times` times 50
    hierarchies, 1,000 jobs of which every tenth is pending, and 200 nodes of one hierarchy."""
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
"""An instant as the gateway stores it, the longer ago the greater `n`."""


def _add(
    connection: sqlite3.Connection, table: str, rows: int, like: str, other: Mapping[str, str]
) -> None:
    """Rows n = 1... like the one there is, but for some columns."""
    columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(other.get(name, name) for name in columns)
    connection.execute(
        f"WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
        f" INSERT INTO {table} SELECT {values}"
        f" FROM (SELECT * FROM {table} WHERE {like}), number WHERE n > 0",
        (rows,),
    )


def _answer(server: Server, work: Work) -> Any:
    """The data of an answer without errors."""
    answer = httpx.post(server.url, json=work.body, timeout=30).json()
    assert "errors" not in answer, f"{server.name}: {answer}"
    return answer["data"]


def _written(path: Path) -> list[dict[str, Any]]:
    """What the latest request wrote, without what is each one's own: ids and instants."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        job, event, lane = (
            dict(connection.execute(f"SELECT * FROM {table} ORDER BY {order} DESC").fetchone())
            for table, order in (("job", "job_seq"), ("job_event", "seq"), ("lane", "job_seq"))
        )
    snapshot = json.loads(event.pop("snapshot"))
    assert snapshot["id"].replace("-", "") == job["id"]
    assert snapshot["request_id"] == job["request_id"]
    # SQL's null, or JSON's.
    assert job.pop("checkpoint") in (None, "null")
    rows = [job, event, lane, snapshot]
    for row in rows:
        for own in ("id", "request_id", "created_at", "updated_at", "at", "last_created_at"):
            row.pop(own, None)
    return rows


def _measured(asked: Mapping[Server, Work], folder: Path) -> dict[Server, list[Taken]]:
    """What each server took of its work in every round."""

    def taken(server: Server, seconds: int) -> Taken:
        before = server.cpu_seconds()
        with pinned(CLIENT):
            of = load(server.url, json.dumps(asked[server].body), CONNECTIONS, seconds, folder)
        return Taken(of.requests, of.seconds, of.p99, server.cpu_seconds() - before)

    servers = list(asked)
    for server in servers:
        taken(server, WARM_UP_SECONDS)
    rounds: dict[Server, list[Taken]] = {server: [] for server in servers}
    for _ in range(ROUNDS):
        servers = servers[1:] + servers[:1]
        for server in servers:
            rounds[server].append(taken(server, SECONDS))
    return rounds


def _pace(taken: Taken) -> float:
    """Requests a second."""
    return taken.requests / taken.seconds


def _cpu(taken: Taken) -> float:
    """CPU seconds a request."""
    return taken.cpu_seconds / max(1, taken.requests)


def _told(rounds: list[Taken]) -> str:
    pace, cpu = median(map(_pace, rounds)), median(map(_cpu, rounds))
    p99 = median(taken.p99 for taken in rounds)
    return f"{pace:,.0f}/s, p99 {p99 * 1e3:.0f} ms, CPU {cpu * 1e6:,.0f} µs"


def _ratio(some: list[Taken], others: list[Taken], figure: Callable[[Taken], float]) -> float:
    """How many times the others' figure the first one's is, in the median of the rounds."""
    return median(map(figure, some)) / median(map(figure, others))


def _heading(figures: Figures, work: str) -> None:
    figures.add(f"{work}, {CONNECTIONS} at a time", f"load {os.getloadavg()[0]:.1f}")
