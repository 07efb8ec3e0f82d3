"""One limit on the connections of the process, and one on the bytes of unfinished requests.

Both are shared fairly: above a limit, the address that takes the most of it loses a connection.
"""

import logging
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 10_000
"""Max open connections, if the limit on open files allows as many. An idle one takes 8 KiB."""

RESERVED_DESCRIPTORS = 64
"""Descriptors kept free of connections: for the database, key sets, webhooks and the log."""

MAX_UNFINISHED_BYTES = 32 * 1024**2
MAX_UNFINISHED_BODIES = 8
"""Max bytes in memory of requests that are not received as a whole, of all connections together:
the first limit, or MAX_UNFINISHED_BODIES of the largest size if that is more. One address may be a
proxy, whose clients upload at the same time."""

WARNING_SECONDS = 60
"""Min time between two warnings."""


class ClientConnection(Protocol):
    """An open connection."""

    @property
    def is_waiting(self) -> bool:
        """Return True if the server waits for its client."""

    def evict(self) -> None:
        """Close the connection without a response; unsent bytes are dropped."""


class ConnectionLimit:
    """Open connections by address, and the unfinished bytes of each."""

    max_body_bytes = 0
    """Limit on a body in this process, for MAX_UNFINISHED_BODIES."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._addresses: dict[ClientConnection, str] = {}
        self._by_address: dict[str, dict[ClientConnection, None]] = {}
        """Connections of each address, oldest first."""
        self._unfinished: dict[ClientConnection, int] = {}
        self._bytes: Counter[str] = Counter()
        """Unfinished bytes of each address."""
        self._total_bytes = 0
        self._evicted = 0
        self._warned_at: float | None = None

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._addresses)

    def add(self, connection: ClientConnection, address: str) -> None:
        """Count a new connection. At the limit, evict one of the address that has the most."""
        self._addresses[connection] = address
        self._by_address.setdefault(address, {})[connection] = None
        if len(self._addresses) > (limit := max_connections()):
            most = max(self._by_address.values(), key=len)
            # An address must not lock out the others, even if none of its connections waits.
            busy = connection if connection in most else next(iter(most))
            evicted = next((other for other in most if other.is_waiting), busy)
            self._evict(evicted, f"all {limit:,} connections are in use (ulimit -n limits them)")

    def remove(self, connection: ClientConnection) -> None:
        """Forget a connection. Repeating it has no effect."""
        if (address := self._addresses.pop(connection, None)) is None:
            return
        self._count_bytes(connection, address, 0)
        others = self._by_address[address]
        del others[connection]
        if not others:
            del self._by_address[address]

    def hold(self, connection: ClientConnection, size: int) -> None:
        """Set the unfinished bytes of a connection. Above the limit, evict one of the address
        that has the most of them."""
        if (address := self._addresses.get(connection)) is None:
            return
        self._count_bytes(connection, address, size)
        limit = max(MAX_UNFINISHED_BYTES, MAX_UNFINISHED_BODIES * self.max_body_bytes)
        if self._total_bytes > limit:
            ((most, _),) = self._bytes.most_common(1)
            evicted = (
                connection
                if most == address
                else next(other for other in self._unfinished if self._addresses[other] == most)
            )
            self._evict(evicted, f"unfinished requests take {limit:,} bytes")

    def _count_bytes(self, connection: ClientConnection, address: str, size: int) -> None:
        added = size - self._unfinished.pop(connection, 0)
        self._bytes[address] += added
        self._total_bytes += added
        if size:
            self._unfinished[connection] = size
        if not self._bytes[address]:
            del self._bytes[address]

    def _evict(self, connection: ClientConnection, reason: str) -> None:
        self.remove(connection)
        connection.evict()
        self._evicted += 1
        now = self._clock()
        if self._warned_at is None or now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            log.warning("%s; connections closed since the last warning: %d", reason, self._evicted)
            self._evicted = 0


def max_connections() -> int:
    """Return the limit on connections, which leaves some of the process's descriptors free."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, max(files - RESERVED_DESCRIPTORS, files // 2))


CONNECTIONS = ConnectionLimit()
"""Connections of this process, which share its descriptors and memory."""
