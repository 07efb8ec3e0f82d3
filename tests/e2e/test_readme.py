"""What the README tells people to type does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.main import Settings
from tests.conftest import LiveServer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_tour_runs_as_it_stands(live_server: LiveServer, tmp_path: Path) -> None:
    (tour,) = blocks("sh tour")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tour],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": live_server.database_url,
            "JOBS_GATEWAY_URL": live_server.url,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout
    assert "Only a pending job can be cancelled; this one is success" in done.stderr


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


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_is_listed(setting: str) -> None:
    name = "DATABASE_URL" if setting == "database_url" else f"JOBS_GATEWAY_{setting.upper()}"
    assert f"| `{name}` |" in README
