"""A worker that is stopped for longer than its lease and then continues: another worker has its job
by then, and no write of the zombie is committed.

Each worker is a PostgreSQL user of its own, and triggers record each write with its user and
transaction. Rolled back writes leave no record.
"""

import os
import signal
import subprocess
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import product
from random import Random
from time import monotonic
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from app.domain.jobs import JobStatus
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.migrations import upgrade
from tests import factories
from tests.oracles.history import history_of
from tests.support import postgres
from tests.support.processes import LiveProcess, start_worker

pytestmark = pytest.mark.fault

NODES = 20_000
PRODUCTS_PER_NODE = 5
ITEMS = NODES * (1 + PRODUCTS_PER_NODE)

LEASE_SECONDS = 1
TAKEN_OVER_WITHIN_SECONDS = LEASE_SECONDS + 10
LOOK_EVERY_SECONDS = 0.01
PATIENCE_SECONDS = 60

USERS = ("one", "two")
COMPARED = {
    "node": "node_no, parent_no, depth, name, slug, description, sort_order, touched",
    "node_product": "node_no, product_pk, curated_position",
    "product_node": "product_pk, node_no",
}
"""The tables of a tree, with the columns that are equal in a copy and its source."""

GROW = f"""
UPDATE hierarchy SET node_count = {NODES}, association_count = {NODES * PRODUCTS_PER_NODE};
INSERT INTO node (
    hierarchy_pk, node_no, parent_no, depth, name, slug, touched, locales, created_at, updated_at
)
SELECT pk, no, no / 10, length(no::text), 'Node ' || no, 'node-' || no, -no, '{{}}', now(), now()
FROM hierarchy, generate_series(1, {NODES}) AS no;
INSERT INTO node_product (hierarchy_pk, node_no, product_pk, curated_position)
SELECT hierarchy_pk, node_no, (node_no * 7919 + place) % 1000, nullif(place, 0)
FROM node, generate_series(0, {PRODUCTS_PER_NODE - 1}) AS place;
INSERT INTO product_node (hierarchy_pk, product_pk, node_no)
SELECT hierarchy_pk, product_pk, node_no FROM node_product;
"""

NOTE_JOBS_AND_HIERARCHIES = """
CREATE TABLE written (
    no bigserial PRIMARY KEY,
    who text NOT NULL DEFAULT session_user,
    transaction text NOT NULL DEFAULT pg_current_xact_id()::text,
    what text NOT NULL, pk bigint NOT NULL, epoch bigint, rows bigint NOT NULL DEFAULT 1
);
CREATE FUNCTION note_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO written (what, pk, epoch) VALUES ('job', NEW.pk, NEW.epoch);
    PERFORM pg_notify(
        'job', concat_ws(' ', session_user, NEW.pk, NEW.epoch, NEW.completed_items, NEW.status)
    );
    RETURN NULL;
END $$;
CREATE FUNCTION note_hierarchy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO written (what, pk) VALUES ('hierarchy', NEW.pk);
    RETURN NULL;
END $$;
CREATE FUNCTION note_rows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO written (what, pk, rows)
    SELECT TG_TABLE_NAME, hierarchy_pk, count(*) FROM touched GROUP BY hierarchy_pk;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON job FOR EACH ROW EXECUTE FUNCTION note_job();
CREATE TRIGGER note AFTER INSERT OR UPDATE ON hierarchy FOR EACH ROW
    EXECUTE FUNCTION note_hierarchy();
"""
NOTE_ROWS = """
CREATE TRIGGER note_inserts AFTER INSERT ON {table} REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION note_rows();
CREATE TRIGGER note_deletes AFTER DELETE ON {table} REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION note_rows();
"""


class Moment(Enum):
    """The point at which a worker is stopped."""

    BETWEEN_CHUNKS = "between chunks"
    """Outside all transactions: only the fence prevents the next one."""
    IN_A_CHUNK = "in a chunk"
    """Inside a chunk's transaction: the rows are written, the job's row is locked."""
    IN_THE_END = "at the end"
    """Inside the last transaction: everything is written, the lane is locked."""


class Return(Enum):
    """The time at which a zombie continues."""

    DURING = "while its successor runs"
    AFTER = "after the job's end"
    BEFORE = "before its successor"
    """The successor is stopped as well, and is a zombie once the first worker is back."""


@dataclass(frozen=True, slots=True)
class Update:
    """A committed update of a job."""

    who: str
    job_pk: int
    epoch: int
    completed: int
    status: JobStatus

    @property
    def has_ended(self) -> bool:
        """True if the job's status is final."""
        return self.status.is_final


