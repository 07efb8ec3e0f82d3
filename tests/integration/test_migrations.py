import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.storage.database import Database
from app.storage.migrations import upgrade
from app.storage.tables import Hierarchy


def test_the_migrations_make_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.write_engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Hierarchy.metadata) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    with database.write_engine.begin() as connection:
        before = connection.exec_driver_sql("SELECT sql FROM sqlite_master ORDER BY 1").all()
    upgrade(database)
    with database.write_engine.begin() as connection:
        after = connection.exec_driver_sql("SELECT sql FROM sqlite_master ORDER BY 1").all()
    assert before == after


MAKE = """
import sys
from app.main import Settings, open_database
print("ready", flush=True)
sys.stdin.readline()
open_database(Settings(database_url=sys.argv[1])).close()
"""


def test_processes_that_make_the_same_file_at_once_can_all_use_it(tmp_path: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, f"sqlite:///{tmp_path}/new.db"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for maker in makers:
        assert maker.stdout
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin
        maker.stdin.write("\n")
        maker.stdin.flush()
    for maker in makers:
        maker.communicate(timeout=60)
    assert [maker.returncode for maker in makers] == [0, 0, 0]
