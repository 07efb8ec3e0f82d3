"""Subscribers that lose their connection repeatedly and resume from their last cursor.

On SQLite at the one server; on PostgreSQL at any of several gateways, with a separate worker.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from time import monotonic

import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.support.clients import http_client
from tests.support.processes import LiveProcess, LiveServer, start_server, start_worker
from tests.support.subscriber import Follower, whole_log

pytestmark = pytest.mark.fault

REPLICAS = 3

DUPLICATE = """
mutation($id: ID!, $name: String!) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name}) { job { id } }
}
"""


def start(database_url: str) -> tuple[Sequence[LiveServer], Sequence[LiveProcess]]:
    """Start the gateways and, on PostgreSQL, a worker. Return the gateways and all processes."""
    if database_url.startswith("sqlite"):
        server = start_server(database_url)
        return [server], [server]
    gateways = [start_server(database_url, "--no-runner") for _ in range(REPLICAS)]
    return gateways, [*gateways, start_worker(database_url)]


@pytest.mark.timeout(500)
async def test_subscribers_that_drop_and_resume_receive_each_event_once_and_in_order(
    database_url: str,
    counted: Callable[[int, int], int],
    seed: int,
    report: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    subscribers, drops, jobs = counted(12, 200), counted(3, 20), counted(50, 100)
    events = 3 * jobs
    database = open_database(Settings(database_url=database_url))
    source = await factories.hierarchy(database, factories.wide_tree(10))
    database.close()
    names = [f"copy {number}" for number in range(1, jobs + 1)]
    gateways, processes = start(database_url)
    began = monotonic()

    async def enqueue_all(random: Random) -> None:
        async with http_client("") as http:
            for name in names:
                answer = await http.post(
                    f"{random.choice(gateways).url}/graphql",
                    json={"query": DUPLICATE, "variables": {"id": str(source), "name": name}},
                )
                assert "errors" not in answer.json()

    async def follow(follower: Follower, random: Random) -> None:
        # Between two equal positions a connection ends without an event.
        for position in sorted(random.choices(range(events), k=drops)):
            await follower.listen(
                random.choice(gateways).url,
                position - len(follower.entries),
                goodbye=random.random() < 0.5,
            )
        assert await follower.listen(random.choice(gateways).url, events)

    followers = [Follower(last=names[-1]) for _ in range(subscribers)]
    async with asyncio.TaskGroup() as tasks:
        for number, follower in enumerate(followers):
            tasks.create_task(follow(follower, Random(f"{seed} {number}")))
        tasks.create_task(enqueue_all(Random(seed)))
    took = monotonic() - began
    assert [process.stop() for process in processes] == [0] * len(processes)
    assert capfd.readouterr().err == "", "a disconnect of a client must not be logged as an error"

    log = whole_log(database_url)
    assert len(log) == events
    for follower in followers:
        assert follower.entries == log
    report(
        f"gateways {len(gateways)}, subscribers {subscribers}, {drops} drops each, "
        f"{len(log)} events each, lost 0, repeated 0, {took:.1f} s"
    )
