"""The disk fills up during a copy: the job fails with the reason, and its rows are never visible
and are swept. The store's next job then runs on the same disk without intervention.

On SQLite this is repeated, to check that the reserved space is available again. PostgreSQL reserves
nothing: its failures may have to wait for free space.

The disk is a small tmpfs. It holds the SQLite database, or a PostgreSQL tablespace with the whole
database; the server's other files and its WAL are elsewhere. Mounting needs root: without it the
test runs as root in a user namespace.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from app.domain.jobs import JobStatus
from app.settings import Settings
from app.storage.engine.connect import connect
from app.storage.engine.transaction import Transaction
from app.wiring import migrate
from tests import factories
from tests.oracles.history import history_of
from tests.support import postgres
from tests.support.databases import DATABASES
from tests.support.entities import read_transaction
from tests.support.processes import LiveServer, start_server
from tests.support.subscriber import JOB_UPDATES, subscriber

pytestmark = pytest.mark.fault

NODES = 40_000
NAME = "a name that takes room " * 22
"""With this name a copy takes about 25 MiB, on SQLite temporarily up to 4 MiB more."""

SMALL = 30
ROOM = 24 * 2**20
"""Free space at the start: less than a copy takes, and more than the reserve for failures."""

LARGE = 256 * 2**20
ROUNDS = 2
FULL = 64 * 1024
A_LITTLE = 2**20

LOOK_EVERY_SECONDS = 0.05
SWEPT_WITHIN_SECONDS = 20
ENDED_WITHIN_SECONDS = 20

SENTENCES = {"sqlite": "The disk is full", "postgresql": "The database server's disk is full"}
REAL_ROOT = "TEST_HAS_ROOT"

GROW = """
INSERT INTO node (
    hierarchy_pk, node_no, parent_no, depth, name, touched, locales, created_at, updated_at
)
WITH RECURSIVE numbers(no) AS (
    SELECT 1 UNION ALL SELECT no + 1 FROM numbers WHERE no < :nodes
)
SELECT pk, no, 0, 1, :name || no, -no, '{}', created_at, updated_at
FROM numbers, hierarchy WHERE name = 'Large'
"""
COUNT = "UPDATE hierarchy SET node_count = :nodes WHERE name = 'Large'"
HIDDEN_HIERARCHIES = "SELECT count(*) FROM hierarchy WHERE upper(state) <> 'READY'"
ROWS = "SELECT count(*) FROM node"

DUPLICATE = """
mutation($id: ID!, $name: String!) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name}) { job { id } }
}
"""
JOB = """
query($id: ID!) {
  job(id: $id) {
    status
    progress { completed total }
    duplication { result { nodeCount } }
    errors(first: 5) { nodes { code message } }
  }
}
"""
VISIBLE = "{ hierarchies(first: 100) { nodes { name nodeCount } } }"


@pytest.fixture(autouse=True)
def root(request: pytest.FixtureRequest) -> None:
    """Without root, run the test in a user namespace, and skip it here if it passes."""
    if os.getuid() == 0:
        return
    assert REAL_ROOT not in os.environ, "the user namespace has no root"
    namespace = ("unshare", "-Urm")
    allowed = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"mounting takes root or a user namespace: {allowed.stderr.strip()}")
    test = f"{request.path}::{request.node.name}"
    ran = subprocess.run(
        [*namespace, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", test],
        env={**os.environ, REAL_ROOT: "no"},
        capture_output=True,
        text=True,
        check=False,
        cwd=request.config.rootpath,
    )
    assert ran.returncode == 0, ran.stdout
    if "1 passed" not in ran.stdout:
        pytest.skip(f"did not run in a user namespace either: {ran.stdout[-500:]}")
    pytest.skip("passed in a user namespace, as root")


class Disk:
    """A file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def free(self) -> int:
        """Free bytes."""
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize

    def leave(self, room: int) -> None:
        """Resize the disk so that `room` bytes are free."""
        _mount(self.path, self._size - self.free + room, "remount,")

    def grow(self, by: int) -> None:
        """Enlarge the disk by `by` bytes."""
        _mount(self.path, self._size + by, "remount,")

    @property
    def _size(self) -> int:
        room = os.statvfs(self.path)
        return room.f_blocks * room.f_frsize


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk that is still large."""
    # Outside pytest's folders: a database server as an unprivileged user cannot enter them.
    path = Path(tempfile.mkdtemp(prefix="disk-"))
    try:
        try:
            _mount(path, LARGE)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"mounting is not allowed here: {error.stderr.strip()}")
        try:
            yield Disk(path)
        finally:
            # Lazily: files that a failed test left open must not prevent it.
            subprocess.run(["umount", "--lazy", path], check=True)
    finally:
        path.rmdir()


def _mount(path: Path, size: int, how: str = "") -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{how}size={size}", "tmpfs", path],
        capture_output=True,
        text=True,
        check=True,
    )


@contextmanager
def database_on(disk: Disk, kind: str) -> Iterator[str]:
    """Yield the URL of a new database on this disk."""
    if kind == "sqlite":
        yield f"sqlite:///{disk.path}/test.db"
        return
    with postgres.cluster() as cluster:
        try:
            with psycopg.connect(postgres.plain(cluster.server_url), autocommit=True) as connection:
                # The disk must belong to the server's user.
                (data,) = connection.execute("SHOW data_directory").fetchone() or ()
                server = Path(data).stat()
                os.chown(disk.path, server.st_uid, server.st_gid)
                connection.execute(
                    sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(disk.path))
                )
                # FILE_COPY: a copy through the server's memory would take disk space only later.
                connection.execute(
                    "CREATE DATABASE full_disk TEMPLATE template0 TABLESPACE small"
                    " STRATEGY FILE_COPY"
                )
            yield postgres.renamed(cluster.server_url, "full_disk")
        finally:
            disk.leave(LARGE // 2)


async def filled(url: str) -> tuple[UUID, UUID]:
    """Create a large and a small hierarchy in a new database. Return their ids."""
    migrate(Settings(database_url=url), check=False)
    with closing(connect(url)) as database:
        large = await factories.hierarchy(database, {}, name="Large")
        small = await factories.hierarchy(database, factories.wide_tree(SMALL), name="Small")

        def grow(tx: Transaction) -> None:
            tx.connection.execute(sa.text(GROW), {"nodes": NODES, "name": NAME})
            tx.connection.execute(sa.text(COUNT), {"nodes": NODES})

        await database.write(grow)
    return large, small


async def ended(server: LiveServer, disk: Disk, source: UUID, name: str) -> dict[str, Any]:
    """Duplicate a hierarchy and return the job once it has ended, in any way.

    On SQLite the reserve has space for that. On PostgreSQL the disk is enlarged while it is full.
    """
    answer = server.post(DUPLICATE, id=str(source), name=name)
    id = answer["duplicateHierarchy"]["job"]["id"]
    async with asyncio.timeout(ENDED_WITHIN_SECONDS), subscriber(server.url) as connected:
        end = asyncio.create_task((await connected.subscribe(JOB_UPDATES, id=id)).rest())
        while server.database_url.startswith("postgresql") and not end.done():
            if disk.free < FULL:
                disk.grow(A_LITTLE)
            await asyncio.to_thread(let_run, server)
        await end
    job: dict[str, Any] = server.post(JOB, id=id)["job"]
    return job


def seen(server: LiveServer) -> list[tuple[str, int]]:
    """Return the visible hierarchies, sorted by name, with their numbers of nodes."""
    nodes = server.post(VISIBLE)["hierarchies"]["nodes"]
    return sorted((node["name"], node["nodeCount"]) for node in nodes)


def number(url: str, query: str) -> int:
    """Run a query for one number."""
    with (
        closing(connect(url)) as database,
        read_transaction(database) as tx,
    ):
        [(number,)] = tx.rows(sa.text(query))
        return int(number)


def wait_for_the_sweep(server: LiveServer) -> float:
    """Wait until the database has no hidden hierarchy. Return the seconds."""
    began = monotonic()
    while number(server.database_url, HIDDEN_HIERARCHIES):
        assert monotonic() - began < SWEPT_WITHIN_SECONDS, "a hidden hierarchy was not swept"
        let_run(server)
    return monotonic() - began


def let_run(server: LiveServer) -> None:
    """Wait for a moment in which the server must not exit."""
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(timeout=LOOK_EVERY_SECONDS)


@pytest.mark.parametrize("kind", DATABASES)
async def test_a_copy_that_fills_the_disk_fails_and_the_queue_continues(
    kind: str, disk: Disk, report: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with database_on(disk, kind) as url:
        large, small = await filled(url)
        disk.leave(ROOM)
        server = start_server(url, JOBS_GATEWAY_LEASE_SECONDS="1")
        visible = [("Large", NODES), ("Small", SMALL)]
        # On PostgreSQL swept rows free space only after a vacuum.
        rounds = ROUNDS if kind == "sqlite" else 1
        for round in range(rounds):
            copied = f"Small {round}"

            failed = await ended(server, disk, large, "Too large")
            assert failed["status"] == "FAILED"
            (error,) = failed["errors"]["nodes"]
            assert error["code"] == "STORAGE_FULL"
            assert error["message"].startswith(SENTENCES[kind])
            assert failed["duplication"] == {"result": None}
            assert 0 < failed["progress"]["completed"] < NODES
            assert seen(server) == sorted(visible)

            swept = wait_for_the_sweep(server)
            assert number(url, ROWS) == sum(nodes for _, nodes in visible)

            succeeded = await ended(server, disk, small, copied)
            assert succeeded["status"] == "SUCCESS", succeeded
            visible.append((copied, SMALL))
            assert seen(server) == sorted(visible)
            report(
                f"{failed['progress']['completed']} of {NODES} nodes copied, swept"
                f" {swept:.1f} s later; {disk.free / 2**20:.1f} MiB free"
            )
        assert server.stop() == 0
        history = history_of(url)
    assert "Traceback" not in capfd.readouterr().err
    assert history.faults == {}
    assert history.statuses == {JobStatus.FAILED: rounds, JobStatus.SUCCESS: rounds}
