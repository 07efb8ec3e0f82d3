"""Requests per second and latency of a server."""

import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.bench.documents import CATALOGUE, ENQUEUE, HIERARCHIES, JOB, LOCALES, TREE
from tests.bench.load import CLIENT, load
from tests.bench.table import Figures
from tests.support.processes import LiveServer, start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

SECONDS = 5
CONNECTIONS = 1, 16


@dataclass(frozen=True)
class Shop:
    """A server without a runner, on a database with 50 hierarchies."""

    server: LiveServer
    path: Path
    hierarchy_id: str


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    path = tmp_path / "shop.db"
    database = open_database(Settings(database_url=f"sqlite:///{path}"))
    for i in range(49):
        await factories.hierarchy(database, {"A": {}}, name=f"Catalogue {i}", locales=LOCALES)
    id = await factories.hierarchy(database, CATALOGUE, name="Departments", locales=LOCALES)
    database.close()
    server = start_server(f"sqlite:///{path}", "--no-runner")
    yield Shop(server, path, str(id))
    assert server.stop() == 0


async def test_reads(shop: Shop, tmp_path: Path, figures: Figures) -> None:
    id = shop.hierarchy_id
    job = shop.server.post(ENQUEUE, id=id)["duplicateHierarchy"]["job"]
    listed = shop.server.post(HIERARCHIES)["hierarchies"]["nodes"]
    assert len(listed) == 50
    assert all(len(hierarchy["localizations"]) == 2 for hierarchy in listed)
    departments = shop.server.post(TREE, id=id)["hierarchy"]["children"]["nodes"]
    assert [len(department["children"]["nodes"]) for department in departments] == [10] * 20

    figures.add(f"requests, sent by {CLIENT}", "")
    for name, query, variable in (
        ("50 hierarchies with translations", HIERARCHIES, ""),
        ("one job by id", JOB, job["id"]),
        ("a tree of 20 x 10", TREE, id),
    ):
        _measure(shop.server, name, query, variable, tmp_path, figures)


async def test_enqueueing(shop: Shop, tmp_path: Path, figures: Figures) -> None:
    requests = _measure(
        shop.server, "duplicateHierarchy", ENQUEUE, shop.hierarchy_id, tmp_path, figures
    )
    connection = sqlite3.connect(shop.path)
    try:
        queued = connection.execute("SELECT count(*) FROM job").fetchone()[0]
    finally:
        connection.close()
    assert queued >= requests


def _measure(
    server: LiveServer, name: str, query: str, id: str, folder: Path, figures: Figures
) -> int:
    body = json.dumps({"query": query, "variables": {"id": id}})
    total = 0
    for connections in CONNECTIONS:
        result = load(f"{server.url}/graphql", body, connections, SECONDS, folder)
        total += result.requests
        figures.add(f"  {name}, connections: {connections}", str(result))
    return total
