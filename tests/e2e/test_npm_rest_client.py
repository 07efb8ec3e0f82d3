"""The npm client @elasticpath/js-sdk, made for the REST API of the reference documents, against a
gateway with and without tokens. The scripts in tests/e2e/node print a line per passed part."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.support import node_js
from tests.support.node_js import GUARDED, OPEN, tokens
from tests.support.processes import LiveServer, start_server

pytestmark = pytest.mark.npm

AUTHORING = [
    "hierarchies, page by page",
    "hierarchies, along the links of their pages",
    "filters",
    "a hierarchy",
    "nodes",
    "children",
    "a new hierarchy",
    "new nodes below one another",
    "other names",
    "a broken rule",
    "moves",
    "products",
    "a duplication",
    "its job, up to the success",
    "jobs, page by page",
    "the copy, by the job's hierarchy_id",
    "404 for a deleted hierarchy",
]
WAITING = [
    "the errors of a failed job",
    "pending jobs",
    "a cancelled job",
    "only a pending job is cancelled, and only once",
    "404 for an unknown job",
    "jobs, page by page",
]
REFUSED = "401 without a valid token"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> node_js.Scripts:
    return node_js.Scripts(tmp_path_factory.mktemp("node"))


@contextmanager
def serving(
    database_url: str, *arguments: str, environment: Mapping[str, str]
) -> Iterator[LiveServer]:
    server = start_server(database_url, *arguments, **environment)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [(OPEN, AUTHORING), (GUARDED, [*AUTHORING, REFUSED])],
    ids=["open", "guarded"],
)
def test_a_published_client_authors_a_hierarchy_and_follows_its_duplication(
    environment: Mapping[str, str], expected: list[str], scripts: node_js.Scripts, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/rest.db"
    with serving(url, "--demo", environment=environment) as server:
        server.wait_for("SUCCEEDED")
        ran = scripts.run("rest_client.mjs", server.url, *tokens(environment))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines() == expected


@pytest.mark.parametrize("environment", [OPEN, GUARDED], ids=["open", "guarded"])
async def test_a_published_client_cancels_a_pending_job_and_reads_the_errors_of_a_failed_one(
    environment: Mapping[str, str], scripts: node_js.Scripts, database_url: str
) -> None:
    with closing(open_database(Settings(database_url=database_url))) as database:
        source = await factories.hierarchy(database, {"a": {}})
        await factories.pending_duplication(database, source)
        await factories.deleted(database, source)
        await factories.ran_job(database)
    with serving(database_url, "--no-runner", environment=environment) as server:
        ran = scripts.run("rest_queue.mjs", server.url, *tokens(environment))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines() == WAITING
