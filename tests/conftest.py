"""Real databases and real servers for tests."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app import main
from app.main import Gateway
from app.settings import Settings
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.migrations import upgrade
from app.wiring import open_database
from tests import postgresql

# Tests ask as fast as they can, in this process and in those they start; those of limits set own.
os.environ["JOBS_GATEWAY_MAX_REQUESTS_PER_SECOND"] = "0"
# What is said of each request and job has tests of its own.
os.environ["JOBS_GATEWAY_LOG_LEVEL"] = "warning"

TAXONOMY = Path(__file__).parents[2] / "shared" / "data" / "taxonomy.jsonl"
DATABASES = ("sqlite", "postgresql")
"""The kinds that one suite runs over."""

NewDatabase = Callable[[str], str]
"""Makes an empty database of a kind and returns its URL."""

START_SECONDS = 30
SEED = 20_240_111
REPORTED = "reported"
STARTED: "list[subprocess.Popen[str]]" = []
"""Every server process, so that none outlives a test that failed before it stopped its own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """How hard and how repeatably the fault tests try."""
    parser.addoption(
        "--full", action="store_true", help="try faults often, not a few times; show tables"
    )
    parser.addoption("--seed", type=int, default=None, help="another random of the fault tests")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have reported, whether they passed or not."""
    for reports in terminalreporter.stats.values():
        for told in reports:
            # At the teardown all is told that the test has told.
            if getattr(told, "when", None) == "teardown":
                for _, line in told.user_properties:
                    terminalreporter.write_line(line)


def pytest_sessionfinish() -> None:
    """End what failed tests have left running."""
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line to show when the run ends, passed or not."""
    told = request.node.user_properties
    return lambda line: told.append((REPORTED, f"{request.node.name}: {line}"))


@pytest.fixture
def tabled(request: pytest.FixtureRequest, report: Callable[[str], None]) -> Callable[[str], None]:
    """`report` for the rows of long tables, which are shown by --full alone."""
    return report if request.config.getoption("--full") else lambda _: None


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Of a few times and the full number of times, how often a fault test tries."""
    full: bool = request.config.getoption("--full")
    return lambda few, many: many if full else few


@pytest.fixture
def seed(request: pytest.FixtureRequest, report: Callable[[str], None]) -> int:
    """What the random of a test grows from, told and repeated by --seed: by --full new in each run,
    else always the same, so that a change is judged by what it changes."""
    given: int | None = request.config.getoption("--seed")
    some = random.randrange(2**32) if request.config.getoption("--full") else SEED
    seed = some if given is None else given
    report(f"--seed {seed}")
    return seed


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The event loop that the server runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def taxonomy() -> Path:
    """The real taxonomy of the shared data."""
    if not TAXONOMY.exists():
        pytest.skip(f"needs the taxonomy of the shared data: {TAXONOMY} is not there")
    return TAXONOMY


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that has a migrated template."""
    with postgresql.server() as url:
        yield url


@pytest.fixture(scope="session")
def new_database(
    postgresql_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewDatabase]:
    """Makes databases of the kinds in DATABASES, migrated, and gone when the run ends."""
    template = postgresql.new_database(postgresql_server)
    migrated = connect(template)
    upgrade(migrated)
    migrated.close()
    made = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/test.db"
        made.append(postgresql.new_database(postgresql_server, template))
        return made[-1]

    yield make
    # A server of our own goes with all its databases; to drop each took half a minute.
    if "TEST_DATABASE_URL" in os.environ:
        for url in (*made, template):
            postgresql.drop_database(url, postgresql_server)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, new_database: NewDatabase) -> str:
    """A new database, one of each kind in turn."""
    return new_database(request.param)


@pytest.fixture
def settings(database_url: str) -> Settings:
    """A new database and a free port."""
    return Settings(database_url=database_url, port=0)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A migrated database without a server."""
    opened = open_database(settings)
    yield opened
    opened.close()


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self, _session: object = None) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        """Let this much time pass."""
        self.now += by


@pytest.fixture
def clock() -> Clock:
    """The clock of `clocked_database`."""
    return Clock()


@pytest.fixture
def clocked_database(settings: Settings, clock: Clock) -> Iterator[Database]:
    """A migrated database on a clock of its own."""
    opened = connect(settings.database_url, clock=clock)
    upgrade(opened)
    yield opened
    opened.close()


@asynccontextmanager
async def gateway_of(settings: Settings) -> AsyncIterator[Gateway]:
    """A whole gateway on a real socket in this event loop."""
    ready: asyncio.Future[Gateway] = asyncio.get_running_loop().create_future()

    async def on_ready(gateway: Gateway) -> None:
        ready.set_result(gateway)

    serving = asyncio.create_task(main.serve(settings, on_ready))
    serving.add_done_callback(lambda _: ready.done() or ready.cancel())
    try:
        gateway = await ready
    except asyncio.CancelledError:
        await serving
        raise
    try:
        yield gateway
    finally:
        gateway.stop()
        await serving


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A whole gateway that runs its queue."""
    async with gateway_of(settings) as running:
        yield running


