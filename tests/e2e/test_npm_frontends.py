"""Frontends against a gateway: TypeScript generated from schema.graphql, and with it Apollo Client,
urql and Relay. What each script shows is in tests/e2e/node."""

import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.support import node_js
from tests.support.databases import NewDatabase
from tests.support.node_js import GUARDED, OPEN, tokens
from tests.support.paths import ROOT
from tests.support.processes import start_server

needs_node = pytest.mark.skipif(
    node_js.SKIPPED, reason="the tests of frontends need node 20 and npm"
)


CODE_GENERATION = "node_modules/.bin/graphql-codegen"
RELAY_COMPILER = "node_modules/.bin/relay-compiler"
TYPESCRIPT = "node_modules/.bin/tsc"

HIERARCHIES = 5
ANOTHER_SERVER = "now another server, which runs the queue"
OF_CACHES = [
    "a query, and its second page merged into the first",
    "interfaces, read from the cache",
]
OF_THE_QUEUE = [
    "a mutation changes the list in the cache",
    "refusals are told apart",
    "a new socket tells what follows",
    ANOTHER_SERVER,
    "it tells what follows, nothing twice",
    "events change the list in the cache",
]
REFUSED = "4403 without a valid token"
APOLLO = [*OF_CACHES, *OF_THE_QUEUE]
RELAY = [
    "a fragment, and the second page of its connection",
    *OF_THE_QUEUE,
    "a mutation prepends what it made to a list",
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> node_js.Scripts:
    """The scripts, with what is generated from the schema, compiled."""
    scripts = node_js.Scripts(tmp_path_factory.mktemp("node"))
    shutil.copy(ROOT / "schema.graphql", scripts.folder)
    for tool in (CODE_GENERATION, RELAY_COMPILER, TYPESCRIPT):
        ran = scripts.run(tool)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return scripts


@needs_node
@pytest.mark.parametrize(
    ("script", "kind", "environment", "end", "expected"),
    [
        ("built/apollo.js", "sqlite", OPEN, signal.SIGINT, APOLLO),
        ("built/apollo.js", "postgresql", GUARDED, signal.SIGKILL, [*APOLLO, REFUSED]),
        ("built/urql.js", "sqlite", OPEN, signal.SIGKILL, APOLLO),
        ("built/urql.js", "sqlite", GUARDED, signal.SIGINT, APOLLO),
        ("relay.mjs", "sqlite", OPEN, signal.SIGINT, RELAY),
        ("relay.mjs", "sqlite", GUARDED, signal.SIGKILL, RELAY),
    ],
    ids=[
        "apollo",
        "apollo guarded, over postgresql",
        "urql",
        "urql guarded",
        "relay",
        "relay guarded",
    ],
)
async def test_a_frontend_works_with_the_gateway_and_outlives_its_socket_and_its_server(
    script: str,
    kind: str,
    environment: Mapping[str, str],
    end: signal.Signals,
    expected: list[str],
    scripts: node_js.Scripts,
    new_database: NewDatabase,
) -> None:
    url = new_database(kind)
    with closing(open_database(Settings(database_url=url))) as database:
        for number in range(HIERARCHIES):
            await factories.hierarchy(database, {"a": {"c": {}}, "b": {}}, name=f"Garden {number}")
    server = start_server(url, "--no-runner", **environment)
    _, _, port = server.url.rpartition(":")
    shown = []
    with scripts.start(script, f"{server.url}/graphql", *tokens(environment)) as frontend:
        assert frontend.stdout is not None
        for line in frontend.stdout:
            shown.append(line.rstrip("\n"))
            if shown[-1] == ANOTHER_SERVER:
                server.stop(end)
                server = start_server(url, "--port", port, **environment)
    assert frontend.returncode == 0
    assert server.stop() == 0
    assert shown == expected


@needs_node
@pytest.mark.parametrize(
    ("tool", "file", "right", "wrong", "told"),
    [
        (TYPESCRIPT, "apollo.ts", "pageInfo.endCursor", "pageInfo.lastCursor", "'lastCursor'"),
        (TYPESCRIPT, "apollo.ts", "variables: { input } }", "variables: {} }", "'input'"),
        (TYPESCRIPT, "urql.ts", "source = edges[0].node.id", "source = 1", "'number'"),
        (TYPESCRIPT, "urql.ts", "result).jobEvents", "result).jobUpdates", "'jobUpdates'"),
        (TYPESCRIPT, "refusals.ts", '"JobNotCancellable"', '"JobNotCancelable"', "TS2678"),
        (TYPESCRIPT, "refusals.ts", 'case "NotFound":', "", "TS2366"),
        (CODE_GENERATION, "operations.graphql", "canCancel", "cancellable", '"cancellable"'),
        (RELAY_COMPILER, "relay/app.js", "jobQueue {", "queue {", "`queue`"),
    ],
    ids=[
        "a field that was not asked for",
        "a variable that is missing",
        "an id that is a number",
        "an event of another subscription",
        "a refusal that does not exist",
        "a refusal that was forgotten",
        "a field that does not exist",
        "a field that does not exist, for relay",
    ],
)
def test_a_mistake_is_found_before_the_program_runs(
    tool: str,
    file: str,
    right: str,
    wrong: str,
    told: str,
    scripts: node_js.Scripts,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(scripts.folder, tmp_path / "mistaken", symlinks=True)
    text = (folder / file).read_text(encoding="utf-8")
    assert right in text
    (folder / file).write_text(text.replace(right, wrong), encoding="utf-8")
    ran = subprocess.run(
        ["node", tool], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode != 0
    assert told in ran.stdout + ran.stderr
