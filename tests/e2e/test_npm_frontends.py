"""Frontends against a gateway: TypeScript generated from schema.graphql, with Apollo Client, urql
and Relay. The scripts (tests/e2e/node) print a line per passed part."""

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

pytestmark = pytest.mark.npm


CODE_GENERATION = "node_modules/.bin/graphql-codegen"
RELAY_COMPILER = "node_modules/.bin/relay-compiler"
TYPESCRIPT = "node_modules/.bin/tsc"

HIERARCHIES = 5
ANOTHER_SERVER = "now another server, which runs the queue"
CACHE_PARTS = [
    "a query, and its second page merged into the first",
    "interfaces, read from the cache",
]
QUEUE_PARTS = [
    "a mutation changes the list in the cache",
    "refusals are distinguished",
    "a new socket delivers the following events",
    ANOTHER_SERVER,
    "it delivers the following events once",
    "events change the list in the cache",
]
REFUSED = "4403 without a valid token"
APOLLO = [*CACHE_PARTS, *QUEUE_PARTS]
RELAY = [
    "a fragment, and the second page of its connection",
    *QUEUE_PARTS,
    "a mutation prepends its result to a list",
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> node_js.Scripts:
    """The compiled scripts, with the code generated from the schema."""
    scripts = node_js.Scripts(tmp_path_factory.mktemp("node"))
    shutil.copy(ROOT / "schema.graphql", scripts.folder)
    for tool in (CODE_GENERATION, RELAY_COMPILER, TYPESCRIPT):
        ran = scripts.run(tool)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return scripts


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
async def test_a_frontend_works_and_survives_the_loss_of_its_socket_and_server(
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


@pytest.mark.parametrize(
    ("tool", "file", "right", "wrong", "message"),
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
        "a field that was not selected",
        "a missing variable",
        "an id that is a number",
        "an event of another subscription",
        "an unknown refusal",
        "a missing refusal",
        "an unknown field",
        "an unknown field, with relay",
    ],
)
def test_a_mistake_is_reported_at_compile_time(
    tool: str,
    file: str,
    right: str,
    wrong: str,
    message: str,
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
    assert message in ran.stdout + ran.stderr
