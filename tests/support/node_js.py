"""Node for tests: the packages of tests/e2e/node, installed once for all runs with the same lock,
and the gateways that its clients are shown to.

Where there is no Node 20, or no registry of packages, what needs it skips and says so; with
TESTS_NEED_NODE=1 in the environment it fails instead.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.paths import TESTS

SCRIPTS = TESTS / "e2e" / "node"
INSTALLED = Path.home() / ".cache" / "jobs-gateway-node"

OLDEST = 20
"""The Node that code generation needs."""


def _missing() -> list[str]:
    missing = [command for command in ("node", "npm") if shutil.which(command) is None]
    if not missing:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        if int(version.stdout.removeprefix("v").partition(".")[0]) < OLDEST:
            missing.append(f"node {OLDEST} ({version.stdout.strip()} is there)")
    return missing


MISSING = _missing()
NEEDED = os.environ.get("TESTS_NEED_NODE") == "1"
SKIPPED = bool(MISSING) and not NEEDED
INSTALL_SECONDS = 100
RUN_SECONDS = 60

OPEN: Mapping[str, str] = {}
"""The environment of a gateway that asks for no tokens, and of one that does."""
GUARDED: Mapping[str, str] = {
    "JOBS_GATEWAY_JWT_SECRET": "a secret of the tests, and of nobody else's"
}


def tokens(environment: Mapping[str, str]) -> list[str]:
    """What the command line mints for a gateway of this environment, if it asks for tokens."""
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
    """A copy of the scripts in a folder, where they find their packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "scripts"
        packages = _packages()
        shutil.copytree(SCRIPTS, self.folder, ignore=shutil.ignore_patterns("node_modules"))
        (self.folder / "node_modules").symlink_to(packages)

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
        """Start a script that ends itself in time, to read what it prints meanwhile."""
        return subprocess.Popen(
            ["node", script, *arguments], cwd=self.folder, stdout=subprocess.PIPE, text=True
        )


def _packages() -> Path:
    """The folder of the locked packages, which are installed first where they are not."""
    assert not MISSING, f"TESTS_NEED_NODE is set, and there is no {', '.join(MISSING)}"
    lock = (SCRIPTS / "package-lock.json").read_bytes()
    ready = INSTALLED / hashlib.sha256(lock).hexdigest()[:16]
    if not ready.exists():
        INSTALLED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=INSTALLED) as workplace:
            made = Path(workplace, "made")
            _install(made)
            try:
                made.rename(ready)
            except OSError:
                # Another run was faster.
                if not ready.exists():
                    raise
    return ready / "node_modules"


def _install(folder: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SCRIPTS / name, folder)
    installed = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder],
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if installed.returncode and not NEEDED:
        pytest.skip(f"npm can not install what the tests need: {installed.stderr[-300:]}")
    assert installed.returncode == 0, installed.stderr
