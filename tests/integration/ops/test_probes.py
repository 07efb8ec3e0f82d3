"""/readyz says of the database, its migrations and the runner whether each is well, and what ails
it: with databases that are really stopped, hung, removed or of another version. /healthz says that
the process is there, whatever else is wrong."""

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from app.api.http.probes import probe_app
from app.api.http.readiness import PATIENCE_SECONDS
from app.domain.jobs import JobType
from app.main import Gateway
from app.queue.attempt import Attempt
from app.queue.dispatcher import POLL_GRACE_SECONDS, Dispatcher
from app.services.attempts import JobResult
from app.settings import Settings
from app.storage.engine.database import Database
from app.storage.migrations import newest_revision
from app.wiring import migrate
from tests import factories
from tests.support import postgres
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of

WELL = {"status": "ok"}
LEASE = timedelta(seconds=30)


async def told(client: GraphQLClient, status: int) -> dict[str, Any]:
    """What /readyz tells with this status, while the process is healthy."""
    answer = await client.http.get("/readyz")
    assert answer.status_code == status, answer.text
    assert (await client.http.get("/healthz")).json() == WELL
    health: dict[str, Any] = answer.json()
    assert health.pop("status") == ("ok" if status == 200 else "unavailable")
    return health


async def test_a_gateway_that_can_work_is_ready(client: GraphQLClient) -> None:
    assert await told(client, 200) == {"database": WELL, "migrations": WELL, "runner": WELL}


async def test_a_gateway_whose_queue_runs_elsewhere_says_so(idle_client: GraphQLClient) -> None:
    assert (await told(idle_client, 200))["runner"] == {"status": "not here"}


async def test_a_database_of_a_later_version_is_not_worked_with(
    gateway: Gateway, client: GraphQLClient
) -> None:
    def moved(revision: str) -> None:
        with gateway.database.write_engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision}
            )

    moved("later")
    assert await told(client, 503) == {
        "database": WELL,
        "migrations": {
            "status": "unavailable",
            "reason": f"It is at revision later; this version needs {newest_revision()}.",
        },
        "runner": WELL,
    }
    moved(newest_revision())
    await told(client, 200)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_a_file_that_is_no_longer_the_database_is_missed(
    tmp_path: Path, replaced: bool
) -> None:
    file = tmp_path / "some.db"
    async with (
        gateway_of(Settings(database_url=f"sqlite:///{file}", port=0)) as gateway,
        client_of(gateway) as client,
    ):
        await told(client, 200)
        if replaced:
            shutil.copy(file, tmp_path / "other.db")
            (tmp_path / "other.db").replace(file)
        else:
            file.unlink()
        health = await told(client, 503)
    assert health["database"] == {
        "status": "unavailable",
        "reason": "Its file was removed or replaced.",
    }
    assert str(tmp_path) not in str(health)


@pytest.mark.fault
async def test_a_server_that_stopped_is_missed_and_one_that_came_back_is_not() -> None:
    with postgres.cluster() as cluster:
        url = postgres.new_database(cluster.server_url)
        migrate(Settings(database_url=url), check=False)
        async with (
            gateway_of(Settings(database_url=url, port=0, runner=False)) as gateway,
            client_of(gateway) as client,
        ):
            await told(client, 200)
            cluster.stop()
            health = await told(client, 503)
            cluster.start()
            await told(client, 200)
    assert health["database"] == {"status": "unavailable", "reason": "It does not respond."}
    assert health["migrations"]["status"] == "unavailable"


async def test_a_server_that_hangs_is_told_in_time_and_not_asked_by_everybody(
    new_database: NewDatabase,
) -> None:
    url = new_database("postgresql")
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE datname = current_database() AND NOT granted"
    )
    async with (
        gateway_of(Settings(database_url=url, port=0)) as gateway,
        client_of(gateway) as client,
    ):
        with psycopg.connect(postgres.plain(url)) as holder:
            holder.execute("LOCK alembic_version")
            began = monotonic()
            answers = await asyncio.gather(*(client.http.get("/readyz") for _ in range(30)))
            answers.append(await client.http.get("/readyz"))
            took = monotonic() - began
            assert {answer.status_code for answer in answers} == {503}
            assert f"within {PATIENCE_SECONDS} s" in answers[-1].text
            assert took < 2 * PATIENCE_SECONDS + 4
            (asking,) = holder.execute(waiting).fetchone() or (None,)
            assert asking == 1
        # The one that hung is answered now, or a later one.
        async with asyncio.timeout(30):
            while (await client.http.get("/readyz")).status_code == 503:
                pass


class Ticks:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Endless:
    """A handler whose job runs until it is let go."""

    type = JobType.HIERARCHY_DUPLICATE

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.end = asyncio.Event()

    async def run(self, attempt: Attempt) -> None:
        """Wait, then succeed."""
        self.began.set()
        await self.end.wait()
        await attempt.succeed(lambda _session, _job: JobResult(0))

    def abandon(self, *_: object) -> None:
        """Nothing was begun."""


async def test_a_runner_is_missed_that_does_not_look_for_work_or_renew_its_claims(
    database: Database,
) -> None:
    ticks, handler = Ticks(), Endless()
    runner = Dispatcher(database, {handler.type: handler}, lease=LEASE, poll=0.01, clock=ticks)
    app = probe_app(database, metrics=False, runner=runner.unhealthy_reason)
    await factories.pending_duplication(database, await factories.hierarchy(database, {"a": {}}))

    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as http,
    ):
        client = GraphQLClient(http)

        async def reason_behind(silence: str) -> str:
            """What ails the runner once that is no longer it."""
            while silence in (reason := (await told(client, 503))["runner"]["reason"]):
                pass
            return str(reason)

        await told(client, 200)
        ticks.now += POLL_GRACE_SECONDS
        await told(client, 200)
        ticks.now += 1
        assert await reason_behind("nothing") == "The dispatcher has not polled for jobs for 11 s."

        running = asyncio.create_task(runner.run())
        await handler.began.wait()
        await told(client, 200)
        ticks.now += LEASE.total_seconds() + 1
        assert await reason_behind("polled for jobs") == (
            "A job running here has had no heartbeat for 31 s."
        )
        handler.end.set()
        while (await http.get("/readyz")).status_code == 503:
            pass
        runner.stop()
        assert await reason_behind("nothing") == "The dispatcher is stopping."
        await running
