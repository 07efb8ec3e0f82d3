"""Subscribers that lose their connection again and again, and go on from their last cursor."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from time import monotonic

import httpx
import pytest

from app.api.jobs import EVENTS
from app.main import Settings, open_database
from tests import given
from tests.conftest import start_server
from tests.subscriber import LOGGED, Event, subscriber

CLIENTS = 50
JOBS = 200
EVENTS_PER_CONNECTION = 200
"""At most."""

DUPLICATE = """
mutation($id: ID!, $name: String!) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name}) { job { id } }
}
"""
JOB_EVENTS = """
subscription($after: String) {
  jobEvents(after: $after) { cursor type job { id duplication { name } } }
}
"""
BEGINNING = EVENTS.encode((0,))

Heard = tuple[str, str, str]
"""An event's cursor, type and job."""


class Client:
    """Somebody who wants every event of the log, over connections that do not last."""

    def __init__(self, url: str, random: Random, last: str) -> None:
        self.heard: list[Heard] = []
        self.drops = 0
        self._url = url
        self._random = random
        self._last = last
        """The name of the job that is created last, whose end is the end of the log."""

    async def listen(self) -> None:
        """Hear the log to its end."""
        while not await self._listen_for_a_while():
            self.drops += 1

    async def _listen_for_a_while(self) -> bool:
        left = self._random.randint(0, EVENTS_PER_CONNECTION)
        after = self.heard[-1][0] if self.heard else BEGINNING
        async with subscriber(self._url) as connected:
            happening = await connected.subscribe(JOB_EVENTS, after=after)
            while left:
                event = await anext(happening)
                if event["type"] in LOGGED:
                    self.heard.append((event["cursor"], event["type"], event["job"]["id"]))
                    left -= 1
                if self._is_last(event):
                    return True
            if self._random.random() < 0.5:
                # As a network does it: without a goodbye, unread messages lost.
                connected.socket.transport.abort()
        return False

    def _is_last(self, event: Event) -> bool:
        name = event["job"]["duplication"]["name"]
        return bool(event["type"] == "SUCCEEDED" and name == self._last)


async def test_clients_that_drop_and_resume_hear_each_event_once_and_in_order(
    tmp_path: Path,
    seed: int,
    report: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = f"sqlite:///{tmp_path}/resume.db"
    database = open_database(Settings(database_url=url))
    source = await given.hierarchy(database, given.wide_tree(10))
    database.close()
    names = [f"copy {number}" for number in range(1, JOBS + 1)]
    server = start_server(url)
    began = monotonic()

    async def ask_for_all() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            for name in names:
                variables = {"id": str(source), "name": name}
                answer = await http.post(
                    "/graphql", json={"query": DUPLICATE, "variables": variables}
                )
                assert "errors" not in answer.json()

    clients = [
        Client(server.url, Random(f"{seed} {number}"), names[-1]) for number in range(CLIENTS)
    ]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.listen())
        tasks.create_task(ask_for_all())
    took = monotonic() - began
    assert server.stop() == 0
    assert capfd.readouterr().err == "", "a client that goes away is no fault of the server"

    with closing(sqlite3.connect(f"file:{tmp_path}/resume.db?mode=ro", uri=True)) as file:
        log = file.execute(
            "SELECT seq, job_event.type, job.id FROM job_event JOIN job ON job.pk = job_pk"
            " ORDER BY seq"
        ).fetchall()
    assert [seq for seq, *_ in log] == list(range(1, 3 * JOBS + 1))
    expected = [(EVENTS.encode((seq,)), type.upper(), id) for seq, type, id in log]
    for client in clients:
        heard = [(cursor, type, job.replace("-", "")) for cursor, type, job in client.heard]
        assert heard == expected
    drops = sum(client.drops for client in clients)
    assert min(client.drops for client in clients) > 0
    report(
        f"{CLIENTS} clients, {JOBS} jobs, {drops} drops, {len(log)} events each, "
        f"lost 0, twice 0, {took:.1f} s"
    )
