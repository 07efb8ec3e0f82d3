"""A write is one transaction over session and compiled statements."""

import sqlite3
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from sqlmodel import col, select

from app.domain.jobs import Duplication, JobType
from app.services import attempts, jobs
from app.services.jobs import Requester
from app.storage import events, hierarchies, lanes
from app.storage.engine.database import Database
from app.storage.engine.statements import CompiledStatement
from app.storage.engine.transaction import Transaction
from app.storage.tables import Hierarchy, JobEvent, Lane
from tests import factories
from tests.support.entities import session_of

STORE = factories.STORE
REQUESTER = Requester(STORE, request_id="test")


class WriteFailed(Exception):
    """The exception of a failing write."""


def write_both_ways(tx: Transaction) -> None:
    """Change a hierarchy by tx, and enqueue a job by compiled statements.

    The two alternate, so that each kind comes first once.
    """
    by_session = select(Hierarchy).order_by(col(Hierarchy.pk))
    session_of(tx).exec(by_session).one().name += "!"
    lane = lanes.lock(tx, STORE)
    jobs.enqueue(tx, lane, REQUESTER, JobType.PRICE_IMPORT, items=1)
    session_of(tx).exec(by_session).one().slug = "changed"


def stored_state(tx: Transaction) -> tuple[str, int, int]:
    """The hierarchy's name, the number of events, and the lane's last event number."""
    name = session_of(tx).exec(select(Hierarchy.name)).one()
    logged = session_of(tx).exec(select(sa.func.count()).select_from(JobEvent)).one()
    numbers = session_of(tx).exec(select(Lane.event_seq)).all()
    return name, logged, sum(numbers)


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
    again = CompiledStatement(lambda _: sa.text("INSERT INTO lane SELECT * FROM lane"))

    def refused(tx: Transaction) -> None:
        write_both_ways(tx)
        again.changed(tx, {})

    await stocked.write(write_both_ways)
    with pytest.raises(sa.exc.DBAPIError) as failure:
        await stocked.write(refused)
    assert isinstance(failure.value.orig, (sqlite3.IntegrityError, psycopg.IntegrityError))
    assert await stocked.read(stored_state) == ("Garden!", 1, 1)
    await stocked.write(write_both_ways)
    assert await stocked.read(stored_state) == ("Garden!!", 2, 2)


async def test_a_compiled_statement_sees_pending_changes_of_entities(stocked: Database) -> None:
    count = CompiledStatement(lambda _: sa.select(sa.func.count()).select_from(Lane))

    def written(tx: Transaction) -> int:
        session_of(tx).add(Lane(store="another"))
        [(number,)] = count.rows(tx, {})
        return int(number)

    assert await stocked.write(written) == 1


async def test_a_lane_locked_twice_is_one_entity_whose_numbers_have_no_gap(
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
    assert set(statements) - {"BEGIN"} == {"SELECT"}


async def test_a_claim_and_an_idempotency_key_are_read_as_written(stocked: Database) -> None:
    (source,) = await stocked.read(lambda tx: session_of(tx).exec(select(Hierarchy.id)).all())
    duplication = Duplication(source, name="Copy", include_products=True)
    first = await stocked.write(jobs.request_duplication, REQUESTER, duplication, "key")
    again = await stocked.write(jobs.request_duplication, REQUESTER, duplication, "key")
    assert (again.replayed, again.job.id) == (True, first.job.id)
    claimed = await stocked.write(attempts.claim, STORE, uuid4(), timedelta(seconds=30))
    assert claimed is not None
    assert (claimed.id, claimed.name, claimed.include_products) == (first.job.id, "Copy", True)
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
        by_entity = session_of(tx).exec(select(Lane.event_seq).where(Lane.store == STORE)).one()
        return before, by_entity, lanes.event_head(tx, STORE)

    await stocked.write(lanes.lock, STORE)
    before = await stocked.read(lanes.event_head, STORE)
    assert await stocked.read(heads) == (before, before, before)
    assert await stocked.read(heads) == (before + 1, before + 1, before + 1)
    other_engine.dispose()
