"""A write is one transaction over prepared statements and those of SQLAlchemy."""

import sqlite3
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from sqlmodel import col

from app.domain.job_types.hierarchy_duplicate import Duplication
from app.domain.jobs import JobType
from app.services import attempts, jobs
from app.services.jobs import Requester
from app.storage import events, hierarchies, lanes
from app.storage import jobs as jobs_stored
from app.storage.engine.database import Database
from app.storage.engine.statements import PreparedChange, PreparedQuery
from app.storage.engine.transaction import Transaction
from app.storage.sql.dialects import insert_ignore
from app.storage.sql.rows import RowInsert
from app.storage.tables import Hierarchy, JobEvent, Lane, LaneRow
from tests import factories

STORE = factories.STORE
REQUESTER = Requester(STORE, request_id="test")


INSERT = RowInsert(LaneRow)
"""Inserts a lane by the driver."""


class WriteFailed(Exception):
    """The exception of a failing write."""


def write_both_ways(tx: Transaction) -> None:
    """Change a hierarchy by statements of SQLAlchemy, and enqueue a job by prepared ones.

    The two alternate, so that each kind follows the other.
    """
    tx.changed(sa.update(Hierarchy).values(name=col(Hierarchy.name).concat("!")))
    lane = lanes.lock(tx, STORE)
    jobs.enqueue(tx, lane, REQUESTER, JobType.PRICE_IMPORT, items=1)
    tx.changed(sa.update(Hierarchy).values(slug="changed"))


def stored_state(tx: Transaction) -> tuple[str, int, int]:
    """The hierarchy's name, the number of events, and the lane's last event number."""
    [(name,)] = tx.rows(sa.select(col(Hierarchy.name)))
    [(logged,)] = tx.rows(sa.select(sa.func.count()).select_from(JobEvent))
    numbers = tx.rows(sa.select(col(Lane.event_seq)))
    return name, logged, sum(number for (number,) in numbers)


def stored_stores(tx: Transaction) -> list[str]:
    """The stores that have a lane."""
    return [store for (store,) in tx.rows(sa.select(col(Lane.store)).order_by(col(Lane.store)))]


@pytest.fixture(params=["driver", "traced"])
async def stocked(database: Database, request: pytest.FixtureRequest) -> Database:
    await factories.hierarchy(database, {"A": {}})
    if request.param == "traced":
        database.trace(TracerProvider().get_tracer("tests"))
    return database


async def test_both_kinds_of_statements_are_committed_together(stocked: Database) -> None:
    await stocked.write(write_both_ways)
    assert await stocked.read(stored_state) == ("Garden!", 1, 1)


async def test_both_kinds_of_statements_are_rolled_back_together(stocked: Database) -> None:
    await stocked.write(write_both_ways)

    def broken_in_the_end(tx: Transaction) -> None:
        write_both_ways(tx)
        raise WriteFailed

    def broken_before_the_commit(tx: Transaction) -> None:
        def broken() -> None:
            raise WriteFailed

        tx.before_commit(broken)
        write_both_ways(tx)

    for write in (broken_in_the_end, broken_before_the_commit):
        with pytest.raises(WriteFailed):
            await stocked.write(write)
        assert await stocked.read(stored_state) == ("Garden!", 1, 1)


async def test_a_refused_statement_rolls_the_write_back_and_the_next_write_succeeds(
    stocked: Database,
) -> None:
    again = PreparedChange(lambda _: sa.text("INSERT INTO lane SELECT * FROM lane"))

    def refused(tx: Transaction) -> None:
        write_both_ways(tx)
        tx.changed(again)

    await stocked.write(write_both_ways)
    with pytest.raises(sa.exc.DBAPIError) as failure:
        await stocked.write(refused)
    assert isinstance(failure.value.orig, (sqlite3.IntegrityError, psycopg.IntegrityError))
    assert await stocked.read(stored_state) == ("Garden!", 1, 1)
    await stocked.write(write_both_ways)
    assert await stocked.read(stored_state) == ("Garden!!", 2, 2)


async def test_a_statement_of_either_kind_sees_the_writes_of_the_other(stocked: Database) -> None:
    query = sa.select(sa.func.count()).select_from(Lane)
    prepared = PreparedQuery(lambda _: query)

    def written(tx: Transaction) -> tuple[int, int]:
        tx.changed(sa.insert(Lane).values(store="by SQLAlchemy"))
        [(seen_by_driver,)] = tx.rows(prepared)
        INSERT.row(tx, store="by the driver")
        [(seen_by_sqlalchemy,)] = tx.rows(query)
        return seen_by_driver, seen_by_sqlalchemy

    assert await stocked.write(written) == (1, 2)


