"""One event to thousands of sockets: ours, graphql-ws (the reference server) and Mercurius, in
turn. Each has a core to itself, and the client the other one."""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.bench.fanout.client import Found
from tests.bench.peers.running import CLIENT, GATEWAY, PROJECT, Server, packages, pinned, served
from tests.bench.table import Figures
from tests.support.node_js import MISSING

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = 3
EVENTS = 20
SOCKETS = 1_000, 5_000
RUN_SECONDS = 240
FOLDER = Path(__file__).parent / "fanout"
OURS, REFERENCE, MERCURIUS = "jobs-gateway", "graphql-ws", "Mercurius"

MAKE = 'mutation { createHierarchy(input: {name: "Garden"}) { hierarchy { id } } }'
DUPLICATE = 'mutation {{ duplicateHierarchy(input: {{hierarchyId: "{}"}}) {{ job {{ id }} }} }}'


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The peers' servers, where they find their packages: installed once for all runs."""
    if MISSING:
        pytest.skip(f"there is no {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("fanout")
    for script in FOLDER.glob("*.js"):
        shutil.copy(script, folder)
    shutil.copy(FOLDER / "package.json", folder)
    (folder / "node_modules").symlink_to(packages(FOLDER))
    return folder


@contextmanager
def many_files() -> Iterator[None]:
    """As many open files as are allowed, for what is started meanwhile."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))


def found_of(server: Server, sockets: int, path: str, body: str) -> Found:
    """What the client finds of a server."""
    client = [
        sys.executable,
        "-m",
        "tests.bench.fanout.client",
        server.url.removesuffix("/graphql"),
    ]
    arguments = [str(server.pid), str(sockets), str(EVENTS), path, body]
    with pinned(CLIENT):
        ran = subprocess.run(
            [*client, *arguments],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
            timeout=RUN_SECONDS,
            check=True,
        )
    return Found(**json.loads(ran.stdout))


def ours(folder: Path, sockets: int) -> Found:
    """This gateway, where jobs are asked for and nobody runs them."""
    environment = {
        "JOBS_GATEWAY_MAX_STREAMS_PER_CLIENT": str(sockets + 1),
        "JOBS_GATEWAY_MAX_REQUESTS_PER_SECOND": "0",
    }
    path = Path(tempfile.mkdtemp(dir=folder)) / "ours.db"
    with served(OURS, GATEWAY, path, PROJECT, **environment) as server:
        made = httpx.post(server.url, json={"query": MAKE}).json()
        id = made["data"]["createHierarchy"]["hierarchy"]["id"]
        body = json.dumps({"query": DUPLICATE.format(id)})
        return found_of(server, sockets, "/graphql", body)


def theirs(name: str, script: str, scripts: Path, folder: Path, sockets: int) -> Found:
    """A peer, whose own publisher makes the events."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "none.db"
    with served(name, ("node", script), path, scripts) as server:
        return found_of(server, sockets, "/publish", "{}")


@pytest.mark.parametrize("sockets", SOCKETS)
def test_fanout(sockets: int, scripts: Path, tmp_path: Path, figures: Figures) -> None:
    rounds: dict[str, list[Found]] = {OURS: [], REFERENCE: [], MERCURIUS: []}
    with many_files():
        for _ in range(ROUNDS):
            rounds[OURS].append(ours(tmp_path, sockets))
            for name, script in ((REFERENCE, "graphql_ws.js"), (MERCURIUS, "mercurius.js")):
                rounds[name].append(theirs(name, script, scripts, tmp_path, sockets))

    figures.add(f"one event to {sockets:,} sockets, medians of {ROUNDS} rounds", "")
    for name, found in rounds.items():
        assert all(one.messages == sockets * EVENTS for one in found)
        figures.add(
            f"  {name}",
            f"{median(one.cpu_us for one in found):.0f} µs CPU a message, "
            f"p50 {median(one.p50 for one in found) * 1000:.0f} ms, "
            f"p99 {median(one.p99 for one in found) * 1000:.0f} ms, "
            f"{median(one.idle_kib for one in found):.0f} KiB idle; "
            f"the client {median(one.client_cpu_us for one in found):.0f} µs",
        )
    pairs = list(zip(rounds[OURS], rounds[REFERENCE], strict=True))
    cpu = median(one.cpu_us / other.cpu_us for one, other in pairs)
    p99 = median(one.p99 / other.p99 for one, other in pairs)
    idle = median(one.idle_kib for one in rounds[OURS])
    if sockets == max(SOCKETS):
        figures.add_goal(f"  CPU a message against {REFERENCE}", cpu, 0.5, "{:.2f}")
        figures.add_goal(f"  p99 against {REFERENCE}", p99, 1, "{:.2f}")
        figures.add_goal("  memory of an idle subscriber", idle, 30, "{:.0f} KiB")
    else:
        figures.add(f"  CPU and p99 against {REFERENCE}", f"{cpu:.2f}, {p99:.2f}")
