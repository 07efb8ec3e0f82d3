"""Poolers are recognised by the sessions that run a connection's statements."""

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest

from app.storage.engine.pooler import Pooling, detect_pooling

Lend = Callable[[str, int], int]
"""Returns the session of a connection's statement, from the connection's name and the number of
statements before."""


class LentConnection:
    """A client connection to a pooler; its statements return the process id of their session."""

    info = SimpleNamespace(backend_pid=7)

    def __init__(self, name: str, lend: Lend, statements: "count[int]") -> None:
        self._name = name
        self._lend = lend
        self._statements = statements

    async def execute(self, *_: object, **__: object) -> "LentConnection":
        return self

    async def fetchall(self) -> list[tuple[int]]:
        return [(1000 + self._lend(self._name, next(self._statements)),)]

    async def __aenter__(self) -> "LentConnection":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


LENDINGS: dict[str, tuple[Lend, Pooling]] = {
    "one for all": (lambda _name, _number: 0, Pooling.TRANSACTION),
    "two in turn": (lambda _name, number: number % 2, Pooling.TRANSACTION),
    "three in turn": (lambda _name, number: number % 3, Pooling.TRANSACTION),
    "one per connection": (lambda name, _number: len(name), Pooling.SESSION),
}


@pytest.mark.parametrize("lending", LENDINGS)
async def test_a_pooler_is_recognised_however_it_chooses_sessions(
    lending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend, expected = LENDINGS[lending]
    statements = count()

    async def connect(**_: object) -> LentConnection:
        return LentConnection("other", lend, statements)

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect)
    own = cast("psycopg.AsyncConnection", LentConnection("own", lend, statements))
    assert await detect_pooling(own, {}) is expected
