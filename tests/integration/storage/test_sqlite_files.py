"""SQLite files: private, locked by one runner under any name, named by checked URLs."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import chdir, closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.storage.engine.connect import connect, parse_url
from app.storage.engine.database import (
    Database,
    DatabaseReadOnly,
    RunnerAlreadyPresent,
    UnusableDatabase,
)
from app.storage.migrations import upgrade
from tests import factories


def opened(path: Path) -> Database:
    return connect(f"sqlite:///{path}")


def mode(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual mask, by which new files can be read by all users."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_new_file_and_its_log_belong_to_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(opened(path)) as database:
        upgrade(database)
        assert database.acquire_runner_lock()
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["jobs.db", "jobs.db-shm", "jobs.db-wal"]
        assert {mode(file) for file in files} == {0o600}


def test_the_mode_of_an_existing_file_is_its_owners_decision(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.touch()
    path.chmod(0o640)
    with closing(opened(path)) as database:
        upgrade(database)
        assert {mode(file) for file in tmp_path.iterdir()} == {0o640}


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_second_runner_is_refused_by_whatever_name_it_opens_the_file(
    link: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    path, other = tmp_path / "jobs.db", tmp_path / "folder" / "other.db"
    other.parent.mkdir()
    with closing(opened(path)) as first:
        upgrade(first)
        assert first.acquire_runner_lock()
        link(other, path)
        with (
            closing(opened(other)) as second,
            pytest.raises(RunnerAlreadyPresent, match="other"),
        ):
            second.acquire_runner_lock()
    with closing(opened(other)) as second:
        assert second.acquire_runner_lock()


def test_a_file_that_cannot_be_opened_for_its_lock_is_refused_in_one_line(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "\x1bjobs.db")) as database:
        upgrade(database)
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(UnusableDatabase, match="cannot be locked") as refused:
            database.acquire_runner_lock()
        assert str(refused.value).isprintable()


def test_another_runner_is_reported_with_a_printable_name(tmp_path: Path) -> None:
    path = tmp_path / "\x1bjobs.db"
    with closing(opened(path)) as first, closing(opened(path)) as second:
        upgrade(first)
        assert first.acquire_runner_lock()
        with pytest.raises(RunnerAlreadyPresent) as refused:
            second.acquire_runner_lock()
        assert str(refused.value).isprintable()


async def test_a_read_only_file_refuses_changes_with_a_code_of_its_own(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "jobs.db")) as database:
        upgrade(database)
        with database.write_engine.connect() as connection:
            # The error of a file without write permission, which does not stop root.
            connection.exec_driver_sql("PRAGMA query_only = ON")
        with pytest.raises(DatabaseReadOnly):
            await factories.hierarchy(database, {})


def test_the_lock_of_the_runner_does_not_lock_sqlite_out(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(opened(path)) as first, closing(opened(path)) as second:
        upgrade(first)
        assert first.acquire_runner_lock()
        with second.write_engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE other (no INTEGER)"))


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:///./jobs.db", "jobs.db"),
        ("sqlite:///new folder/ü%20%25 #1.db", "new folder/ü % #1.db"),
        ("sqlite+pysqlite:///jobs.db?mode=rwc", "jobs.db"),
        ("sqlite:///file:jobs.db", "jobs.db"),
        ("sqlite:///file:new%20folder/a%3Fb.db?uri=true", "new folder/a?b.db"),
        ("sqlite:///file:{here}/jobs.db?mode=rwc&uri=true", "jobs.db"),
        ("sqlite:///file://localhost{here}/jobs.db", "jobs.db"),
        ("sqlite:///file:///{here}/jobs.db", "jobs.db"),
        ("sqlite:////{here}/jobs.db", "jobs.db"),
    ],
)
def test_the_url_of_a_file_opens_that_file(url: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "new folder").mkdir()
    with chdir(tmp_path), closing(connect(url.replace("{here}", str(tmp_path)))) as database:
        upgrade(database)
        assert database.name == str(tmp_path / file)
        assert (tmp_path / file).stat().st_size > 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://jobs.db", "has no host"),
        ("sqlite://me:s3cret@host/jobs.db", "has no host"),
        ("sqlite:///jobs.db?mode=ro", "unsupported parameter mode"),
        ("sqlite:///jobs.db?mode=rw", "unsupported parameter mode"),
        ("sqlite:///jobs.db?mode=ro&mode=rwc", "unsupported parameter mode"),
        ("sqlite:///file:jobs.db?immutable=1&uri=true", "unsupported parameter immutable"),
        ("sqlite:///jobs.db?timeout=1", "unsupported parameter timeout"),
        ("sqlite:///jobs.db?\x1b[2J=1", r"unsupported parameter \\x1b\[2J"),
        ("sqlite:///file://host/jobs.db", "its URI has no host"),
        ("sqlite:///file:jobs%00.db", "null character"),
        ("sqlite://", "In-memory"),
        ("sqlite:///", "In-memory"),
        ("sqlite:///:memory:", "In-memory"),
        ("sqlite:///%3Amemory%3A", "In-memory"),
        ("sqlite:///file::memory:?uri=true", "In-memory"),
        ("sqlite:///file:x?mode=memory&cache=shared&uri=true", "In-memory"),
        ("sqlite:///{here}", "it is a folder"),
        ("sqlite:///{here}/none/jobs.db", "No such file or directory"),
        ("sqlite:///{here}/file/jobs.db", "Not a directory"),
        ("sqlite:///{here}/loop", "symbolic links"),
        ("sqlite:///{here}/pipe", "not a regular file"),
        ("sqlite:////dev/null", "not a regular file"),
        ("sqlite:///" + "x" * 300, "File name too long"),
        ("file:jobs.db", "must name a SQLite file"),
        ("jobs.db", "must name a SQLite file"),
        ("", "must name a SQLite file"),
        ("sqlite+aiosqlite:///jobs.db", "must name a SQLite file"),
        ("postgresql://me:s3cret@host:port/db", "must name a SQLite file"),
        ("mysql://me:s3cret@host/db", "must name a SQLite file"),
    ],
)
def test_any_other_url_is_refused_in_a_sentence_without_secrets(
    url: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with chdir(tmp_path), pytest.raises(UnusableDatabase, match=words) as refused:
        connect(url.replace("{here}", str(tmp_path)))
    assert "\n" not in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "loop", "pipe"]


def test_the_password_of_a_query_is_hidden_like_any_other() -> None:
    url = parse_url("postgresql://me@host/db?password=s3cret&sslmode=require")
    assert url.password == "s3cret"
    assert "s3cret" not in url.render_as_string(hide_password=True)
    assert url.query == {"sslmode": "require"}
