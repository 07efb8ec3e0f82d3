"""The npm client @elasticpath/js-sdk, made for the REST API of the reference documents, in its
normal set-up, in which it logs in by itself, against a gateway with and without authentication.

The scripts in tests/e2e/node print a line per passed part."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.support import node_js
from tests.support.node_js import GUARDED
from tests.support.processes import LiveServer, start_server
from tests.support.registered_clients import added

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
PRODUCTS = [
    "products of a filter, attached to nodes",
    "the nodes of a product",
    "nodes by their ids",
    "curated products",
    "products of a filter, detached",
]
REFUSED = "401 without a valid token"
LOGINS = [
    "a login",
    "logins with the first requests",
    "a login after the token expired",
    "the headers of its options",
]
GUARDED_LOGINS = [
    *LOGINS[:3],
    "a login after 401",
    "401 with wrong credentials",
    "an implicit login, for reading",
    *LOGINS[3:],
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> node_js.Scripts:
    return node_js.Scripts(tmp_path_factory.mktemp("node"))


@dataclass(frozen=True)
class Access:
    """The authentication of a gateway, and the credentials of its client."""

    environment: Mapping[str, str]
    credentials: Sequence[str]

    @property
    def guarded(self) -> bool:
        return bool(self.environment)


@pytest.fixture(params=["open", "guarded"])
def access(request: pytest.FixtureRequest, tmp_path: Path) -> Access:
    """A gateway without authentication, and one with two clients."""
    if request.param == "open":
        return Access({}, [])
    path = tmp_path / "clients.json"
    added(path, "web", "--implicit")
    environment = {**GUARDED, "JOBS_GATEWAY_CLIENTS": str(path)}
    return Access(environment, added(path, "shop"))


@contextmanager
def serving(database_url: str, *arguments: str, access: Access) -> Iterator[LiveServer]:
    server = start_server(database_url, *arguments, **access.environment)
    try:
        yield server
    finally:
        server.stop()


def test_a_published_client_logs_in_with_its_id_and_secret(
    access: Access, scripts: node_js.Scripts, tmp_path: Path
) -> None:
    with serving(f"sqlite:///{tmp_path}/rest.db", access=access) as server:
        ran = scripts.run("rest_login.mjs", server.url, *access.credentials)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines() == (GUARDED_LOGINS if access.guarded else LOGINS)


def test_a_published_client_authors_a_hierarchy_and_follows_its_duplication(
    access: Access, scripts: node_js.Scripts, tmp_path: Path
) -> None:
    with serving(f"sqlite:///{tmp_path}/rest.db", "--demo", access=access) as server:
        server.wait_for("SUCCEEDED")
        ran = scripts.run("rest_client.mjs", server.url, *access.credentials)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines() == [*AUTHORING, *([REFUSED] if access.guarded else [])]


def test_a_published_client_attaches_the_products_of_a_filter_to_nodes(
    access: Access, scripts: node_js.Scripts, tmp_path: Path
) -> None:
    with serving(f"sqlite:///{tmp_path}/rest.db", "--demo", access=access) as server:
        server.wait_for("SUCCEEDED")
        ran = scripts.run("rest_products.mjs", server.url, *access.credentials)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines() == PRODUCTS


async def test_a_published_client_cancels_a_pending_job_and_reads_the_errors_of_a_failed_one(
    access: Access, scripts: node_js.Scripts, database_url: str
) -> None:
    with closing(open_database(Settings(database_url=database_url))) as database:
        source = await factories.hierarchy(database, {"a": {}})
        await factories.pending_duplication(database, source)
        await factories.deleted(database, source)
        await factories.ran_job(database)
    with serving(database_url, "--no-runner", access=access) as server:
        ran = scripts.run("rest_queue.mjs", server.url, *access.credentials)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines() == WAITING
