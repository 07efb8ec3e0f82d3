"""How often and how many at once: a bucket of tokens for each client, and its open streams."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from app.api.auth.limits import Limits
from app.api.http.refusals import BadRequest

MAX_CLIENTS = 10_000
"""Buckets held in memory. One that is dropped for another's sake is full again when it is asked
for next."""

BURST_SECONDS = 2
"""A client that was quiet this long may ask for all of it at once."""


class Throttle:
    """What each client has left. A client is whatever string names it."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = limits.max_requests_per_second
        self._most_streams = limits.max_streams_per_client
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens left, and when that was."""
        self._streams: Counter[str] = Counter()

    def take(self, client: str, operations: int = 1) -> None:
        """Take a token for each operation. Raises BadRequest with 429 where there are too few."""
        if not self._rate:
            return
        burst = max(1.0, self._rate * BURST_SECONDS)
        now = self._clock()
        left, at = self._buckets.pop(client, (burst, now))
        left = min(burst, left + (now - at) * self._rate)
        # A batch that is more than a full bucket takes all of it: else it could never be taken.
        taken = min(operations, burst)
        allowed = left >= taken
        self._buckets[client] = left - taken if allowed else left, now
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = max(1, ceil((taken - left) / self._rate))
            raise BadRequest(
                f"Too many operations: at most {self._rate:g} a second are allowed, "
                f"{burst:g} at once. Try again in {wait} s.",
                "RATE_LIMITED",
                429,
                {"Retry-After": str(wait)},
                extensions={"limit": self._rate, "found": operations, "retryAfter": wait},
            )

    @contextmanager
    def stream(self, client: str) -> Iterator[None]:
        """Count a stream as open. Raises BadRequest with 429 where there are too many."""
        found = self._streams[client] + 1
        if found > self._most_streams:
            raise BadRequest(
                f"Too many streams: at most {self._most_streams} may be open.",
                "STREAM_LIMIT_EXCEEDED",
                429,
                {"Retry-After": "1"},
                extensions={"limit": self._most_streams, "found": found},
            )
        self._streams[client] = found
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]
