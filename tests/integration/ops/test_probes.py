"""/readyz and /healthz with databases stopped, hung, removed or of another version.

/readyz reports the database, its migrations and the runner, each with a reason if it is
unavailable. /healthz reports only that the process is alive.
"""

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


async def readiness(client: GraphQLClient, status: int) -> dict[str, Any]:
    """The checks of /readyz, which responds with `status`; /healthz is ok."""
    answer = await client.http.get("/readyz")
    assert answer.status_code == status, answer.text
    assert (await client.http.get("/healthz")).json() == WELL
    health: dict[str, Any] = answer.json()
    assert health.pop("status") == ("ok" if status == 200 else "unavailable")
    return health


async def test_a_healthy_gateway_is_ready(client: GraphQLClient) -> None:
    assert await readiness(client, 200) == {"database": WELL, "migrations": WELL, "runner": WELL}


async def test_a_gateway_without_a_runner_reports_that_it_runs_elsewhere(
    idle_client: GraphQLClient,
) -> None:
    assert (await readiness(idle_client, 200))["runner"] == {"status": "not here"}


async def test_a_database_of_a_later_version_is_unavailable(
    gateway: Gateway, client: GraphQLClient
) -> None:
    def set_revision(revision: str) -> None:
        with gateway.database.write_engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision}
            )

    set_revision("later")
    assert await readiness(client, 503) == {
        "database": WELL,
        "migrations": {
            "status": "unavailable",
            "reason": f"It is at revision later; this version needs {newest_revision()}.",
        },
        "runner": WELL,
    }
    set_revision(newest_revision())
    await readiness(client, 200)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_a_removed_or_replaced_database_file_is_unavailable(
    tmp_path: Path, replaced: bool
) -> None:
    file = tmp_path / "some.db"
    async with (
        gateway_of(Settings(database_url=f"sqlite:///{file}", port=0)) as gateway,
        client_of(gateway) as client,
    ):
        await readiness(client, 200)
        if replaced:
            shutil.copy(file, tmp_path / "other.db")
            (tmp_path / "other.db").replace(file)
        else:
            file.unlink()
        health = await readiness(client, 503)
    assert health["database"] == {
        "status": "unavailable",
        "reason": "Its file was removed or replaced.",
    }
    assert str(tmp_path) not in str(health)


@pytest.mark.fault
async def test_a_stopped_server_is_unavailable_until_it_is_back() -> None:
    with postgres.cluster() as cluster:
        url = postgres.new_database(cluster.server_url)
        migrate(Settings(database_url=url), check=False)
        async with (
            gateway_of(Settings(database_url=url, port=0, runner=False)) as gateway,
            client_of(gateway) as client,
        ):
            await readiness(client, 200)
            cluster.stop()
            health = await readiness(client, 503)
            cluster.start()
            await readiness(client, 200)
    assert health["database"] == {"status": "unavailable", "reason": "It does not respond."}
    assert health["migrations"]["status"] == "unavailable"


async def test_a_hung_server_is_reported_in_time_and_queried_once_at_a_time(
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
            (blocked,) = holder.execute(waiting).fetchone() or (None,)
            assert blocked == 1
        # The blocked query completes now, or a later one.
        async with asyncio.timeout(30):
            while (await client.http.get("/readyz")).status_code == 503:
                pass


class Ticks:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Endless:
    """A handler whose job runs until `end` is set."""

    type = JobType.HIERARCHY_DUPLICATE

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.end = asyncio.Event()

    async def run(self, attempt: Attempt) -> None:
        """Wait, then succeed."""
        self.began.set()
        await self.end.wait()
        await attempt.succeed(lambda _tx, _job: JobResult(0))

    def abandon(self, *_: object) -> None:
        """Nothing to discard."""


async def test_a_runner_that_stops_polling_or_sending_heartbeats_is_unavailable(
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

        async def next_reason(previous: str) -> str:
            """The runner's reason, once it no longer contains `previous`."""
            while previous in (reason := (await readiness(client, 503))["runner"]["reason"]):
                pass
            return str(reason)

        await readiness(client, 200)
        ticks.now += POLL_GRACE_SECONDS
        await readiness(client, 200)
        ticks.now += 1
        assert await next_reason("nothing") == "The dispatcher has not polled for jobs for 11 s."

        running = asyncio.create_task(runner.run())
        await handler.began.wait()
        await readiness(client, 200)
        ticks.now += LEASE.total_seconds() + 1
        assert await next_reason("polled for jobs") == (
            "A job running here has had no heartbeat for 31 s."
        )
        handler.end.set()
        while (await http.get("/readyz")).status_code == 503:
            pass
        runner.stop()
        assert await next_reason("nothing") == "The dispatcher is stopping."
        await running
