"""The gateway and its peers as processes on one core, each over its own copy of a file.

The load comes from another core.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.node_js import packages
from tests.support.paths import ROOT

FOLDER = Path(__file__).parent
PROJECT = ROOT
SCRIPTS = "schema.graphql", "store.mjs", "resolvers.mjs", "mercurius.mjs", "yoga.mjs"

SERVERS, CLIENT = 0, 1
"""The cores of the servers and of the load."""

TICKS = os.sysconf("SC_CLK_TCK")

STOP_SECONDS = 30

GATEWAY = (sys.executable, "-m", "app", "serve", "--port", "0", "--no-runner")


@dataclass(frozen=True)
class Server:
    """A server process and its database file."""

    name: str
    url: str
    path: Path
    pid: int

    @property
    def log(self) -> Path:
        """The file with its standard error."""
        return self.path.with_suffix(".log")

    def cpu_seconds(self) -> float:
        """Return its CPU time, user and system, in seconds."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin processes started in the block to `core`, if the machine has more than one."""
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
    """Run a server over the file at `path`. Yields once it takes requests.

    Its log goes into a file next to `path`: warnings only, as in all tests. Peers log nothing.
    """
    variables = {"DATABASE_URL": f"sqlite:///{path}", "PYTHONUNBUFFERED": "1", **environment}
    log = path.with_suffix(".log")
    with log.open("w") as standard_error:
        with pinned(SERVERS):
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=standard_error,
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
    """Copy the scripts of the peers on Node to a folder with their packages."""
    scripts = folder / "peers"
    scripts.mkdir()
    for name in SCRIPTS:
        shutil.copy(FOLDER / name, scripts)
    # The only package with a needed install script: it fetches or compiles its binary.
    (scripts / "node_modules").symlink_to(packages(FOLDER, ("rebuild", "better-sqlite3")))
    return scripts
