"""Real databases and real servers for tests."""

import gc
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from pydantic import SecretStr

from app.api.http import memory
from app.main import Gateway
from app.settings import Settings
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.postgresql import PostgreSQL
from app.storage.engine.sqlite import SQLite
from tests.support import pgbouncer, postgres, tokens
from tests.support.clients import GraphQLClient, client_of
from tests.support.clock import Clock
from tests.support.databases import DATABASES, Databases, NewDatabase
from tests.support.gateway import SharedGateways, gateway_of
from tests.support.paths import SHARED
from tests.support.processes import STARTED, LiveServer, start_server

# No rate limit in this process and in those that tests start; tests of the limit set their own.
os.environ["JOBS_GATEWAY_MAX_REQUESTS_PER_SECOND"] = "0"
# Log lines per request and job have tests of their own.
os.environ["JOBS_GATEWAY_LOG_LEVEL"] = "warning"

# A full collection of all tests' objects takes 20 s. Processes that tests start collect as usual.
memory.CHECK_SECONDS = 3_600

# A busy machine generates examples slowly, and that decides no test.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

TAXONOMY = SHARED / "data" / "taxonomy.jsonl"


SEED = 20_240_111
REPORTED = "reported"


# A background job of a script starts with SIGINT ignored, and so would the servers that tests start
# and stop by it: a process inherits what its parent ignores.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the fault tests."""
    parser.addoption(
        "--full", action="store_true", help="try faults often, not a few times; show tables"
    )
    parser.addoption("--seed", type=int, default=None, help="seed of the fault tests' random")


def pytest_collection_finish() -> None:
    """Exempt the objects of imports and test items from garbage collection.

    They live until the run ends, and each collection would examine them for 0.1 s.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the lines that tests reported, whether they passed or not."""
    for reports in terminalreporter.stats.values():
        for phase in reports:
            # The teardown's report has all lines of the test.
            if getattr(phase, "when", None) == "teardown":
                for _, line in phase.user_properties:
                    terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Create the folder of this run's PostgreSQL servers, which its worker processes share."""
    if not hasattr(config, "workerinput"):
        folder = os.environ[postgres.FOLDER] = tempfile.mkdtemp(prefix="pg-")
        # A server that runs as another user must reach its own folder in it.
        Path(folder).chmod(0o711)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers of worker processes that died."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ.pop(postgres.FOLDER))
        postgres.kill_servers(folder)
        postgres.remove(folder)


def pytest_sessionfinish() -> None:
    """Kill the processes that failed tests left running."""
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that adds a line to the summary of the run, passed or not."""
    properties = request.node.user_properties
    return lambda line: properties.append((REPORTED, f"{request.node.name}: {line}"))


@pytest.fixture
def tabled(request: pytest.FixtureRequest, report: Callable[[str], None]) -> Callable[[str], None]:
    """Return `report` for rows of long tables, which only --full shows."""
    return report if request.config.getoption("--full") else lambda _: None


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return a function that selects a fault test's repetitions: few, or many with --full."""
    full: bool = request.config.getoption("--full")
    return lambda few, many: many if full else few


@pytest.fixture(params=["brief", pytest.param("long", marks=pytest.mark.long)])
def scaled(request: pytest.FixtureRequest) -> Callable[[int, int, int], int]:
    """Select a number of examples: in every run, in tests marked `long`, with --full."""
    full: bool = request.config.getoption("--full")
    if request.param == "brief":
        return lambda brief, _usual, _full: brief
    return lambda _brief, usual, many: many if full else usual


