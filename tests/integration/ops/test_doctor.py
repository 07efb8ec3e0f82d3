"""`jobs-gateway doctor` finds what is wrong with real databases that are broken, says what to do,
and changes nothing."""

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
from app.storage.admin.diagnosis import read_only_session
from app.storage.engine.connect import connect
from app.storage.engine.database import Database, now
from app.storage.migrations import newest_revision, upgrade
from app.storage.tables import Hierarchy, Job, Lane
from app.wiring import open_database
from tests import factories
from tests.support import postgres
from tests.support.databases import NewDatabase

Examine = Callable[[str], tuple[int, str]]


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Examines the database at a URL: how it ended, and what was told but for what is well."""
    monkeypatch.setenv("COLUMNS", "200")

    def examined(url: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(typer.Exit) as ended:
            doctor.doctor(url)
        lines = capsys.readouterr().out.splitlines()
        ailing = (line for line in lines if not line.startswith("ok "))
        return ended.value.exit_code, "\n".join(ailing)

    return examined


def changed(database: Database, model: Any, **values: Any) -> None:
    """Every row of a table, with other values."""
    with database.write_engine.begin() as connection:
        connection.execute(sa.update(model).values(**values))


def instant(database: Database, ago: timedelta) -> Any:
    """A moment by the database's clock."""
    with database._session(database.read_engine) as session:
        return now(session) - ago


