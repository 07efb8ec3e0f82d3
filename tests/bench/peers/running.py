"""The gateway and its peers as processes on one core, each over a copy of the same file, and the
load on them from another."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.node_js import INSTALLED
from tests.support.paths import ROOT

FOLDER = Path(__file__).parent
PROJECT = ROOT
SCRIPTS = "schema.graphql", "store.mjs", "resolvers.mjs", "mercurius.mjs", "yoga.mjs"

SERVERS, CLIENT = 0, 1
"""The cores that servers and their load run on."""

TICKS = os.sysconf("SC_CLK_TCK")

INSTALL_SECONDS = 500
"""With the time to compile better-sqlite3, where there is no binary to be had."""
STOP_SECONDS = 30

GATEWAY = (sys.executable, "-m", "app", "serve", "--port", "0", "--no-runner")


@dataclass(frozen=True)
class Server:
    """A process that answers, and the file it answers from."""

    name: str
    url: str
    path: Path
    pid: int

    @property
    def log(self) -> Path:
        """What it has said on standard error."""
        return self.path.with_suffix(".log")

    def cpu_seconds(self) -> float:
        """What it has used, the kernel's work for it included."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started meanwhile runs on that core alone, where there is more than one."""
    before = os.sched_getaffinity(0)
    if {SERVERS, CLIENT} <= before:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def served(
    name: str, command: tuple[str, ...], path: Path, folder: Path, **environment: str
) -> Iterator[Server]:
    """A server over that file, from when it takes requests. What it logs, warnings only as in all
    tests, goes into a file beside it: the peers log nothing at all."""
    variables = {"DATABASE_URL": f"sqlite:///{path}", "PYTHONUNBUFFERED": "1", **environment}
    log = path.with_suffix(".log")
    with log.open("w") as said:
        with pinned(SERVERS):
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        assert process.stdout is not None
        with process.stdout as printed:
            try:
                urls = (line.split()[1] for line in printed if line.startswith("  GraphQL"))
                url = next(urls, None)
                assert url, f"{name} did not start: {log.read_text()}"
                yield Server(name, url, path, process.pid)
            finally:
                process.terminate()
                process.wait(STOP_SECONDS)


def node_scripts(folder: Path) -> Path:
    """A copy of the scripts of the peers on Node, where they find their packages."""
    scripts = folder / "peers"
    scripts.mkdir()
    for name in SCRIPTS:
        shutil.copy(FOLDER / name, scripts)
    # The one package whose script is needed: it fetches or compiles its binary.
    (scripts / "node_modules").symlink_to(packages(FOLDER, ("rebuild", "better-sqlite3")))
    return scripts


def packages(folder: Path, *after: Sequence[str]) -> Path:
    """The locked packages of a folder, installed once for all runs; `after` are commands of npm
    that come behind that."""
    lock = (folder / "package-lock.json").read_bytes()
    ready = INSTALLED / f"{folder.name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not ready.exists():
        INSTALLED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=INSTALLED) as workplace:
            made = Path(workplace, "made")
            made.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, made)
            for command in (("ci", "--no-audit", "--no-fund", "--ignore-scripts"), *after):
                ran = subprocess.run(
                    ["npm", *command],
                    cwd=made,
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_SECONDS,
                    check=False,
                )
                assert ran.returncode == 0, ran.stderr
            made.rename(ready)
    return ready / "node_modules"