async def test_a_change_returns_the_number_of_its_rows(stocked: Database) -> None:
    def written(tx: Transaction) -> list[int]:
        lanes_of_all = sa.select(sa.literal("copy of ").concat(col(Lane.store)))
        return [
            tx.changed(sa.insert(Lane), [{"store": "north"}, {"store": "south"}]),
            insert_ignore(tx, Lane, [{"store": "south"}]),
            insert_ignore(tx, Lane, [{"store": "south"}, {"store": "west"}]),
            tx.changed(sa.insert(Lane).from_select(["store"], lanes_of_all)),
            tx.changed(sa.update(Lane).values(epoch=1)),
            tx.changed(PreparedChange(lambda _: sa.delete(Lane))),
        ]

    assert await stocked.write(written) == [2, 0, 1, 3, 6, 6]


async def test_a_write_by_the_driver_alone_is_committed(stocked: Database) -> None:
    await stocked.write(lambda tx: INSERT.row(tx, store="another"))
    assert await stocked.read(stored_stores) == ["another"]


async def test_a_write_before_the_commit_is_committed_with_the_transaction(
    stocked: Database,
) -> None:
    def later(tx: Transaction) -> list[str]:
        def write() -> None:
            INSERT.row(tx, store="last")

        tx.before_commit(write)
        INSERT.row(tx, store="first")
        return stored_stores(tx)

    assert await stocked.write(later) == ["first"]
    assert await stocked.read(stored_stores) == ["first", "last"]


async def test_a_lane_locked_twice_is_one_row_whose_numbers_have_no_gap(
    stocked: Database,
) -> None:
    def twice(tx: Transaction) -> list[int]:
        return [
            jobs.enqueue(
                tx, lanes.lock(tx, STORE), REQUESTER, JobType.PRICE_IMPORT, items=1
            ).job_seq
            for _ in range(2)
        ]

    assert await stocked.write(twice) == [1, 2]
    assert await stocked.write(twice) == [3, 4]
    stretch = await stocked.read(events.after, STORE, 0, 10)
    assert [event.seq for event in stretch.events] == [1, 2, 3, 4]


async def test_a_lane_that_is_only_read_is_not_written(database: Database) -> None:
    database.trace(TracerProvider().get_tracer("tests"))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement.split()[0])

    await database.write(lanes.lock, STORE)
    sa.event.listen(database.write_engine, "before_cursor_execute", note)
    await database.write(lanes.lock, STORE)
    # Through a pooler each transaction sets its settings.
    assert set(statements) - {"BEGIN", "SET"} == {"SELECT"}


async def test_a_claim_and_an_idempotency_key_are_read_as_written(stocked: Database) -> None:
    [(source,)] = await stocked.read(lambda tx: tx.rows(sa.select(col(Hierarchy.id))))
    duplication = Duplication(source, name="Copy", include_products=True)
    first = await stocked.write(jobs.request, REQUESTER, duplication, "key")
    again = await stocked.write(jobs.request, REQUESTER, duplication, "key")
    assert (again.replayed, again.job.id) == (True, first.job.id)
    claimed = await stocked.write(attempts.claim, STORE, uuid4(), timedelta(seconds=30))
    assert claimed is not None
    assert claimed.id == first.job.id
    assert jobs_stored.args_of(claimed, Duplication) == duplication
    assert (claimed.version, claimed.epoch, claimed.checkpoint) == (2, 1, None)
    stretch = await stocked.read(events.after, STORE, 0, 10)
    assert [events.job_of(event).status for event in stretch.events] == [
        first.job.status,
        claimed.status,
    ]
    assert events.job_of(stretch.events[1]).started_at == claimed.started_at
    assert await stocked.read(hierarchies.by_id, STORE, source)


async def test_a_read_sees_one_snapshot_in_both_kinds_of_statements(stocked: Database) -> None:
    other_engine = sa.create_engine(stocked.url)

    def heads(tx: Transaction) -> tuple[int, int, int]:
        before = lanes.event_head(tx, STORE)
        with other_engine.begin() as connection:
            connection.execute(sa.update(Lane).values(event_seq=Lane.event_seq + 1))
        [(by_sqlalchemy,)] = tx.rows(sa.select(col(Lane.event_seq)).where(col(Lane.store) == STORE))
        return before, by_sqlalchemy, lanes.event_head(tx, STORE)

    await stocked.write(lanes.lock, STORE)
    before = await stocked.read(lanes.event_head, STORE)
    assert await stocked.read(heads) == (before, before, before)
    assert await stocked.read(heads) == (before + 1, before + 1, before + 1)
    other_engine.dispose()
