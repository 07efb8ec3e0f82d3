"""Stops of a server, and reasons for not starting."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest
from websockets.exceptions import ConnectionClosed

from app.api.graphql.types.events import EVENTS
from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.support.large_hierarchy import large_hierarchy
from tests.support.processes import LiveServer, start_server
from tests.support.subscriber import (
    JOB_EVENTS,
    JOB_UPDATES,
    LOGGED,
    Event,
    Subscription,
    subscriber,
)

pytestmark = pytest.mark.process

# A copy of these takes some seconds, so that a stop in the middle leaves it unfinished.
NODES = 20_000
PRODUCTS_PER_NODE = 30

STOPPED_WITHIN_SECONDS = 5
"""Far more than the promised second, for machines under load."""

DUPLICATE = """
mutation($id: ID!) { duplicateHierarchy(input: {hierarchyId: $id}) { job { id } } }
"""


@pytest.fixture(scope="module")
def big_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a pending copy of a large hierarchy."""
    path = tmp_path_factory.mktemp("big") / "big.db"

    async def fill() -> None:
        database = open_database(Settings(database_url=f"sqlite:///{path}"))
        source = await large_hierarchy(database, NODES, PRODUCTS_PER_NODE)
        await factories.pending_duplication(database, source, include_products=True)
        database.close()

    anyio.run(fill)
    return path


@contextmanager
def serving(database_url: str, *arguments: str) -> Iterator[LiveServer]:
    """Run a server during the block, unless the block stops it."""
    server = start_server(database_url, *arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def refused_serve(*arguments: str, **environment: str) -> tuple[int, list[str]]:
    """Run a server that does not start. Return its exit code and the lines of standard error."""
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.splitlines()


def the_job(path: Path) -> dict[str, Any]:
    """Read the only job of a file, with the keys of its unfinished and finished copy."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        file.row_factory = sqlite3.Row
        return dict(
            file.execute(
                "SELECT job.*, checkpoint ->> 'copy_pk' AS copy_pk, hierarchy.pk AS result_pk"
                " FROM job LEFT JOIN hierarchy ON hierarchy.id = job.result_id"
            ).fetchone()
        )


async def closed_with(subscription: Subscription) -> int:
    """Read a subscription to its end. Return the close code of the socket."""
    with pytest.raises(ConnectionClosed) as closed:
        await subscription.rest()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 0)],
    ids=["SIGINT", "SIGTERM"],
)
async def test_a_stopped_server_closes_its_sockets_and_the_next_one_continues_its_copy(
    number: signal.Signals,
    code: int,
    big_copy: Path,
    tmp_path: Path,
    report: Callable[[str], None],
) -> None:
    path = Path(shutil.copy(big_copy, tmp_path))
    url = f"sqlite:///{path}"
    server = start_server(url)
    job_id = server.post("{ jobs { nodes { id } } }")["jobs"]["nodes"][0]["id"]

    async with subscriber(server.url) as first, subscriber(server.url) as second:
        updates = await first.subscribe(JOB_UPDATES, id=job_id)
        events = await second.subscribe(JOB_EVENTS)
        event = await anext(updates)
        while not (event["job"]["progress"] or {}).get("completed"):
            event = await anext(updates)
        server.process.send_signal(number)
        signalled = monotonic()
        assert {await closed_with(updates), await closed_with(events)} == {1012}
    assert server.process.wait(timeout=30) == code
    took = monotonic() - signalled
    report(f"exited {took:.2f} s after {number.name}")
    assert took < STOPPED_WITHIN_SECONDS

    left = the_job(path)
    assert left["status"] == "started"
    assert left["completed_items"] >= event["job"]["progress"]["completed"]
    assert left["completed_items"] < left["total_items"]

    with serving(url) as restarted:
        async with subscriber(restarted.url) as connected:
            rest: list[Event] = await (await connected.subscribe(JOB_UPDATES, id=job_id)).rest()
            beginning = await connected.subscribe(JOB_EVENTS, after=EVENTS.encode((0,)))
            log = [event["type"] for event in await beginning.take(3)]
    completed = [event["job"]["progress"]["completed"] for event in rest]
    assert completed[0] >= left["completed_items"]
    assert completed == sorted(completed)
    assert [event["type"] for event in rest if event["type"] in LOGGED] == ["SUCCEEDED"]
    assert log == ["CREATED", "STARTED", "SUCCEEDED"]
    done = the_job(path)
    assert done["status"] == "success"
    assert done["result_pk"] == left["copy_pk"]
    assert done["completed_items"] == NODES * (1 + PRODUCTS_PER_NODE)


async def test_a_file_has_one_runner_and_any_number_of_servers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    with serving(url, "--demo") as runner:
        code, lines = refused_serve("--port", "0", DATABASE_URL=url)
        assert code == 1
        assert len(lines) == 1
        assert "already runs the queue" in lines[0]
        assert "--no-runner" in lines[0]

        with serving(url, "--no-runner") as second:
            hierarchies = second.post("{ hierarchies { nodes { id } } }")["hierarchies"]["nodes"]
            requested = second.post(DUPLICATE, id=hierarchies[0]["id"])["duplicateHierarchy"]
            async with subscriber(second.url) as connected:
                updates = await connected.subscribe(JOB_UPDATES, id=requested["job"]["id"])
                events = await updates.rest()
        assert events[-1]["job"]["status"] == "SUCCESS"
        assert runner.process.poll() is None


def test_a_public_host_is_refused_without_insecure(tmp_path: Path) -> None:
    code, lines = refused_serve(
        "--host", "0.0.0.0", "--port", "0", DATABASE_URL=f"sqlite:///{tmp_path}/new.db"
    )

    assert code == 2
    assert len(lines) == 1
    assert "--insecure" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = refused_serve(
            "--port", str(port), DATABASE_URL=f"sqlite:///{tmp_path}/new.db"
        )

    assert code == 1
    assert len(lines) == 1
    assert f"127.0.0.1:{port}" in lines[0]
    assert "in use" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_all_invalid_settings_are_named_at_once(tmp_path: Path) -> None:
    code, lines = refused_serve(
        DATABASE_URL=f"sqlite:///{tmp_path}/new.db",
        JOBS_GATEWAY_PORT="abc",
        JOBS_GATEWAY_CONCURRENCY="0",
    )

    assert code == 2
    assert len(lines) == 2
    assert "port" in lines[0].lower()
    assert "'abc'" in lines[0]
    assert "concurrency" in lines[1].lower()
    assert "'0'" in lines[1]
    assert list(tmp_path.iterdir()) == []
