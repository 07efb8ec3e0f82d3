"""Copies of a large hierarchy, by a gateway process or by plain SQL."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from app.settings import Settings
from app.storage.engine.connect import connect
from app.wiring import open_database
from tests.support.large_hierarchy import large_hierarchy
from tests.support.processes import LiveServer, start_server

ENQUEUE = """mutation($id: ID!) {
    duplicateHierarchy(input: {hierarchyId: $id, includeProducts: true}) { job { id } }
}"""
CANCEL = """mutation($id: ID!) {
    cancelJob(input: {jobId: $id}) { job { status } errors { __typename } }
}"""
JOB = """query($id: ID!) {
    job(id: $id) { status startedAt completedAt duplication { result { nodeCount } } }
}"""
UPDATES = "subscription($id: ID!) { jobUpdates(id: $id) { cursor } }"
TABLES = "node", "node_product", "product_node"


@dataclass
class Copied:
    """The figures of a copy by a gateway."""

    seconds: float
    peak_mib: float
    """Peak memory of the server, in MiB."""
    cancel_seconds: list[float] = field(default_factory=list)
    """Duration of each cancelJob sent during the copy."""


@dataclass(frozen=True)
class Source:
    """A database file with a hierarchy to copy."""

    path: Path
    id: UUID
    nodes: int
    products_per_node: int

    @property
    def rows(self) -> int:
        """Number of rows that a copy writes."""
        return self.nodes * (1 + 2 * self.products_per_node)

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Yield an unchanged copy of the file that no process has open."""
        path = self.path.with_name("fresh.db")
        shutil.copyfile(self.path, path)
        # Pending writes of the operating system would slow down the measured copy.
        os.sync()
        try:
            yield path
        finally:
            for left in path.parent.glob(f"{path.name}*"):
                left.unlink()


async def source(folder: Path, nodes: int, products_per_node: int) -> Source:
    """Create a database file with a hierarchy of this size."""
    path = folder / f"{nodes}.db"
    database = open_database(Settings(database_url=f"sqlite:///{path}"))
    try:
        id = await large_hierarchy(database, nodes, products_per_node)
    finally:
        database.close()
    return Source(path, id, nodes, products_per_node)


def raw_copy(source: Source) -> float:
    """Copy the rows by one INSERT ... SELECT per table, on the gateway's kind of connection.

    Return the seconds.
    """
    with source.fresh() as path:
        database = connect(f"sqlite:///{path}")
        try:
            pooled = database.write_engine.raw_connection()
            connection = pooled.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            begun = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            columns = [row[1] for row in connection.execute("PRAGMA table_info(hierarchy)")]
            copied = ", ".join(name for name in columns if name not in ("pk", "id"))
            connection.execute(
                f"INSERT INTO hierarchy (pk, id, {copied}) SELECT 2, hex(randomblob(16)), {copied}"
                " FROM hierarchy"
            )
            rows = 0
            for table in TABLES:
                columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")][1:]
                copied = ", ".join(columns)
                rows += connection.execute(
                    f"INSERT INTO {table} (hierarchy_pk, {copied}) SELECT 2, {copied}"
                    f" FROM {table} WHERE hierarchy_pk = 1"
                ).rowcount
            connection.execute("COMMIT")
            seconds = time.perf_counter() - begun
            assert rows == source.rows
            pooled.close()
            return seconds
        finally:
            database.close()


async def gateway_copy(source: Source, *, cancelling: bool = False) -> Copied:
    """Copy through the queue of a gateway; if `cancelling`, a client enqueues and cancels other
    duplications without a pause during the copy."""
    with source.fresh() as path:
        server = start_server(f"sqlite:///{path}")
        try:
            copied = await _through_queue(server, source, cancelling)
        finally:
            assert server.stop() == 0
        _check(path, source)
        return copied


async def _through_queue(server: LiveServer, source: Source, cancelling: bool) -> Copied:
    cancel_seconds: list[float] = []
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=60) as http,
        anyio.create_task_group() as group,
    ):
        job_id = (await _post(http, ENQUEUE, source.id))["duplicateHierarchy"]["job"]["id"]
        if cancelling:
            group.start_soon(_cancel_on_end, http, source.id, cancel_seconds)
        await _end_of(server, job_id)
        group.cancel_scope.cancel()
    job = server.post(JOB, id=job_id)["job"]
    assert job["status"] == "SUCCESS"
    assert job["duplication"]["result"]["nodeCount"] == source.nodes
    took = datetime.fromisoformat(job["completedAt"]) - datetime.fromisoformat(job["startedAt"])
    return Copied(took.total_seconds(), _peak_mib(server.process.pid), cancel_seconds)


async def _end_of(server: LiveServer, job_id: str) -> None:
    transport = WebsocketsTransport(
        server.url.replace("http", "ws", 1) + "/graphql",
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )
    updates = gql(UPDATES)
    updates.variable_values = {"id": job_id}
    async with Client(transport=transport) as client:
        async for _ in client.subscribe(updates):
            pass  # The server completes the stream after the job's last event.


async def _cancel_on_end(
    http: httpx.AsyncClient, source_id: UUID, cancel_seconds: list[float]
) -> None:
    warm = False  # The first request of a process also compiles statements: about 100 ms, once.
    while True:
        job_id = (await _post(http, ENQUEUE, source_id))["duplicateHierarchy"]["job"]["id"]
        begun = time.perf_counter()
        cancelled = (await _post(http, CANCEL, job_id))["cancelJob"]
        took = time.perf_counter() - begun
        if cancelled["job"]["status"] != "CANCELLED":
            return  # The copy has ended, and the next job began before it could be cancelled.
        if warm:
            cancel_seconds.append(took)
        warm = True


async def _post(http: httpx.AsyncClient, query: str, id: object) -> dict[str, Any]:
    response = await http.post("/graphql", json={"query": query, "variables": {"id": str(id)}})
    data: dict[str, Any] = response.json()["data"]
    return data


def _check(path: Path, source: Source) -> None:
    """Check that the file has the rows twice, or slightly more if the next copy has started."""
    connection = sqlite3.connect(path)
    try:
        rows = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
        ]
    finally:
        connection.close()
    assert sum(rows) >= 2 * source.rows


def _peak_mib(pid: int) -> float:
    # The kernel's high-water mark misses no peak; samples would.
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")
