"""`jobs-gateway doctor` on real, damaged databases: findings, remedies, no changes."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import typer
from sqlmodel import col

from app.cli import doctor
from app.domain.hierarchies import HierarchyState
from app.settings import Settings
from app.storage.admin.diagnosis import read_only_transaction
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.migrations import newest_revision, upgrade
from app.storage.tables import Hierarchy, Job, Lane
from app.wiring import open_database
from tests import factories
from tests.support import postgres, tokens
from tests.support.databases import Databases, NewDatabase
from tests.support.entities import read_transaction
from tests.support.registered_clients import registered, write_list

Examine = Callable[[str], tuple[int, str]]


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Run doctor on a URL; return exit code and non-ok lines."""
    monkeypatch.setenv("COLUMNS", "200")

    def examined(url: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(typer.Exit) as ended:
            doctor.doctor(url)
        lines = capsys.readouterr().out.splitlines()
        findings = (line for line in lines if not line.startswith("ok "))
        return ended.value.exit_code, "\n".join(findings)

    return examined


def update_all(database: Database, model: Any, **values: Any) -> None:
    """Update every row of a table."""
    with database.write_engine.begin() as connection:
        connection.execute(sa.update(model).values(**values))


def instant(database: Database, ago: timedelta) -> Any:
    """The database's current time minus `ago`."""
    with read_transaction(database) as tx:
        return tx.now() - ago


async def test_a_database_with_running_jobs_has_no_findings(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    await factories.claimed_job(database)
    assert examine(database_url) == (0, "")


async def test_examining_a_file_leaves_no_trace(
    tmp_path: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    url = f"sqlite:///{tmp_path}/some.db"
    code, output = examine(url)
    assert code == 0
    assert f"There is no file {tmp_path}/some.db." in output
    assert not files()

    database = open_database(Settings(database_url=url))
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    while_open = files()
    monkeypatch.setattr(doctor, "MAX_WAIT", timedelta(-1))
    code, output = examine(url)
    assert "1 jobs of store 'default' have waited" in output, (
        "rows that only the WAL holds are read"
    )
    assert files().keys() == while_open.keys()
    database.close()

    closed = files()
    examine(url)
    assert files() == closed


async def test_an_expired_lease_without_a_takeover_is_a_problem(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    await factories.claimed_job(database)
    update_all(database, Lane, lease_until=instant(database, timedelta(minutes=5)))
    code, output = examine(database_url)
    assert code == 1
    assert output.splitlines() == [
        "problem  queue       The job of store 'default' was lost 5 minutes ago, and no worker "
        "has taken it over.",
        "                     -> Start `jobs-gateway worker`, or `serve` without --no-runner, for "
        "that store.",
    ]


async def test_jobs_without_a_worker_are_a_problem_or_a_warning_while_other_stores_run(
    database: Database, database_url: str, examine: Examine
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    update_all(database, Job, created_at=instant(database, timedelta(minutes=10)))
    code, output = examine(database_url)
    assert code == 1
    assert (
        "problem  queue       1 jobs of store 'default' have waited for 10 minutes, and no worker"
        in output
    )

    other = await factories.hierarchy(database, {"a": {}}, store="other")
    await factories.pending_duplication(database, other, store="other")
    await factories.claimed_job(database, store="other")
    code, output = examine(database_url)
    assert code == 0
    assert (
        "warning  queue       1 jobs of store 'default' have waited for 10 minutes, and no worker"
        in output
    )


async def test_a_paused_queue_is_reported_but_not_as_lacking_a_worker(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    update_all(database, Job, created_at=instant(database, timedelta(minutes=10)))
    update_all(database, Lane, paused_at=instant(database, timedelta(days=3)))
    code, output = examine(database_url)
    assert code == 0
    assert "The queue of store 'default' has been paused for 3 days; 1 jobs wait." in output
    assert "no worker" not in output


async def test_jobs_created_in_the_future_reveal_a_clock_that_was_set_back(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    await factories.ran_job(database)
    update_all(database, Lane, last_created_at=instant(database, -timedelta(hours=3)))
    code, output = examine(database_url)
    assert code == 0
    assert "created 3 hours in the future: the clock was set back." in output


async def test_a_backlog_of_the_sweep_is_a_warning(
    database: Database, database_url: str, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await factories.hierarchy(database, {"a": {}})
    update_all(database, Hierarchy, state=HierarchyState.DISCARDED)
    monkeypatch.setattr(doctor, "MAX_BACKLOG", 0)
    code, output = examine(database_url)
    assert code == 0
    assert "warning  sweeping    1 deleted hierarchies and 0 nodes to sweep" in output


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("revision", ["0003", None])
def test_an_outdated_revision_is_reported_with_the_migrate_command(
    kind: str, revision: str | None, databases: Databases, examine: Examine
) -> None:
    url = databases.unmigrated(kind)
    database = connect(url)
    if revision:
        upgrade(database, revision)
    else:
        database.write_engine.connect().close()
    database.close()
    code, output = examine(url)
    assert code == (1 if kind == "postgresql" else 0)
    assert f"at revision {revision or 'none'}; this version needs" in output
    assert "`jobs-gateway migrate`" in output


def test_a_database_of_a_later_version_is_a_problem(
    database: Database, database_url: str, examine: Examine
) -> None:
    with database.write_engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'later'"))
    code, output = examine(database_url)
    assert code == 1
    assert f"at revision later; this version needs {newest_revision()}" in output
    assert "install that version" in output


@pytest.mark.parametrize("damage", ["a page", "all"])
def test_a_damaged_file_is_a_problem(
    damage: str, new_database: NewDatabase, examine: Examine
) -> None:
    url = new_database("sqlite")
    open_database(Settings(database_url=url)).close()
    path = Path(sa.make_url(url).database or "")
    content = bytearray(path.read_bytes())
    start = 3 * 4096 if damage == "a page" else 0
    content[start : start + 4096] = b"damage" * 682 + b"...."
    path.write_bytes(content)
    code, output = examine(url)
    assert code == 1
    words = "problem  integrity" if damage == "a page" else "file is not a database"
    assert words in output


def test_a_file_without_wal_mode_is_a_warning(new_database: NewDatabase, examine: Examine) -> None:
    url = new_database("sqlite")
    open_database(Settings(database_url=url)).close()
    with sqlite3.connect(sa.make_url(url).database or "") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    code, output = examine(url)
    assert code == 0
    assert "warning  database    The file is not in WAL mode" in output


def test_a_file_that_others_can_read_or_that_has_two_names_is_a_warning(
    new_database: NewDatabase, examine: Examine
) -> None:
    url = new_database("sqlite")
    path = Path(url.removeprefix("sqlite:///"))
    _, output = examine(url)
    assert "files " not in output
    path.chmod(0o644)
    other = path.with_suffix(".link")
    other.hardlink_to(path)
    try:
        code, output = examine(url)
    finally:
        other.unlink()
    assert code == 0
    assert f"warning  files       other users of this machine can read {path}" in output
    assert f"-> Run `chmod 600 {path}`." in output
    assert "The file has 2 names (hard links)" in output


def test_an_unreachable_server_is_reported_without_its_password(examine: Examine) -> None:
    code, output = examine("postgresql+psycopg://me:s3cret@127.0.0.1:1/catalogue")
    assert code == 1
    assert "me:***@127.0.0.1:1/catalogue" in output
    assert "s3cret" not in output


def test_a_folder_in_place_of_a_file_is_a_problem(tmp_path: Path, examine: Examine) -> None:
    code, output = examine(f"sqlite:///{tmp_path}")
    assert code == 1
    assert "problem  database    Cannot use the database sqlite:///" in output


def test_different_clocks_and_idle_transactions_are_warnings(
    new_database: NewDatabase, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database("postgresql")
    monkeypatch.setattr(doctor, "MAX_IDLE_SECONDS", 0)
    with psycopg.connect(postgres.plain(url), autocommit=True) as connection:
        # Set the server's clock half a minute ahead.
        connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$ SELECT pg_catalog.clock_timestamp() + interval '30 seconds' $$"
        )
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
        connection.autocommit = False
        connection.execute("SELECT 1")
        code, output = examine(url)
    assert code == 0
    assert "warning  clock       the database's is 30.0 s ahead of this machine's" in output
    assert "has been idle inside a transaction" in output


def test_the_transaction_of_the_doctor_is_read_only(database: Database, database_url: str) -> None:
    with (
        pytest.raises(Exception, match=r"read-?only"),
        read_only_transaction(database_url) as tx,
    ):
        tx.changed(sa.delete(Lane).where(col(Lane.store) == "any"))


def test_mistakes_in_the_settings_are_reported_along_with_database_findings(
    tmp_path: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_GATEWAY_PORT", "eighty")
    monkeypatch.setenv("JOBS_GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("JOBS_GATEWAY_HOTS", "")
    code, output = examine(f"sqlite:///{tmp_path}/none.db")
    assert code == 1
    for words in (
        "warning  settings    JOBS_GATEWAY_HOTS is not a setting. Did you mean JOBS_GATEWAY_HOST?",
        "problem  settings    JOBS_GATEWAY_PORT: Input should be a valid integer",
        "problem  settings    JOBS_GATEWAY_HOST: 0.0.0.0 can be reached",
        "warning  database    There is no file",
    ):
        assert words in output


def test_a_package_outside_its_tested_range_is_a_warning(
    tmp_path: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Metadata of an installed package, which precedes the real one on the path.
    old = tmp_path / "orjson-1.0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: orjson\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, output = examine(f"sqlite:///{tmp_path}/none.db")
    assert code == 0
    assert "warning  versions    orjson is 1.0; tested with " in output


def test_a_list_of_clients_that_others_can_read_is_reported(
    tmp_path: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_list(tmp_path / "clients.json", registered("shop"))
    monkeypatch.setenv("JOBS_GATEWAY_JWT_SECRET", tokens.SECRET)
    monkeypatch.setenv("JOBS_GATEWAY_CLIENTS", str(path))
    url = f"sqlite:///{tmp_path}/some.db"
    assert "warning  clients" not in examine(url)[1]
    path.chmod(0o640)
    assert "warning  clients" not in examine(url)[1]
    path.chmod(0o644)
    code, output = examine(url)
    assert code == 0
    assert f"warning  clients     other users of this machine can read or change {path}" in output
    assert f"-> Run `chmod 600 {path}`." in output
    path.write_text("{")
    code, output = examine(url)
    assert code == 1
    assert f"problem  settings    JOBS_GATEWAY_CLIENTS: {path} is not a list of clients" in output
