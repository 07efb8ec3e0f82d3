"""`jobs-gateway migrate` as a process, and the commands that refuse to start without it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.storage.migrations import newest_revision
from tests.support import postgres

pytestmark = pytest.mark.process

NEWEST = newest_revision()


@pytest.fixture
def empty_url(postgresql_server: str) -> Iterator[str]:
    """A PostgreSQL database that is not migrated."""
    url = postgres.new_database(postgresql_server)
    yield url
    postgres.drop_database(url, postgresql_server)


def run(database_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_migrate_brings_an_empty_database_to_the_newest_revision(empty_url: str) -> None:
    checked = run(empty_url, "migrate", "--check")
    assert checked.returncode == 1
    assert checked.stderr == f"At revision none; this version needs {NEWEST}.\n"

    migrated = run(empty_url, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    assert migrated.stdout == f"Migrated from revision none to {NEWEST}.\n"

    for again in (("migrate", "--check"), ("migrate",)):
        done = run(empty_url, *again)
        assert done.returncode == 0
        assert done.stdout == f"Up to date, at revision {NEWEST}.\n"


@pytest.mark.parametrize(
    "command", [("serve", "--port", "0"), ("worker",)], ids=["serve", "worker"]
)
def test_a_command_that_needs_a_migration_reports_it_and_exits(
    empty_url: str, command: tuple[str, ...]
) -> None:
    refused = run(empty_url, *command)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert "Run `jobs-gateway migrate` first." in refused.stderr


@pytest.mark.parametrize(
    "command",
    [("serve", "--port", "0"), ("worker",), ("migrate",)],
    ids=["serve", "worker", "migrate"],
)
def test_an_unreachable_server_is_reported_in_one_sentence_without_the_password(
    command: tuple[str, ...],
) -> None:
    refused = run("postgresql+psycopg://me:s3cret@127.0.0.1:1/catalogue", *command)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert "Cannot use the database postgresql+psycopg://me:***@127.0.0.1:1/catalogue" in (
        refused.stderr
    )
    assert "s3cret" not in refused.stderr
    assert "Traceback" not in refused.stderr