class Witness:
    """Observes commits and waits for locks, and can hold locks itself."""

    def __init__(self, url: str) -> None:
        self._listening, self._looking, self._locking = (
            psycopg.connect(postgres.plain(url), autocommit=True) for _ in range(3)
        )
        self._listening.execute("LISTEN job")
        self._updates: deque[Update] = deque()

    def close(self) -> None:
        for connection in (self._listening, self._looking, self._locking):
            connection.close()

    def next_update(self) -> Update:
        """Wait for the next committed update of a job."""
        if not self._updates:
            for notice in self._listening.notifies(timeout=PATIENCE_SECONDS, stop_after=1):
                who, job_pk, epoch, completed, status = notice.payload.split()
                self._updates.append(
                    Update(who, int(job_pk), int(epoch), int(completed), JobStatus(status))
                )
        assert self._updates, f"no update of any job for {PATIENCE_SECONDS} s"
        return self._updates.popleft()

    def update_until(self, matches: Callable[[Update], bool]) -> Update:
        """Wait for the next update that matches."""
        while not matches(update := self.next_update()):
            pass
        return update

    def execute(self, statements: str) -> None:
        self._looking.execute(statements.encode())

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._looking.execute(query.encode(), values).fetchall()

    def value(self, query: str, *values: object) -> Any:
        """Run a query for one value."""
        ((value,),) = self.rows(query, *values)
        return value

    def waits(self, user: str, to: str) -> bool:
        """Return True if a worker waits for a lock, with a statement that starts with `to`."""
        is_waiting: bool = self.value(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE usename = %s AND wait_event_type = 'Lock' AND query LIKE %s)",
            user,
            f"{to}%",
        )
        return is_waiting

    def is_inside(self, user: str) -> bool:
        """Return True if a worker is inside a transaction."""
        is_active: bool = self.value(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = %s AND state != 'idle')",
            user,
        )
        return is_active

    @contextmanager
    def locking(self, table: str, pk: int) -> Iterator[None]:
        """Lock a row during the block."""
        query = f"SELECT FROM {table} WHERE pk = %s FOR NO KEY UPDATE"
        with self._locking.transaction():
            self._locking.execute(query.encode(), [pk])
            yield

    def compare(self, copy_pk: int, source_pk: int) -> None:
        """Check that the rows of a copy equal those of its source."""
        for table, columns in COMPARED.items():
            copy, source = (
                f"SELECT {columns} FROM {table} WHERE hierarchy_pk = {pk}"
                for pk in (copy_pk, source_pk)
            )
            assert self.rows(f"{copy} EXCEPT ALL {source} LIMIT 1") == []
            assert self.rows(f"{source} EXCEPT ALL {copy} LIMIT 1") == []

    def clean(self, copy_pk: int) -> None:
        """Delete the rows of a copy without firing triggers."""
        with self._looking.transaction():
            self.execute("SET LOCAL session_replication_role = replica")
            for table in COMPARED:
                self.execute(f"DELETE FROM {table} WHERE hierarchy_pk = {copy_pk}")


def start_worker_as(user: str, url: str) -> LiveProcess:
    """Start a worker as a database user."""
    named = sa.make_url(url).set(username=user).render_as_string(hide_password=False)
    return start_worker(named, JOBS_GATEWAY_LEASE_SECONDS=str(LEASE_SECONDS))


