"""Node.js for tests: locked npm packages, and scripts that run with them.

`python -m tests.support.node_js` installs the packages of tests/e2e/node; `.ci/run` does so before
it runs the tests marked `npm`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import TESTS

SCRIPTS = TESTS / "e2e" / "node"
INSTALLED = Path.home() / ".cache" / "jobs-gateway-node"

MIN_VERSION = 20
"""The lowest major version of Node.js that code generation needs."""

NEEDED = os.environ.get("TESTS_NEED_NODE") == "1"
"""Fail where Node.js or the packages are missing, instead of skipping."""
INSTALL_SECONDS = 500
"""Includes the time to compile better-sqlite3, for benchmarks, where npm has no binary."""
RUN_SECONDS = 60

OPEN: Mapping[str, str] = {}
"""The environment of a gateway without authentication."""
GUARDED: Mapping[str, str] = {"JOBS_GATEWAY_JWT_SECRET": "a secret that only these tests know"}
"""The environment of a gateway with authentication."""


@cache
def missing() -> list[str]:
    """List the commands that this machine lacks."""
    missing = [command for command in ("node", "npm") if shutil.which(command) is None]
    if not missing:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        if int(version.stdout.removeprefix("v").partition(".")[0]) < MIN_VERSION:
            missing.append(f"node {MIN_VERSION} (found {version.stdout.strip()})")
    return missing


def tokens(environment: Mapping[str, str]) -> list[str]:
    """Mint a token by the command line for a gateway with authentication."""
    if not environment:
        return []
    minted = subprocess.run(
        [sys.executable, "-m", "app", "token"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert minted.returncode == 0, minted.stderr
    return [minted.stdout.strip()]


class Scripts:
    """A copy of the scripts in a folder, with their packages. Skips the test without them."""

    def __init__(self, folder: Path) -> None:
        lacking = missing() or ([] if _target(SCRIPTS).exists() else ["the installed packages"])
        if lacking and not NEEDED:
            pytest.skip(
                f"{', '.join(lacking)} missing: install them with python -m tests.support.node_js"
            )
        assert not lacking, f"TESTS_NEED_NODE is set, and this machine lacks {', '.join(lacking)}"
        self.folder = folder / "scripts"
        shutil.copytree(SCRIPTS, self.folder, ignore=shutil.ignore_patterns("node_modules"))
        (self.folder / "node_modules").symlink_to(_target(SCRIPTS) / "node_modules")

    def run(self, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a script to its end."""
        return subprocess.run(
            ["node", script, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def start(self, script: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a script that ends by itself, to read what it prints meanwhile."""
        return subprocess.Popen(
            ["node", script, *arguments], cwd=self.folder, stdout=subprocess.PIPE, text=True
        )


def packages(folder: Path, *after: Sequence[str]) -> Path:
    """Install the locked packages of a folder, once per machine and lock; `after` are npm commands
    that follow."""
    target = _target(folder)
    if not target.exists():
        INSTALLED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=INSTALLED) as workplace:
            new = Path(workplace, "new")
            new.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, new)
            for command in (("ci", "--no-audit", "--no-fund", "--ignore-scripts"), *after):
                ran = subprocess.run(
                    ["npm", *command],
                    cwd=new,
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_SECONDS,
                    check=False,
                )
                assert ran.returncode == 0, ran.stderr
            new.rename(target)
    return target / "node_modules"


def _target(folder: Path) -> Path:
    lock = (folder / "package-lock.json").read_bytes()
    return INSTALLED / f"{folder.name}-{hashlib.sha256(lock).hexdigest()[:16]}"


if __name__ == "__main__":
    packages(SCRIPTS)
