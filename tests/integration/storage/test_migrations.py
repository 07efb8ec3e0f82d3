"""Migrations: they match the models, keep data and may run concurrently."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.domain.hierarchies import HierarchyState, Owner, new_hierarchy_id
from app.domain.jobs import JobStatus, JobType
from app.services import attempts, nodes, queue
from app.storage.engine.database import Database, UnusableDatabase
from app.storage.migrations import newest_revision, revision_of, upgrade
from app.storage.sql.column_types import Instant
from app.storage.tables import Hierarchy
from tests import factories

FIRST = "0001"
BEFORE_AUTHORING = "0002"
BEFORE_QUEUE_MUTATIONS = "0003"

TABLES = Hierarchy.metadata.tables

JOB = sa.table(
    "job",
    sa.column("id", sa.Uuid),
    sa.column("source_id", sa.Uuid),
    sa.column("result_id", sa.Uuid),
    sa.column("created_at", Instant),
    sa.column("started_at", Instant),
    sa.column("completed_at", Instant),
    sa.column("updated_at", Instant),
    sa.column("include_products", sa.Boolean),
    sa.column("checkpoint", sa.JSON),
    *map(
        sa.column,
        (
            *("pk", "store", "job_seq", "type", "status", "version", "request_id"),
            *("requested_by", "name", "description", "items", "completed_items", "total_items"),
            *("epoch", "attempts", "turn"),
        ),
    ),
)
"""The table of jobs before revision 0006, as far as the tests fill it."""

VALUES: dict[type, Any] = {
    bool: True,
    int: 7,
    float: 1.5,
    str: "words",
    dict: {"fr": {"name": "Jardin"}},
    datetime: datetime(2026, 11, 22, 8, 30, 0, 123000, UTC),
    UUID: UUID("00000000-1111-4222-8333-444400000000"),
}


def tables_of(database: Database) -> sa.MetaData:
    """The tables, reflected from the database."""
    metadata = sa.MetaData()
    with database.write_engine.begin() as connection:
        metadata.reflect(connection)
    return metadata


def rows_of(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    tables = tables_of(database).sorted_tables
    with database.write_engine.begin() as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in tables
        }


def value_for(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.JSON):
        return VALUES[dict]
    if column.type.python_type is str:
        return VALUES[str][: column.type.length]  # type: ignore[attr-defined]
    return VALUES[column.type.python_type]


def test_the_migrations_create_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.write_engine.begin() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Hierarchy.metadata) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    def schema() -> list[str]:
        tables = tables_of(database).sorted_tables
        return [
            *(str(sa.schema.CreateTable(table)) for table in tables),
            *sorted(str(sa.schema.CreateIndex(i)) for table in tables for i in table.indexes),
        ]

    before = schema()
    upgrade(database)
    assert schema() == before


def test_an_upgrade_from_the_first_revision_keeps_every_row(empty: Database) -> None:
    upgrade(empty, FIRST)
    assert revision_of(empty) == FIRST
    tables = tables_of(empty).sorted_tables
    with empty.write_engine.begin() as connection:
        for table in tables:
            if table.name != "alembic_version":
                values = {column.name: value_for(column) for column in table.columns}
                connection.execute(sa.insert(table), values)
    before = rows_of(empty)
    upgrade(empty)
    after = rows_of(empty)

    assert after.pop("alembic_version") == [{"version_num": newest_revision()}]
    before.pop("alembic_version")
    assert after.keys() >= before.keys()
    assert all(len(rows) == 1 for rows in before.values())
    for name, (row,) in before.items():
        (upgraded,) = after[name]
        replaced = REPLACED.get(name, set())
        kept = {column: value for column, value in row.items() if column not in replaced}
        assert upgraded.items() >= kept.items()


REPLACED = {
    "job": {"source_id", "name", "description", "include_products"},
    "job_event": {"snapshot"},
}
"""Columns that revision 0006 replaces; test_migration_of_jobs tests it."""


AT = VALUES[datetime]
HIERARCHY = {
    "store": factories.STORE,
    "owner": Owner.STORE,
    "state": HierarchyState.READY,
    "name": "Garden",
    "locales": {},
    "created_at": AT,
    "updated_at": AT,
    "revision": 0,
    "node_count": 0,
    "association_count": 0,
}


def add_hierarchy(
    connection: sa.Connection, pk: int, numbers: Sequence[int], **values: Any
) -> UUID:
    """Insert a hierarchy and its nodes into tables of an old revision."""
    id = new_hierarchy_id()
    row = {**HIERARCHY, "pk": pk, "id": id, "node_count": len(numbers), **values}
    connection.execute(sa.insert(TABLES["hierarchy"]), row)
    nodes = [
        {
            "hierarchy_pk": pk,
            "node_no": number,
            "parent_no": 0,
            "depth": 1,
            "name": f"Node {number}",
            "sort_order": None,
            "touched": -number,
            "locales": {},
            "created_at": AT,
            "updated_at": AT,
        }
        for number in numbers
    ]
    if nodes:
        connection.execute(sa.insert(TABLES["node"]), nodes)
    return id


def test_a_hierarchy_from_before_authoring_continues_after_its_highest_node_number(
    empty: Database,
) -> None:
    upgrade(empty, BEFORE_AUTHORING)
    numbers = {1: range(1, 4), 2: (), 3: (5, 2, 9), 4: (1,)}
    with empty.write_engine.begin() as connection:
        for pk, node_numbers in numbers.items():
            add_hierarchy(connection, pk, node_numbers)
    upgrade(empty)
    last = {row["pk"]: row["last_node_no"] for row in rows_of(empty)["hierarchy"]}
    assert last == {1: 3, 2: 0, 3: 9, 4: 1}


async def test_a_copy_begun_before_authoring_ends_with_its_highest_node_number(
    empty: Database,
) -> None:
    upgrade(empty, BEFORE_AUTHORING)
    with empty.write_engine.begin() as connection:
        source = add_hierarchy(connection, 1, range(1, 6))
        add_hierarchy(connection, 2, range(1, 4), state=HierarchyState.COPYING, copied_from=source)
        job = {
            "id": VALUES[UUID],
            "store": factories.STORE,
            "job_seq": 1,
            "type": JobType.HIERARCHY_DUPLICATE,
            "status": JobStatus.STARTED,
            "version": 2,
            "created_at": AT,
            "started_at": AT,
            "updated_at": AT,
            "request_id": "test",
            "source_id": source,
            "include_products": False,
            "items": 5,
            "completed_items": 3,
            "total_items": 5,
            "epoch": 1,
            "attempts": 1,
            "checkpoint": CHECKPOINT,
        }
        connection.execute(sa.insert(JOB), job)
        lane = {
            "store": factories.STORE,
            "epoch": 1,
            "lease_until": AT,
            "job_seq": 1,
            "event_seq": 2,
        }
        connection.execute(sa.insert(TABLES["lane"]), {**LANE, **lane})
    upgrade(empty)
    began = {row["pk"]: row["last_node_no"] for row in rows_of(empty)["hierarchy"]}
    assert began == {1: 5, 2: 3}

    job_id = await factories.ran_job(empty)
    rows = rows_of(empty)
    (ran,) = rows["job"]
    assert (UUID(str(ran["id"])), ran["status"]) == (job_id, JobStatus.SUCCESS)
    copy = next(row for row in rows["hierarchy"] if row["pk"] == 2)
    assert (copy["state"], copy["node_count"], copy["last_node_no"]) == ("ready", 5, 5)
    created = await empty.write(
        nodes.create, factories.STORE, UUID(str(copy["id"])), {"name": "New"}
    )
    assert created.node.node_no == 6


async def test_jobs_from_before_queue_mutations_keep_their_order_and_can_be_moved(
    empty: Database,
) -> None:
    upgrade(empty, BEFORE_QUEUE_MUTATIONS)
    with empty.write_engine.begin() as connection:
        source = add_hierarchy(connection, 101, (), last_node_no=0)
        add_hierarchy(connection, 102, range(1, 4), last_node_no=7, copied_from=source)
        # Not in the order of their numbers.
        for seq in (3, 1, 4, 2):
            job = {
                "id": UUID(int=seq),
                "store": factories.STORE,
                "job_seq": seq,
                "type": JobType.HIERARCHY_DUPLICATE,
                "status": JobStatus.PENDING,
                "version": 1,
                "created_at": AT,
                "updated_at": AT,
                "request_id": "test",
                "source_id": source,
                "include_products": False,
                "items": 0,
                "completed_items": 0,
                "epoch": 0,
                "attempts": 0,
            }
            connection.execute(sa.insert(JOB), job)
        lane = {"store": factories.STORE, "epoch": 0, "job_seq": 4, "event_seq": 0, "pending": 4}
        connection.execute(sa.insert(TABLES["lane"]), {**LANE, **lane})
    upgrade(empty)
    known = {row["pk"]: row["copied_node_no"] for row in rows_of(empty)["hierarchy"]}
    assert known == {101: 0, 102: 7}
    await factories.pending_duplication(empty, source)
    await empty.write(queue.move_to_front, factories.STORE, UUID(int=3))
    ran = [await factories.ran_job(empty) for _ in range(5)]
    assert [id.int for id in ran[:4]] == [3, 1, 2, 4]
    assert await empty.write(attempts.claim, factories.STORE, UUID(int=1), factories.LEASE) is None


CHECKPOINT = {
    "copy_pk": 2,
    "source_pk": 1,
    "revision": 0,
    "phase": "nodes",
    "after": [3],
    "nodes": 3,
    "associations": 0,
    "reverse": 0,
    "total": 5,
    "restarts": 0,
    "at_once": False,
}
"""A checkpoint in the format of revision 0002."""
LANE = {"pending": 0, "pending_items": 0, "pace_seconds": 0.0, "pace_items": 0.0}


def test_a_database_of_a_later_version_is_refused(database: Database) -> None:
    with database.write_engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnusableDatabase, match="9999"):
        upgrade(database)
    assert revision_of(database) == "9999"


MIGRATE = """
import sys
from app.wiring import migrate
from app.settings import Settings
print("ready", flush=True)
sys.stdin.readline()
migrate(Settings(database_url=sys.argv[1]), check=False)
"""


@pytest.mark.process
def test_processes_that_migrate_the_same_database_at_once_can_all_use_it(empty: Database) -> None:
    url = empty.url.render_as_string(hide_password=False)
    migrating = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in migrating:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in migrating:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in migrating:
        process.communicate(timeout=60)
    assert [process.returncode for process in migrating] == [0, 0, 0]
    assert revision_of(empty) == newest_revision()
