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
    upgrade(database.write_engine)
    with database.write_engine.begin() as connection:
        after = connection.exec_driver_sql("SELECT sql FROM sqlite_master ORDER BY 1").all()
    assert before == after