@pytest.fixture
async def idle_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway whose queue nobody runs: pending jobs stay pending."""
    async with gateway_of(settings.model_copy(update={"runner": False})) as running:
        yield running


@contextmanager
def reads_of(gateway: Gateway) -> Iterator[list[str]]:
    """The SQL statements it reads with meanwhile, as they come."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement != "BEGIN":
            statements.append(statement)

    engine = gateway.database.read_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


class GraphQLClient:
    """Posts operations to a gateway over a real socket."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def answer(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole answer, errors included."""
        response = await self.http.post("/graphql", json={"query": query, "variables": variables})
        answer: dict[str, Any] = response.json()
        return answer

    async def data(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer without errors."""
        answer = await self.answer(query, **variables)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    async def refusal(self, query: str, **variables: Any) -> dict[str, Any]:
        """The one error of an answer."""
        answer = await self.answer(query, **variables)
        (error,) = answer["errors"]
        refused: dict[str, Any] = error
        return refused


@asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[GraphQLClient]:
    """A client of that gateway."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        yield GraphQLClient(http)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[GraphQLClient]:
    """A client of the running gateway."""
    async with client_of(gateway) as connected:
        yield connected


@pytest.fixture
async def idle_client(idle_gateway: Gateway) -> AsyncIterator[GraphQLClient]:
    """A client of the gateway whose queue nobody runs."""
    async with client_of(idle_gateway) as connected:
        yield connected


@dataclass
class LiveProcess:
    """A command of ours as a process of its own."""

    process: "subprocess.Popen[str]"
    database_url: str
    lines: "Queue[str | None]"
    """What it prints, line by line; None once it ends."""
    said: list[str] = field(default_factory=list)
    """What was read of that."""

    def next_line(self) -> str:
        """The next line it prints."""
        line = self.lines.get(timeout=START_SECONDS)
        assert line is not None, f"the process ended with {self.process.wait()}"
        self.said.append(line)
        return line

    def wait_for(self, words: str) -> str:
        """The first line from here on that has these words."""
        while words not in (line := self.next_line()):
            pass
        return line

    def kill(self) -> None:
        """End it as the operating system would: without a chance to do anything."""
        self.process.kill()
        self.process.wait()

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C or another signal does; its exit code."""
        self.process.send_signal(sign)
        return self.process.wait(timeout=START_SECONDS)


@dataclass
class LiveServer(LiveProcess):
    """`jobs-gateway serve` as a process of its own."""

    url: str = ""

    def post(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer without errors."""
        response = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=30
        )
        answer: dict[str, Any] = response.json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


def start_server(database_url: str, *arguments: str, **environment: str) -> LiveServer:
    """A server on a free port, once it takes requests."""
    command = ("-m", "app", "serve", "--port", "0", *arguments)
    process, lines = _started(database_url, *command, **environment)
    server = LiveServer(process, database_url, lines)
    server.url = server.wait_for("  GraphQL").split()[1].removesuffix("/graphql")
    return server


def start_worker(database_url: str, *arguments: str, **environment: str) -> LiveProcess:
    """A worker, once it looks for jobs."""
    process, lines = _started(database_url, "-m", "app", "worker", *arguments, **environment)
    worker = LiveProcess(process, database_url, lines)
    worker.wait_for("Ctrl-C stops")
    return worker


def start_script(
    script: Path, database_url: str, *arguments: str, **environment: str
) -> LiveProcess:
    """A Python script of the tests as a process of its own, which finds `app` and `tests`."""
    found = {"PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    process, lines = _started(database_url, str(script), *arguments, **found)
    return LiveProcess(process, database_url, lines)


def _started(
    database_url: str, *command: str, **environment: str
) -> "tuple[subprocess.Popen[str], Queue[str | None]]":
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "DATABASE_URL": database_url, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    lines: Queue[str | None] = Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as printed:
            for line in printed:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return process, lines


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server process with the demo data, shared by tests that only add to it."""
    folder = tmp_path_factory.mktemp("live")
    server = start_server(f"sqlite:///{folder}/live.db", "--demo")
    server.wait_for("SUCCEEDED")
    yield server
    server.stop()
