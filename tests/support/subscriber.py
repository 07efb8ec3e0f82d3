"""A graphql-transport-ws client that reads its socket only on request of a test."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from itertools import count
from typing import Any, Self
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlmodel import col
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.api.graphql.types.events import EVENTS
from app.storage.engine.connect import connect as connect_database
from app.storage.tables import Job, JobEvent
from tests.support.entities import read_transaction

PROTOCOL = Subprotocol("graphql-transport-ws")

LOGGED = frozenset({"CREATED", "STARTED", "SUCCEEDED", "FAILED", "CANCELLED"})
"""The types of events in the event log."""

FIELDS = """
cursor type at previousStatus
job {
  id status version queuePosition canCancel startedAt completedAt
  progress { completed total }
  duplication { name result { id } }
  errors(first: 5) { nodes { code } }
}
"""
JOB_UPDATES = f"""
subscription($id: ID!, $after: String) {{ jobUpdates(id: $id, after: $after) {{ {FIELDS} }} }}
"""
JOB_EVENTS = f"""
subscription($filter: JobFilter, $after: String) {{
  jobEvents(filter: $filter, after: $after) {{ {FIELDS} }}
}}
"""
FOLLOWED = """
subscription($after: String) {
  jobEvents(after: $after) { cursor type job { id duplication { name } } }
}
"""
BEGINNING = EVENTS.encode((0,))

Event = dict[str, Any]
LogEntry = tuple[str, str, UUID]
"""The cursor, type and job id of an event."""


class Refused(Exception):
    """The server answered a subscription with an `error` message."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: str = error["extensions"]["code"]
        self.argument: list[str] = error["extensions"].get("argument", [])


class Subscriber:
    """One socket, with the unread messages per operation."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._ids = map(str, count(1))
        self._unread: dict[str, deque[dict[str, Any]]] = {}

    async def send(self, **message: Any) -> None:
        await self.socket.send(orjson.dumps(message).decode())

    async def receive(self) -> dict[str, Any]:
        """Read the next message of the socket."""
        message: dict[str, Any] = orjson.loads(await self.socket.recv())
        return message

    async def subscribe(self, query: str, **variables: Any) -> "Subscription":
        """Start a subscription."""
        id = next(self._ids)
        self._unread[id] = deque()
        await self.send(id=id, type="subscribe", payload={"query": query, "variables": variables})
        return Subscription(self, id)

    async def next_of(self, id: str) -> dict[str, Any]:
        """Return the next message of an operation; messages of other operations are queued."""
        while not self._unread[id]:
            message = await self.receive()
            self._unread[message["id"]].append(message)
        return self._unread[id].popleft()


class Subscription:
    """One operation of a socket: iterate over it for its events. Raises Refused."""

    def __init__(self, subscriber: Subscriber, id: str) -> None:
        self._subscriber = subscriber
        self._id = id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        message = await self._subscriber.next_of(self._id)
        match message["type"]:
            case "next":
                assert "errors" not in message["payload"], message["payload"]
                data: dict[str, Event] = message["payload"]["data"]
                (event,) = data.values()
                return event
            case "error":
                raise Refused(message["payload"][0])
            case "complete":
                raise StopAsyncIteration
        raise AssertionError(message)

    async def take(self, number: int) -> list[Event]:
        """Return the next `number` events."""
        return [await anext(self) for _ in range(number)]

    async def rest(self) -> list[Event]:
        """Return all events up to the end of the subscription."""
        return [event async for event in self]

    async def stop(self) -> None:
        """End the subscription from the client's side."""
        await self._subscriber.send(id=self._id, type="complete")


@asynccontextmanager
async def subscriber(url: str, **options: Any) -> AsyncIterator[Subscriber]:
    """Connect to the gateway at `url`, up to the acknowledgement."""
    async with connect(
        url.replace("http", "ws", 1) + "/graphql",
        subprotocols=[PROTOCOL],
        compression=None,
        max_size=None,
        **options,
    ) as socket:
        connected = Subscriber(socket)
        await connected.send(type="connection_init")
        acknowledged = await connected.receive()
        assert acknowledged["type"] == "connection_ack"
        yield connected


class Follower:
    """A client that collects every event of the log over several connections."""

    def __init__(self, last: str, on_event: Callable[[Event], None] = lambda _: None) -> None:
        self.entries: list[LogEntry] = []
        self._last = last
        """The name of the last created job, whose success ends the log."""
        self.on_event = on_event

    async def listen(self, url: str, events: int, *, goodbye: bool = True) -> bool:
        """Receive up to `events` events on one connection, after those received before.

        Return True if the log ended with them. Without `goodbye` the connection is aborted, as by a
        network: sent and unread events are lost.
        """
        after = self.entries[-1][0] if self.entries else BEGINNING
        # A server with hundreds of other clients may take long to answer.
        async with subscriber(url, open_timeout=None, ping_interval=None) as connected:
            subscription = await connected.subscribe(FOLLOWED, after=after)
            while events:
                event = await anext(subscription)
                job = event["job"]
                if event["type"] in LOGGED:
                    self.entries.append((event["cursor"], event["type"], UUID(job["id"])))
                    events -= 1
                    self.on_event(event)
                if event["type"] == "SUCCEEDED" and job["duplication"]["name"] == self._last:
                    return True
            if not goodbye:
                connected.socket.transport.abort()
        return False


def whole_log(database_url: str) -> list[LogEntry]:
    """Return what a Follower has received by the end of the log."""
    events = (
        sa.select(col(JobEvent.seq), col(JobEvent.type), col(Job.id))
        .join(Job, col(Job.pk) == col(JobEvent.job_pk))
        .order_by(col(JobEvent.seq))
    )
    with (
        closing(connect_database(database_url)) as database,
        read_transaction(database) as tx,
    ):
        return [(EVENTS.encode((seq,)), type.name, id) for seq, type, id in tx.rows(events)]