def look_until(running: LiveProcess, seen: Callable[[], bool]) -> None:
    """Wait until `seen` returns True. The process must keep running."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not seen():
        assert monotonic() < deadline
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(timeout=LOOK_EVERY_SECONDS)


def halt(worker: LiveProcess) -> None:
    """Stop a worker (SIGSTOP). Return once it is stopped."""
    worker.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, worker.process.pid, os.WSTOPPED)


def go_on(worker: LiveProcess) -> None:
    """Continue a stopped worker (SIGCONT)."""
    worker.process.send_signal(signal.SIGCONT)


def halt_at(moment: Moment, witness: Witness, worker: LiveProcess, held: Update) -> None:
    """Stop a copying worker at a moment. Return once it is stopped."""
    if moment is Moment.BETWEEN_CHUNKS:
        halt(worker)
        while witness.is_inside(held.who):
            go_on(worker)
            halt(worker)
        return
    copy_pk = witness.value("SELECT checkpoint ->> 'copy_pk' FROM job WHERE pk = %s", held.job_pk)
    table, pk = ("job", held.job_pk) if moment is Moment.IN_A_CHUNK else ("hierarchy", int(copy_pk))
    with witness.locking(table, pk):
        look_until(worker, lambda: witness.waits(held.who, f"UPDATE {table} "))
        halt(worker)


def taken_over(witness: Witness, held: Update) -> tuple[Update, float]:
    """Wait for the takeover of a job from a stopped worker. Return it, and the seconds."""
    began = monotonic()
    update = witness.update_until(lambda update: update.epoch > held.epoch or update.has_ended)
    assert not update.has_ended, f"{update.who} ended a job without a takeover"
    return update, monotonic() - began


def survive(
    witness: Witness,
    workers: Mapping[str, LiveProcess],
    moment: Moment,
    comes_back: Return,
    random: Random,
) -> list[float]:
    """Stop the copying worker in the middle, and continue it later, until the job has ended.

    Return the seconds of each takeover.
    """
    far_enough = random.uniform(0.1, 0.5) * ITEMS
    held = witness.update_until(lambda update: update.completed >= far_enough or update.has_ended)
    assert not held.has_ended
    zombie = workers[held.who]
    halt_at(moment, witness, zombie, held)
    update, seconds = taken_over(witness, held)
    took = [seconds]
    if comes_back is Return.BEFORE:
        successor = workers[update.who]
        halt(successor)
        go_on(zombie)
        update, seconds = taken_over(witness, update)
        took.append(seconds)
        go_on(successor)
    if comes_back is Return.DURING:
        go_on(zombie)
    witness.update_until(lambda update: update.has_ended)
    if comes_back is Return.AFTER:
        go_on(zombie)
    return took


def written_by_zombies(witness: Witness, copies: Mapping[int, int]) -> Counter[str]:
    """Count the updates and rows that workers committed without holding the job.

    `copies` has the copy's key per job key.
    """
    written = witness.rows(
        "SELECT who, transaction, what, pk, epoch, rows FROM written WHERE who = ANY(%s)"
        " ORDER BY no",
        list(USERS),
    )
    holders: dict[int, tuple[str, int]] = {}
    fenced: dict[int, set[str]] = {job_pk: set() for job_pk in copies}
    counts: Counter[str] = Counter()
    for who, transaction, table, pk, epoch, _ in written:
        if table != "job":
            continue
        if pk not in holders or epoch > holders[pk][1]:
            holders[pk] = (who, epoch)
        if holders[pk] == (who, epoch):
            fenced[pk].add(transaction)
        else:
            counts["job updates"] += 1
    transactions = {copies[job_pk]: fenced[job_pk] for job_pk in copies}
    for _, transaction, table, pk, _, rows in written:
        if table != "job" and transaction not in transactions.get(pk, ()):
            counts["rows"] += rows
    return counts


@contextmanager
def witnessed_database() -> Iterator[tuple[Database, Witness]]:
    """Yield a database on a new server, and its witness."""
    with postgres.cluster() as server:
        url = postgres.new_database(server.server_url)
        with closing(connect(url)) as database, closing(Witness(url)) as witness:
            upgrade(database)
            witness.execute(NOTE_JOBS_AND_HIERARCHIES)
            for table in COMPARED:
                witness.execute(NOTE_ROWS.format(table=table))
            for user in USERS:
                witness.execute(f"CREATE ROLE {user} SUPERUSER LOGIN")
            yield database, witness


@pytest.mark.timeout(1800)
async def test_no_write_of_a_worker_is_committed_after_the_takeover_of_its_job(
    counted: Callable[[int, int], int], seed: int, report: Callable[[str], None]
) -> None:
    random = Random(seed)
    cases = [
        (Moment.BETWEEN_CHUNKS, Return.BEFORE),
        (Moment.IN_A_CHUNK, Return.DURING),
        (Moment.IN_THE_END, Return.AFTER),
    ]
    # At the end too little of a job is left to stop the successor in it.
    others = [*product(Moment, Return)]
    others.remove((Moment.IN_THE_END, Return.BEFORE))
    cases += random.choices(others, k=counted(0, 50 - len(cases)))
    took: dict[Moment, list[float]] = {moment: [] for moment in Moment}
    copies: dict[int, int] = {}
    with witnessed_database() as (database, witness):
        url = database.url.render_as_string(hide_password=False)
        source = await factories.hierarchy(database, {})
        witness.execute(GROW)
        source_pk = witness.value("SELECT pk FROM hierarchy")
        workers = {user: start_worker_as(user, url) for user in USERS}
        for moment, comes_back in cases:
            job = await factories.pending_duplication(database, source, include_products=True)
            took[moment] += survive(witness, workers, moment, comes_back, random)
            assert job.pk is not None
            copies[job.pk] = witness.value(
                "SELECT pk FROM hierarchy WHERE id = (SELECT result_id FROM job WHERE pk = %s)",
                job.pk,
            )
            witness.compare(copies[job.pk], source_pk)
            witness.clean(copies[job.pk])
        for worker in workers.values():
            assert worker.stop(signal.SIGTERM) == 0

        history = history_of(url)
        assert history.faults == {}
        assert history.statuses == {JobStatus.SUCCESS: len(cases)}
        assert written_by_zombies(witness, copies) == {}
        states = witness.rows("SELECT state, count(*) FROM hierarchy GROUP BY state")
        assert states == [("ready", 1 + len(cases))]
        for table in COMPARED:
            stray = f"SELECT count(*) FROM {table} WHERE hierarchy_pk != %s"
            assert witness.value(stray, source_pk) == 0

    figures = ", ".join(
        f"{len(seconds)} {moment.value} (max {max(seconds):.1f} s)"
        for moment, seconds in took.items()
    )
    report(f"takeovers from workers stopped {figures}; writes of zombies 0; {history}")
    assert max(map(max, took.values())) < TAKEN_OVER_WITHIN_SECONDS
