"""One event to thousands of sockets: this gateway, graphql-ws (the reference server) and Mercurius.

They run in turn, each on one core, with the client on another. With `--before`, another version of
the gateway runs too.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import pytest

from tests.bench.fanout.client import FanoutResult
from tests.bench.peers.running import CLIENT, GATEWAY, PROJECT, Server, pinned, served
from tests.bench.table import Figures
from tests.support.node_js import missing, packages

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = 3
EVENTS = 20
SOCKETS = 1_000, 5_000
RUN_SECONDS = 240
FOLDER = Path(__file__).parent / "fanout"
OURS, REFERENCE, MERCURIUS = "jobs-gateway", "graphql-ws", "Mercurius"
BEFORE = "jobs-gateway of --before"

CREATE = 'mutation { createHierarchy(input: {name: "Garden"}) { hierarchy { id } } }'
DUPLICATE = 'mutation {{ duplicateHierarchy(input: {{hierarchyId: "{}"}}) {{ job {{ id }} }} }}'


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the peers' scripts to a folder with their packages, which are installed once."""
    if missing():
        pytest.skip(f"missing: {', '.join(missing())}")
    folder = tmp_path_factory.mktemp("fanout")
    for script in FOLDER.glob("*.js"):
        shutil.copy(script, folder)
    shutil.copy(FOLDER / "package.json", folder)
    (folder / "node_modules").symlink_to(packages(FOLDER))
    return folder


@contextmanager
def many_files() -> Iterator[None]:
    """Raise the limit of open files to its maximum, also for processes started in the block."""
    before, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (maximum, maximum))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, maximum))


def measure(server: Server, sockets: int, path: str, body: str) -> FanoutResult:
    """Run the client against a server."""
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
    return FanoutResult(**json.loads(ran.stdout))


def gateway(name: str, code: Path, folder: Path, sockets: int) -> FanoutResult:
    """Measure a version of the gateway: each event is the creation of a job that stays pending."""
    environment = {
        "JOBS_GATEWAY_MAX_STREAMS_PER_CLIENT": str(sockets + 1),
        "JOBS_GATEWAY_MAX_REQUESTS_PER_SECOND": "0",
    }
    path = Path(tempfile.mkdtemp(dir=folder)) / "gateway.db"
    with served(name, GATEWAY, path, code, **environment) as server:
        answer = httpx.post(server.url, json={"query": CREATE}).json()
        id = answer["data"]["createHierarchy"]["hierarchy"]["id"]
        body = json.dumps({"query": DUPLICATE.format(id)})
        return measure(server, sockets, "/graphql", body)


def theirs(name: str, script: str, scripts: Path, folder: Path, sockets: int) -> FanoutResult:
    """Measure a peer, whose own publisher creates the events."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "none.db"
    with served(name, ("node", script), path, scripts) as server:
        return measure(server, sockets, "/publish", "{}")


def ratio(rounds: Mapping[str, Sequence[FanoutResult]], name: str, figure: str) -> float:
    """Return the median of the rounds' ratios of this gateway's figure to another server's."""
    pairs = zip(rounds[OURS], rounds[name], strict=True)
    middle: float = median(getattr(our, figure) / getattr(other, figure) for our, other in pairs)
    return middle


@pytest.mark.parametrize("sockets", SOCKETS)
def test_fanout(
    sockets: int, scripts: Path, tmp_path: Path, figures: Figures, before: Path | None
) -> None:
    gateways = {OURS: PROJECT, **({BEFORE: before} if before else {})}
    rounds: dict[str, list[FanoutResult]] = {name: [] for name in (*gateways, REFERENCE, MERCURIUS)}
    with many_files():
        for _ in range(ROUNDS):
            for name, code in gateways.items():
                rounds[name].append(gateway(name, code, tmp_path, sockets))
            for name, script in ((REFERENCE, "graphql_ws.js"), (MERCURIUS, "mercurius.js")):
                rounds[name].append(theirs(name, script, scripts, tmp_path, sockets))

    figures.add(f"one event to {sockets:,} sockets, medians of {ROUNDS} rounds", "")
    for name, results in rounds.items():
        assert all(result.messages == sockets * EVENTS for result in results)
        figures.add(
            f"  {name}",
            f"CPU {median(result.cpu_us for result in results):.0f} µs per message, "
            f"latency p50 {median(result.p50 for result in results) * 1000:.0f} ms, "
            f"p99 {median(result.p99 for result in results) * 1000:.0f} ms, "
            f"{median(result.idle_kib for result in results):.0f} KiB per idle subscriber; "
            f"client CPU {median(result.client_cpu_us for result in results):.0f} µs per message",
        )
    if before:
        cpu = ratio(rounds, BEFORE, "cpu_us")
        figures.add(f"  CPU per message, ratio to {BEFORE}", f"{cpu:.2f}")
    cpu, p99 = ratio(rounds, REFERENCE, "cpu_us"), ratio(rounds, REFERENCE, "p99")
    idle = median(result.idle_kib for result in rounds[OURS])
    if sockets == max(SOCKETS):
        figures.add_goal(f"  CPU per message, ratio to {REFERENCE}", cpu, 0.5, "{:.2f}")
        figures.add_goal(f"  latency p99, ratio to {REFERENCE}", p99, 1, "{:.2f}")
        figures.add_goal("  memory per idle subscriber", idle, 30, "{:.0f} KiB")
    else:
        figures.add(f"  CPU and latency p99, ratios to {REFERENCE}", f"{cpu:.2f}, {p99:.2f}")
