"""A write is one transaction, whichever way its statements go: through the session, or as compiled
ones by the driver itself."""

import sqlite3
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from sqlmodel import Session, col, select

from app.domain.jobs import Duplication, JobType
from app.services import attempts, jobs
from app.services.jobs import Requester
from app.storage import events, hierarchies, lanes
from app.storage.engine.database import Database, before_commit
from app.storage.sql.statements import CompiledStatement
from app.storage.tables import Hierarchy, JobEvent, Lane
from tests import factories

STORE = factories.STORE
REQUESTER = Requester(STORE, request_id="given")


class Thrown(Exception):
    """What goes wrong in a write."""


def in_both_ways(session: Session) -> None:
    """A change of a hierarchy through the session, and a job by statements: each first once."""
    by_session = select(Hierarchy).order_by(col(Hierarchy.pk))
    session.exec(by_session).one().name += "!"
    lane = lanes.lock(session, STORE)
    jobs.enqueue(session, lane, REQUESTER, JobType.PRICE_IMPORT, items=1)
    session.exec(by_session).one().slug = "changed"


def kept(session: Session) -> tuple[str, int, int]:
    """The hierarchy's name, how many events there are, and the lane's number of the last."""
    name = session.exec(select(Hierarchy.name)).one()
    logged = session.exec(select(sa.func.count()).select_from(JobEvent)).one()
    numbers = session.exec(select(Lane.event_seq)).all()
    return name, logged, sum(numbers)


@pytest.fixture(params=["driver", "traced"])
async def stocked(database: Database, request: pytest.FixtureRequest) -> Database:
    await factories.hierarchy(database, {"A": {}})
    if request.param == "traced":
        database.trace(TracerProvider().get_tracer("tests"))
    return database


async def test_what_is_written_in_both_ways_is_kept_together(stocked: Database) -> None:
    await stocked.write(in_both_ways)
    assert await stocked.read(kept) == ("Garden!", 1, 1)


async def test_it_is_undone_together_whatever_goes_wrong(stocked: Database) -> None:
    await stocked.write(in_both_ways)

    def broken_in_the_end(session: Session) -> None:
        in_both_ways(session)
        raise Thrown

    def broken_before_the_commit(session: Session) -> None:
        def broken() -> None:
            raise Thrown

        before_commit(session, broken)
        in_both_ways(session)

    for write in (broken_in_the_end, broken_before_the_commit):
        with pytest.raises(Thrown):
            await stocked.write(write)
        assert await stocked.read(kept) == ("Garden!", 1, 1)


async def test_a_statement_that_the_database_refuses_undoes_it_and_the_next_write_is_none_the_worse(
    stocked: Database,
) -> None:
    again = CompiledStatement(lambda _: sa.text("INSERT INTO lane SELECT * FROM lane"))

    def refused(session: Session) -> None:
        in_both_ways(session)
        again.changed(session, {})

    await stocked.write(in_both_ways)
    with pytest.raises(sa.exc.DBAPIError) as failure:
        await stocked.write(refused)
    assert isinstance(failure.value.orig, (sqlite3.IntegrityError, psycopg.IntegrityError))
    assert await stocked.read(kept) == ("Garden!", 1, 1)
    await stocked.write(in_both_ways)
    assert await stocked.read(kept) == ("Garden!!", 2, 2)


async def test_a_statement_sees_what_entities_were_given_before(stocked: Database) -> None:
    count = CompiledStatement(lambda _: sa.select(sa.func.count()).select_from(Lane))

    def written(session: Session) -> int:
        session.add(Lane(store="another"))
        [(number,)] = count.rows(session, {})
        return int(number)

    assert await stocked.write(written) == 1


async def test_a_lane_locked_twice_is_one_and_its_numbers_have_no_gap(stocked: Database) -> None:
    def twice(session: Session) -> list[int]:
        return [
            jobs.enqueue(
                session, lanes.lock(session, STORE), REQUESTER, JobType.PRICE_IMPORT, items=1
            ).job_seq
            for _ in range(2)
        ]

    assert await stocked.write(twice) == [1, 2]
    assert await stocked.write(twice) == [3, 4]
    stretch = await stocked.read(events.after, STORE, 0, 10)
    assert [event.seq for event in stretch.events] == [1, 2, 3, 4]


async def test_a_lane_that_was_only_looked_at_is_not_written(database: Database) -> None:
    database.trace(TracerProvider().get_tracer("tests"))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement.split()[0])

    await database.write(lanes.lock, STORE)
    sa.event.listen(database.write_engine, "before_cursor_execute", note)
    await database.write(lanes.lock, STORE)
    assert set(statements) - {"BEGIN"} == {"SELECT"}


async def test_a_claim_and_a_key_come_back_as_they_were_written(stocked: Database) -> None:
    (source,) = await stocked.read(lambda session: session.exec(select(Hierarchy.id)).all())
    duplication = Duplication(source, name="Copy", include_products=True)
    asked = await stocked.write(jobs.request_duplication, REQUESTER, duplication, "key")
    again = await stocked.write(jobs.request_duplication, REQUESTER, duplication, "key")
    assert (again.replayed, again.job.id) == (True, asked.job.id)
    claimed = await stocked.write(attempts.claim, STORE, uuid4(), timedelta(seconds=30))
    assert claimed is not None
    assert (claimed.id, claimed.name, claimed.include_products) == (asked.job.id, "Copy", True)
    assert (claimed.version, claimed.epoch, claimed.checkpoint) == (2, 1, None)
    stretch = await stocked.read(events.after, STORE, 0, 10)
    assert [events.job_of(event).status for event in stretch.events] == [
        asked.job.status,
        claimed.status,
    ]
    assert events.job_of(stretch.events[1]).started_at == claimed.started_at
    assert await stocked.read(hierarchies.by_id, STORE, source)


async def test_a_read_is_one_picture_however_it_is_asked(stocked: Database) -> None:
    beside = sa.create_engine(stocked.url)

    def heads(session: Session) -> tuple[int, int, int]:
        before = lanes.event_head(session, STORE)
        with beside.begin() as other:
            other.execute(sa.update(Lane).values(event_seq=Lane.event_seq + 1))
        by_entity = session.exec(select(Lane.event_seq).where(Lane.store == STORE)).one()
        return before, by_entity, lanes.event_head(session, STORE)

    await stocked.write(lanes.lock, STORE)
    before = await stocked.read(lanes.event_head, STORE)
    assert await stocked.read(heads) == (before, before, before)
    assert await stocked.read(heads) == (before + 1, before + 1, before + 1)
    beside.dispose()
