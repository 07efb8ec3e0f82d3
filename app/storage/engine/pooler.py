"""Poolers between the gateway and PostgreSQL, such as PgBouncer."""

import asyncio
from enum import Enum

import psycopg

from app.storage.engine.postgresql_sessions import BACKEND_PID, Parameters, is_pooled

ROUNDS = 5
"""Repetitions of the statements that must run in the session of their connection."""

PATIENCE_SECONDS = 2.0
"""Time for a second session: a pooler waits for one that is free."""


class Pooling(Enum):
    """The holders of the sessions that a pooler lends."""

    NONE = "none"
    """There is no pooler: each connection has a session of its own."""
    SESSION = "session"
    """One session per client connection."""
    TRANSACTION = "transaction"
    """One session per transaction; LISTEN and SET do not persist."""


async def detect_pooling(connection: "psycopg.AsyncConnection", parameters: Parameters) -> Pooling:
    """Detect a pooler by the sessions that run the statements of `connection` and of another one.

    `connection` must be in autocommit mode. Raises psycopg.Error.
    """
    if not is_pooled(connection, await _backend_pid(connection)):
        return Pooling.NONE
    try:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            await psycopg.AsyncConnection.connect(**parameters, autocommit=True) as other,
        ):
            own, others = set[int](), set[int]()
            for _ in range(ROUNDS):
                # Twice: in turn, two sessions lent in turn would be one per connection.
                own |= {await _backend_pid(connection), await _backend_pid(connection)}
                others.add(await _backend_pid(other))
    except (TimeoutError, psycopg.OperationalError):
        # The first connection has the last free session, and keeps it.
        return Pooling.SESSION
    is_shared = own & others or len(own) > 1 or len(others) > 1
    return Pooling.TRANSACTION if is_shared else Pooling.SESSION


async def _backend_pid(connection: "psycopg.AsyncConnection") -> int:
    cursor = await connection.execute(BACKEND_PID, prepare=False)
    [(pid,)] = await cursor.fetchall()
    return int(pid)
