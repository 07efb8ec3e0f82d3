"""PgBouncer in front of a test's PostgreSQL server. Debian's package is `pgbouncer`."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.postgres import FOLDER, plain, unprivileged

MODES = ("session", "transaction")
START_SECONDS = 30
PORT = 6432

MODE = "TESTS_POOLER"
"""Environment variable: the mode of a pooler between all tests and PostgreSQL."""

# The defaults of the package, except for what a test has no time or address for.
CONFIGURATION = """
[databases]
* = {server}

[pgbouncer]
pool_mode = {mode}
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = any
max_client_conn = 500
default_pool_size = {sessions}
server_login_retry = 0.5
query_wait_timeout = 2
server_idle_timeout = 5
logfile = {folder}/log
"""


def program() -> str:
    """Return the path of PgBouncer, or skip the test."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    return found


@contextmanager
def pooler(server_url: str, mode: str, sessions: int = 20) -> Iterator[Callable[[str], str]]:
    """Start a pooler. Yield a function that returns the URL of a database through it.

    `sessions` are those of each database. The server must be one of `postgres.cluster`.
    """
    server = sa.make_url(server_url)
    if "host" not in server.query:
        pytest.skip("needs a PostgreSQL server on a Unix socket, as the tests start it")
    folder = Path(tempfile.mkdtemp(prefix="pgb-", dir=os.environ.get(FOLDER)))
    folder.chmod(0o777)
    file = folder / "pgbouncer.ini"
    file.write_text(
        CONFIGURATION.format(
            server=f"host={server.query['host']} user={server.username}",
            mode=mode,
            port=PORT,
            folder=folder,
            sessions=sessions,
        )
    )
    # It refuses to run as root.
    prefix, user = unprivileged()
    process = subprocess.Popen(
        [*prefix, program(), str(file)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        group=user,
        cwd="/",
    )

    def through_pooler(url: str) -> str:
        direct = sa.make_url(url)
        query = {**direct.query, "host": str(folder), "port": str(PORT)}
        return direct.set(query=query).render_as_string(hide_password=False)

    try:
        _wait_until_ready(through_pooler(server_url), folder / "log")
        yield through_pooler
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(url: str, log: Path) -> None:
    deadline = monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(plain(url)).close()
            return
        except psycopg.OperationalError:
            if monotonic() > deadline:
                raise RuntimeError(log.read_text() if log.exists() else "no log") from None
            sleep(0.02)
