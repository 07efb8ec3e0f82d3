"""What the README tells people to type does what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import settings_table
from tests.support.processes import LiveServer, start_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def ran(
    script: str, server: LiveServer, folder: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """A script of the README, run in a folder by somebody who has the commands and a gateway."""
    (block,) = blocks(f"sh {script}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": server.database_url,
            "JOBS_GATEWAY_URL": server.url,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_tour_runs_as_it_stands(live_server: LiveServer, tmp_path: Path) -> None:
    done = ran("tour", live_server, tmp_path)
    told = re.findall(r"event=([A-Z]+)", done.stdout)
    assert told[-3:] == ["CREATED", "STARTED", "SUCCEEDED"]
    assert "Only a pending job can be cancelled; this one is success" in done.stderr


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@needs_curl
def test_a_job_is_followed_with_curl_alone(live_server: LiveServer, tmp_path: Path) -> None:
    printed = ran("curl", live_server, tmp_path).stdout
    types = re.findall(r'^id: \S+\nevent: next\ndata: .*"type":"([A-Z]+)"', printed, re.MULTILINE)
    assert types[0] == "SNAPSHOT"
    # A job as small as this one may be done before it is asked for.
    assert types[-1] in ("SNAPSHOT", "SUCCEEDED")
    assert printed.endswith("event: complete\ndata:\n\n")


@needs_curl
def test_a_job_is_followed_over_rest_with_curl_alone(
    live_server: LiveServer, tmp_path: Path
) -> None:
    finished, refused, errors = ran("rest", live_server, tmp_path).stdout.splitlines()
    assert '"status":"success"' in finished
    assert '"hierarchy_id":' in finished
    assert "Only a pending job can be cancelled; this one is success." in refused
    assert '"data":[]' in errors


@needs_curl
def test_tokens_are_made_and_taken_as_it_is_shown(tmp_path: Path) -> None:
    secret = {"JOBS_GATEWAY_JWT_SECRET": "a secret of this test and of nobody else"}
    server = start_server(f"sqlite:///{tmp_path}/tokens.db", "--demo", **secret)
    try:
        server.wait_for("SUCCEEDED")
        done = ran("tokens", server, tmp_path, **secret)
    finally:
        server.stop()
    counted, forbidden, unknown, job = done.stdout.splitlines()
    assert '"totalCount":4' in counted
    assert '"FORBIDDEN","scopes":["jobs:read"]' in forbidden
    assert '"UNAUTHENTICATED"' in unknown
    assert " SUCCESS HIERARCHY_DUPLICATE " in job


def test_every_operation_runs_as_it_stands(live_server: LiveServer) -> None:
    operations = blocks("graphql")
    assert len(operations) >= 4
    hierarchy = live_server.post("{ hierarchies(first: 1) { nodes { id } } }")
    values: dict[str, Any] = {"hierarchy": hierarchy["hierarchies"]["nodes"][0]["id"]}
    for operation in operations:
        if "subscription" in operation:
            continue  # followed by the tour, with jobs-gateway duplicate --watch
        wanted = {name: values[name] for name in re.findall(r"\$(\w+):", operation)}
        data = live_server.post(operation, **wanted)
        if duplicated := data.get("duplicateHierarchy"):
            assert duplicated["errors"] == []
            values["job"] = duplicated["job"]["id"]


def test_the_commands_that_set_up_are_those_of_the_project() -> None:
    one, two = blocks("sh")[:2]
    assert one.strip() == (
        "python3 -m venv .venv && .venv/bin/pip install -q -e . && "
        ".venv/bin/jobs-gateway serve --demo"
    )
    assert two.strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_settings_are_told_as_they_are() -> None:
    _, told, _ = settings_table.parts_of(README)
    # If they differ, run `python -m tests.settings_table`.
    assert told.strip() == settings_table.tables().strip()
