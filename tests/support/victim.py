"""A victim of hostile load: a client of another store that repeats one small query."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from tests.support.tokens import bearing, token

STORE = "victim"
ADDRESS = "127.0.0.2"
"""Source address of the victim: limits per address must not mix it up with the attacker."""

QUERY = "{ jobs(first: 1) { totalCount } }"
PAUSE_SECONDS = 0.02
"""Pause between queries: 50 per second are within every limit."""
QUERIES_PER_CONNECTION = 5
"""Queries per connection, so that the waits of new connections are measured, too."""
TIMEOUT_SECONDS = 60


@dataclass
class Waits:
    """How long the queries waited, in seconds, and what refused them."""

    seconds: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the wait that `share` of the queries did not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def longest(self) -> float:
        """Return the longest wait."""
        return max(self.seconds)

    def __str__(self) -> str:
        p50, p99 = self.percentile(0.5) * 1000, self.percentile(0.99) * 1000
        return (
            f"{len(self.seconds)} queries, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"longest {self.longest * 1000:.0f} ms, {len(self.refusals)} refused"
        )


class Victim:
    """Queries a gateway in a thread of its own. `waits` holds its figures since the last swap."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Content-Type": "application/json", **bearing(token(store=STORE))}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.waits = Waits()

    def swap(self) -> Waits:
        """Begin new figures, once a query has been answered. Return the previous ones."""
        count = len(self.waits.seconds)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(self.waits.seconds) <= count and time.monotonic() < deadline:
            self._stopped.wait(PAUSE_SECONDS)
        previous, self.waits = self.waits, Waits()
        return previous

    @contextmanager
    def querying(self) -> Iterator[Self]:
        """Query during the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        body = json.dumps({"query": QUERY})
        while not self._stopped.is_set():
            connection = http.client.HTTPConnection(
                self._address, timeout=TIMEOUT_SECONDS, source_address=(ADDRESS, 0)
            )
            for _ in range(QUERIES_PER_CONNECTION):
                waits, began = self.waits, time.perf_counter()
                try:
                    connection.request("POST", "/graphql", body, self._headers)
                    response = connection.getresponse()
                    answer = json.loads(response.read())
                    if response.status != 200 or "errors" in answer:
                        waits.refusals.append(f"{response.status} {answer}")
                except (OSError, http.client.HTTPException, ValueError) as error:
                    waits.refusals.append(repr(error))
                    connection.close()
                waits.seconds.append(time.perf_counter() - began)
                if self._stopped.wait(PAUSE_SECONDS):
                    break
            connection.close()
