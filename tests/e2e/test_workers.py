"""Gateway and worker processes on one PostgreSQL database."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from time import monotonic

import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.support.databases import NewDatabase
from tests.support.large_hierarchy import large_hierarchy
from tests.support.processes import LiveProcess, start_server, start_worker
from tests.support.subscriber import JOB_EVENTS, JOB_UPDATES, LOGGED, Event, subscriber

pytestmark = pytest.mark.process

# A copy of these takes some seconds, so that a stop in the middle leaves it unfinished.
NODES = 20_000
PRODUCTS_PER_NODE = 30

LEASE_SECONDS = 30
"""The default lease."""

STORY = ["CREATED", "STARTED", "SUCCEEDED"]

DUPLICATE = """
mutation($id: ID!, $name: String) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name, includeProducts: true}) { job { id } }
}
"""


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    """PostgreSQL alone: a SQLite file has one runner."""
    return new_database("postgresql")


@contextmanager
def stopping(*processes: LiveProcess) -> Iterator[None]:
    """Stop processes at the end of the block that still run."""
    with ExitStack() as stack:
        for process in processes:
            stack.callback(_stop, process)
        yield


def _stop(process: LiveProcess) -> None:
    if process.process.poll() is None:
        process.stop()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_worker_releases_its_copy_to_another_at_once(
    sign: signal.Signals, database_url: str, report: Callable[[str], None]
) -> None:
    with closing(open_database(Settings(database_url=database_url))) as database:
        source = await large_hierarchy(database, NODES, PRODUCTS_PER_NODE)
    gateway = start_server(database_url, "--no-runner")
    first = start_worker(database_url)
    with stopping(gateway, first):
        job_id = gateway.post(DUPLICATE, id=str(source))["duplicateHierarchy"]["job"]["id"]
        async with subscriber(gateway.url) as connected:
            updates = await connected.subscribe(JOB_UPDATES, id=job_id)
            events: list[Event] = []
            while not events or not (events[-1]["job"]["progress"] or {}).get("completed"):
                events.append(await anext(updates))
            second = start_worker(database_url)
            with stopping(second):
                signalled = monotonic()
                assert first.stop(sign) == 0
                ended = monotonic() - signalled
                events += await updates.rest()
                took = monotonic() - signalled
    completed = [
        event["job"]["progress"]["completed"] for event in events if event["job"]["progress"]
    ]
    assert completed == sorted(completed)
    assert events[-1]["type"] == "SUCCEEDED"
    assert completed[-1] == NODES * (1 + PRODUCTS_PER_NODE)
    assert took < LEASE_SECONDS
    report(f"exited {ended:.2f} s after {sign.name}; another worker was done after {took:.2f} s")


async def test_a_subscription_at_any_gateway_receives_the_events_of_all_jobs(
    database_url: str, report: Callable[[str], None]
) -> None:
    with closing(open_database(Settings(database_url=database_url))) as database:
        source = await factories.hierarchy(database, {"a": {}})
    first = start_server(database_url, "--no-runner")
    second = start_server(database_url, "--no-runner")
    worker = start_worker(database_url)
    with stopping(first, second, worker):
        async with subscriber(second.url) as connected:
            events = await connected.subscribe(JOB_EVENTS)
            began = monotonic()
            for number in range(10):
                first.post(DUPLICATE, id=str(source), name=f"copy {number}")
                types = []
                while "SUCCEEDED" not in types:
                    types.append((await anext(events))["type"])
                assert [type for type in types if type in LOGGED] == STORY
            seconds = (monotonic() - began) / 10
            report(f"from the request of a job to its last event {seconds:.3f} s on average")


async def test_a_worker_for_some_stores_runs_no_jobs_of_others(database_url: str) -> None:
    with closing(open_database(Settings(database_url=database_url))) as database:
        for store in ("north", "south"):
            source = await factories.hierarchy(database, {"a": {}}, store=store)
            await factories.pending_duplication(database, source, store=store)
    north, south = (
        start_server(database_url, "--no-runner", "--store", s) for s in ("north", "south")
    )
    with stopping(north, south), stopping(start_worker(database_url, "--stores", "south, west")):
        async with subscriber(south.url) as connected:
            jobs = south.post("{ jobs { nodes { id } } }")["jobs"]["nodes"]
            events = await (await connected.subscribe(JOB_UPDATES, id=jobs[0]["id"])).rest()
            assert events[-1]["job"]["status"] == "SUCCESS"
        (left,) = north.post("{ jobs { nodes { status } } }")["jobs"]["nodes"]
        assert left["status"] == "PENDING"


def test_a_worker_refuses_a_sqlite_file_that_has_a_runner(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/taken.db"
    with stopping(start_worker(url)):
        refused = subprocess.run(
            [sys.executable, "-m", "app", "worker"],
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "already runs the queue" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
