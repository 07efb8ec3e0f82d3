"""Fairness of the limits on connections and on the bytes of unfinished requests."""

import logging
from dataclasses import dataclass

import pytest

from app.api.http import connection_limit
from app.api.http.connection_limit import ConnectionLimit


@dataclass(eq=False)
class FakeConnection:
    """A connection that records its eviction."""

    limit: ConnectionLimit
    address: str
    is_waiting: bool = True
    evicted: bool = False

    def __post_init__(self) -> None:
        self.limit.add(self, self.address)

    def evict(self) -> None:
        self.evicted = True


class FakeClock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of four connections and 100 bytes."""
    monkeypatch.setattr(connection_limit, "max_connections", lambda: 4)
    monkeypatch.setattr(connection_limit, "MAX_UNFINISHED_BYTES", 100)


def test_the_address_with_most_connections_loses_its_oldest_waiting_one() -> None:
    limit = ConnectionLimit()
    victim = FakeConnection(limit, "victim")
    busy = FakeConnection(limit, "attacker", is_waiting=False)
    oldest, newer = (FakeConnection(limit, "attacker") for _ in range(2))
    newcomer = FakeConnection(limit, "another")
    assert [c.evicted for c in (victim, busy, oldest, newer, newcomer)] == [
        *(False, False, True, False, False)
    ]
    assert len(limit) == 4


def test_an_address_whose_connections_all_work_does_not_lock_out_others() -> None:
    limit = ConnectionLimit()
    busy = [FakeConnection(limit, "a", is_waiting=False) for _ in range(4)]
    newcomer = FakeConnection(limit, "b")
    assert [c.evicted for c in (*busy, newcomer)] == [True, False, False, False, False]


def test_an_address_whose_connections_all_work_gets_no_more() -> None:
    limit = ConnectionLimit()
    busy = [FakeConnection(limit, "a", is_waiting=False) for _ in range(4)]
    newcomer = FakeConnection(limit, "a", is_waiting=False)
    assert newcomer.evicted
    assert not any(connection.evicted for connection in busy)
    for connection in busy:
        limit.remove(connection)
    assert len(limit) == 0


def test_the_largest_bodies_may_arrive_together() -> None:
    limit = ConnectionLimit()
    limit.max_body_bytes = 1_000
    uploads = [FakeConnection(limit, "proxy") for _ in range(3)]
    for upload in uploads:
        limit.hold(upload, 1_000)
    assert not any(upload.evicted for upload in uploads)
    limit.hold(uploads[0], connection_limit.MAX_UNFINISHED_BODIES * 1_000)
    assert uploads[0].evicted


def test_the_address_with_most_unfinished_bytes_loses_a_connection() -> None:
    limit = ConnectionLimit()
    victim, first, second = (FakeConnection(limit, a) for a in ("victim", "attacker", "attacker"))
    limit.hold(first, 50)
    limit.hold(second, 40)
    limit.hold(victim, 20)
    assert [c.evicted for c in (victim, first, second)] == [False, True, False]
    # Bytes of a connection are set, not added.
    limit.hold(victim, 60)
    limit.hold(victim, 20)
    limit.hold(second, 81)
    assert [c.evicted for c in (victim, second)] == [False, True]
    limit.hold(victim, 100)
    assert not victim.evicted


def test_evictions_are_reported_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    limit = ConnectionLimit(clock := FakeClock())
    for seconds in (0, 1, 2, 59, 61):
        clock.now = seconds
        limit.hold(FakeConnection(limit, "attacker"), 101)
    lines = [record.getMessage() for record in caplog.records]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert [line.rpartition(": ")[2] for line in lines] == ["1", "4"]
    assert all("unfinished requests take 100 bytes" in line for line in lines)