@pytest.fixture
def seed(request: pytest.FixtureRequest, report: Callable[[str], None]) -> int:
    """Return and report the seed of a test's random numbers: that of --seed, else with --full a new
    one per run, else SEED, so that runs before and after a change are comparable."""
    option: int | None = request.config.getoption("--seed")
    default = random.randrange(2**32) if request.config.getoption("--full") else SEED
    seed = default if option is None else option
    report(f"--seed {seed}")
    return seed


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The event loop that the server runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def taxonomy() -> Path:
    """Return the file of the real taxonomy, of the shared data."""
    if not TAXONOMY.exists():
        pytest.skip(f"needs the taxonomy of the shared data: {TAXONOMY} does not exist")
    return TAXONOMY


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that has a migrated template."""
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def databases(
    postgresql_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Databases]:
    """Migrated databases of both kinds, those of PostgreSQL through the pooler of TESTS_POOLER."""
    with ExitStack() as stack:
        through_pooler = None
        if mode := os.environ.get(pgbouncer.MODE):
            through_pooler = stack.enter_context(pgbouncer.pooler(postgresql_server, mode))
        folder = tmp_path_factory.mktemp("databases")
        databases = Databases(folder, postgresql_server, through_pooler)
        yield databases
    # A server of this run is removed whole; dropping its databases would take half a minute.
    if "TEST_DATABASE_URL" in os.environ:
        databases.drop_all()


@pytest.fixture(scope="session")
def new_database(databases: Databases) -> NewDatabase:
    """Return a function that creates a migrated database of a kind, for one test only."""
    return databases.new


@pytest.fixture(params=DATABASES)
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(database_kind: str, databases: Databases) -> Iterator[str]:
    """An empty database."""
    with databases.lent(database_kind) as url:
        yield url


@pytest.fixture
def settings(database_url: str) -> Settings:
    """A new database and a free port."""
    return Settings(database_url=database_url, port=0)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A migrated database without a server."""
    opened = connect(settings.database_url)
    yield opened
    opened.close()


@pytest.fixture
def unhurried_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no busy machine repeat a read as a scan, where a test counts statements."""
    for kind in (SQLite, PostgreSQL):
        monkeypatch.setattr(kind, "client_read_seconds", 60.0)


@pytest.fixture
def clock() -> Clock:
    """The clock of `clocked_database`."""
    return Clock()


@pytest.fixture
def clocked_database(settings: Settings, clock: Clock) -> Iterator[Database]:
    """A migrated database on a clock of its own."""
    opened = connect(settings.database_url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway that runs its queue."""
    async with gateway_of(settings) as running:
        yield running


@pytest.fixture(scope="session")
async def shared_gateways(new_database: NewDatabase) -> AsyncIterator[SharedGateways]:
    """The gateways of `idle_gateway`, open until the run ends."""
    async with AsyncExitStack() as stack:
        yield SharedGateways(new_database, stack)


@pytest.fixture
async def idle_gateway(
    database_kind: str, shared_gateways: SharedGateways
) -> AsyncIterator[Gateway]:
    """A gateway that runs no queue: pending jobs stay pending."""
    async with shared_gateways.lent(database_kind) as gateway:
        yield gateway


@pytest.fixture
async def guarded_gateway(shared_gateways: SharedGateways) -> AsyncIterator[Gateway]:
    """A gateway on SQLite that runs no queue and needs bearer tokens (tests.support.tokens)."""
    async with shared_gateways.lent("sqlite", jwt_secret=SecretStr(tokens.SECRET)) as gateway:
        yield gateway


@pytest.fixture
async def own_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway that runs no queue and serves no other test."""
    async with gateway_of(settings.model_copy(update={"runner": False})) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[GraphQLClient]:
    """A client of the running gateway."""
    async with client_of(gateway) as connected:
        yield connected


@pytest.fixture
async def idle_client(idle_gateway: Gateway) -> AsyncIterator[GraphQLClient]:
    """A client of `idle_gateway`."""
    async with client_of(idle_gateway) as connected:
        yield connected


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server process with the demo data, shared by tests that only add to it."""
    folder = tmp_path_factory.mktemp("live")
    server = start_server(f"sqlite:///{folder}/live.db", "--demo")
    server.wait_for("SUCCEEDED")
    yield server
    server.stop()
