"""A victim of hostile load: a client of another store that reads, lists and writes a little."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.tokens import bearing, token

STORE = "victim"
ADDRESS = "127.0.0.2"
"""Source address of the victim: limits per address must not mix it up with the attacker."""

CREATE = 'mutation { createHierarchy(input: {name: "0"}) { hierarchy { id } } }'
READ = "{ jobs(first: 1) { totalCount } }"
LIST = "/pcm/hierarchies?filter=like(name,*0*)"
WRITE = (
    "mutation ($id: ID!, $name: String!) { "
    "updateHierarchy(input: {hierarchyId: $id, name: $name}) { hierarchy { id } } }"
)
PAUSE_SECONDS = 0.02
"""Pause between requests: 50 per second are within every limit."""
REQUESTS_PER_CONNECTION = 6
"""Requests per connection, so that the waits of new connections are measured, too."""
TIMEOUT_SECONDS = 60


@dataclass
class Waits:
    """How long the requests waited, in seconds, and what refused them."""

    seconds: list[float] = field(default_factory=list)
    longest_by_kind: dict[str, float] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the wait that `share` of the requests did not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def longest(self) -> float:
        """Return the longest wait."""
        return max(self.seconds)

    def __str__(self) -> str:
        p50, p99 = self.percentile(0.5) * 1000, self.percentile(0.99) * 1000
        kinds = ", ".join(f"{kind} {s * 1000:.0f}" for kind, s in self.longest_by_kind.items())
        return (
            f"{len(self.seconds)} requests, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"longest {self.longest * 1000:.0f} ms ({kinds}), {len(self.refusals)} refused"
        )

    def add(self, kind: str, seconds: float) -> None:
        """Count a request."""
        self.seconds.append(seconds)
        self.longest_by_kind[kind] = max(self.longest_by_kind.get(kind, 0), seconds)


class Victim:
    """Uses a gateway in a thread of its own. `waits` holds its figures since the last swap."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Content-Type": "application/json", **bearing(token(store=STORE))}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.waits = Waits()

    def swap(self) -> Waits:
        """Begin new figures, once a request has been answered. Return the previous ones."""
        answered = len(self.waits.seconds)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(self.waits.seconds) <= answered and time.monotonic() < deadline:
            self._stopped.wait(PAUSE_SECONDS)
        previous, self.waits = self.waits, Waits()
        return previous

    @contextmanager
    def working(self) -> Iterator[Self]:
        """Send requests during the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        requests = self._requests(self._created())
        while not self._stopped.is_set():
            connection = self._connection()
            for _ in range(REQUESTS_PER_CONNECTION):
                kind, request, variables = next(requests)
                waits, began = self.waits, time.perf_counter()
                try:
                    answer = self._answer(connection, request, variables)
                    if "errors" in answer:
                        waits.refusals.append(str(answer))
                except (OSError, http.client.HTTPException, ValueError) as error:
                    waits.refusals.append(repr(error))
                    connection.close()
                waits.add(kind, time.perf_counter() - began)
                if self._stopped.wait(PAUSE_SECONDS):
                    break
            connection.close()

    def _created(self) -> str:
        """Create a hierarchy. Return its id, once the other requests are compiled, too."""
        connection = self._connection()
        id: str = self._answer(connection, CREATE, {})["data"]["createHierarchy"]["hierarchy"]["id"]
        for _, request, variables in islice(self._requests(id), 3):
            answer = self._answer(connection, request, variables)
            assert "errors" not in answer, answer
        connection.close()
        return id

    def _requests(self, id: str) -> Iterator[tuple[str, str, dict[str, str]]]:
        for number in count():
            yield "read", READ, {}
            yield "list", LIST, {}
            yield "write", WRITE, {"id": id, "name": str(number * 10)}

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(
            self._address, timeout=TIMEOUT_SECONDS, source_address=(ADDRESS, 0)
        )

    def _answer(
        self, connection: http.client.HTTPConnection, request: str, variables: dict[str, str]
    ) -> Any:
        if request.startswith("/"):
            connection.request("GET", request, headers=self._headers)
        else:
            body = json.dumps({"query": request, "variables": variables})
            connection.request("POST", "/graphql", body, self._headers)
        return json.loads(connection.getresponse().read())