async def test_a_database_with_work_going_on_is_well(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    await factories.claimed_job(database)
    assert examine(database_url) == (0, "")


async def test_a_file_is_looked_at_without_a_trace(
    tmp_path: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    url = f"sqlite:///{tmp_path}/some.db"
    code, told = examine(url)
    assert code == 0
    assert f"There is no file {tmp_path}/some.db." in told
    assert not files()

    database = open_database(Settings(database_url=url))
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    while_open = files()
    monkeypatch.setattr(doctor, "MAX_WAIT", timedelta(-1))
    code, told = examine(url)
    assert "1 jobs of store 'default' have waited" in told, (
        "what is in the log of writes alone is seen"
    )
    assert files().keys() == while_open.keys()
    database.close()

    closed = files()
    examine(url)
    assert files() == closed


async def test_a_job_that_nobody_took_over_is_a_problem(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    await factories.claimed_job(database)
    changed(database, Lane, lease_until=instant(database, timedelta(minutes=5)))
    code, told = examine(database_url)
    assert code == 1
    assert told.splitlines() == [
        "problem  queue       The job of store 'default' was lost 5 minutes ago, and no worker "
        "has taken it over.",
        "                     -> Start `jobs-gateway worker`, or `serve` without --no-runner, for "
        "that store.",
    ]


async def test_jobs_that_nobody_runs_are_a_problem_or_a_warning_while_others_run(
    database: Database, database_url: str, examine: Examine
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    changed(database, Job, created_at=instant(database, timedelta(minutes=10)))
    code, told = examine(database_url)
    assert code == 1
    assert (
        "problem  queue       1 jobs of store 'default' have waited for 10 minutes, and no worker"
        in told
    )

    other = await factories.hierarchy(database, {"a": {}}, store="other")
    await factories.pending_duplication(database, other, store="other")
    await factories.claimed_job(database, store="other")
    code, told = examine(database_url)
    assert code == 0
    assert (
        "warning  queue       1 jobs of store 'default' have waited for 10 minutes, and no worker"
        in told
    )


async def test_a_paused_queue_is_told_and_is_no_queue_that_nobody_runs(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    changed(database, Job, created_at=instant(database, timedelta(minutes=10)))
    changed(database, Lane, paused_at=instant(database, timedelta(days=3)))
    code, told = examine(database_url)
    assert code == 0
    assert "The queue of store 'default' has been paused for 3 days; 1 jobs wait." in told
    assert "no worker" not in told


async def test_jobs_of_the_future_tell_that_the_clock_was_set_back(
    database: Database, database_url: str, examine: Examine
) -> None:
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))
    await factories.ran_job(database)
    changed(database, Lane, last_created_at=instant(database, -timedelta(hours=3)))
    code, told = examine(database_url)
    assert code == 0
    assert "created 3 hours in the future: the clock was set back." in told


async def test_what_the_sweep_leaves_behind_is_told(
    database: Database, database_url: str, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await factories.hierarchy(database, {"a": {}})
    changed(database, Hierarchy, state=HierarchyState.DISCARDED)
    monkeypatch.setattr(doctor, "MAX_BACKLOG", 0)
    code, told = examine(database_url)
    assert code == 0
    assert "warning  sweeping    1 deleted hierarchies and 0 nodes to sweep" in told


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("revision", ["0003", None])
def test_a_database_that_was_not_migrated_is_told_to_be(
    kind: str, revision: str | None, tmp_path: Path, postgresql_server: str, examine: Examine
) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    if kind == "postgresql":
        url = postgres.new_database(postgresql_server)
    database = connect(url)
    if revision:
        upgrade(database, revision)
    else:
        database.write_engine.connect().close()
    database.close()
    code, told = examine(url)
    assert code == (1 if kind == "postgresql" else 0)
    assert f"at revision {revision or 'none'}; this version needs" in told
    assert "`jobs-gateway migrate`" in told


def test_a_database_of_a_later_version_is_a_problem(
    database: Database, database_url: str, examine: Examine
) -> None:
    with database.write_engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'later'"))
    code, told = examine(database_url)
    assert code == 1
    assert f"at revision later; this version needs {newest_revision()}" in told
    assert "install that version" in told


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
    code, told = examine(url)
    assert code == 1
    words = "problem  integrity" if damage == "a page" else "file is not a database"
    assert words in told


def test_a_file_without_a_log_of_writes_is_told(
    new_database: NewDatabase, examine: Examine
) -> None:
    url = new_database("sqlite")
    open_database(Settings(database_url=url)).close()
    with sqlite3.connect(sa.make_url(url).database or "") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    code, told = examine(url)
    assert code == 0
    assert "warning  database    The file is not in WAL mode" in told


def test_a_server_that_does_not_answer_is_a_problem_without_its_password(examine: Examine) -> None:
    code, told = examine("postgresql+psycopg://me:s3cret@127.0.0.1:1/catalogue")
    assert code == 1
    assert "me:***@127.0.0.1:1/catalogue" in told
    assert "s3cret" not in told


def test_a_folder_in_place_of_a_file_is_a_problem(tmp_path: Path, examine: Examine) -> None:
    code, told = examine(f"sqlite:///{tmp_path}")
    assert code == 1
    assert "problem  database    Cannot use the database sqlite:///" in told


def test_clocks_that_differ_and_transactions_that_were_forgotten_are_told(
    new_database: NewDatabase, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database("postgresql")
    monkeypatch.setattr(doctor, "MAX_IDLE_SECONDS", 0)
    with psycopg.connect(postgres.plain(url), autocommit=True) as connection:
        # What the server takes for its clock is half a minute ahead.
        connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$ SELECT pg_catalog.clock_timestamp() + interval '30 seconds' $$"
        )
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
        connection.autocommit = False
        connection.execute("SELECT 1")
        code, told = examine(url)
    assert code == 0
    assert "warning  clock       the database's is 30.0 s ahead of this machine's" in told
    assert "has been idle inside a transaction" in told


def test_nothing_is_written_by_who_looks(database: Database, database_url: str) -> None:
    with (
        pytest.raises(Exception, match=r"read-?only"),
        read_only_session(database_url) as session,
    ):
        session.execute(sa.delete(Lane).where(col(Lane.store) == "any"))


def test_mistakes_in_the_settings_are_told_beside_what_is_wrong_with_the_database(
    tmp_path: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_GATEWAY_PORT", "eighty")
    monkeypatch.setenv("JOBS_GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("JOBS_GATEWAY_HOTS", "")
    code, told = examine(f"sqlite:///{tmp_path}/none.db")
    assert code == 1
    for words in (
        "warning  settings    JOBS_GATEWAY_HOTS is not a setting. Did you mean JOBS_GATEWAY_HOST?",
        "problem  settings    JOBS_GATEWAY_PORT: Input should be a valid integer",
        "problem  settings    JOBS_GATEWAY_HOST: 0.0.0.0 can be reached",
        "warning  database    There is no file",
    ):
        assert words in told


def test_a_package_out_of_its_range_is_told(
    tmp_path: Path, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Metadata as an installed package has it, found before the real one.
    old = tmp_path / "orjson-1.0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: orjson\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, told = examine(f"sqlite:///{tmp_path}/none.db")
    assert code == 0
    assert "warning  versions    orjson is 1.0; tested with " in told
