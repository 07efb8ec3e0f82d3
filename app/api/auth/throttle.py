"""Rate limits: a token bucket per client, and a count of its open streams."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

from app.api.auth.limits import Limits
from app.api.http.refusals import BadRequest

MAX_CLIENTS = 10_000
"""Max buckets in memory. The least recently used bucket is dropped; its client starts with a full
one again."""

BURST_SECONDS = 2
"""Capacity of a bucket, in seconds of its rate."""


class Throttle:
    """Token buckets and open streams by client key (see `Access.client`)."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = limits.max_requests_per_second
        self._max_streams = limits.max_streams_per_client
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens left, and the time of that count."""
        self._streams: Counter[str] = Counter()

    def take(self, client: str, operations: int = 1) -> None:
        """Take a token per operation. Raises BadRequest (429) without enough tokens."""
        if not self._rate:
            return
        burst = max(1.0, self._rate * BURST_SECONDS)
        now = self._clock()
        left, at = self._buckets.pop(client, (burst, now))
        left = min(burst, left + (now - at) * self._rate)
        # A batch larger than a full bucket takes the whole bucket, or it could never run.
        taken = min(operations, burst)
        allowed = left >= taken
        self._buckets[client] = left - taken if allowed else left, now
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = max(1, ceil((taken - left) / self._rate))
            raise BadRequest(
                f"Too many operations: at most {self._rate:g} per second are allowed, "
                f"{burst:g} at once. Try again in {wait} s.",
                code="RATE_LIMITED",
                status=429,
                headers={"Retry-After": str(wait)},
                extensions={"limit": self._rate, "found": operations, "retryAfter": wait},
            )

    @contextmanager
    def stream(self, client: str) -> Iterator[None]:
        """Count a stream as open. Raises BadRequest (429) if too many are open."""
        open_streams = self._streams[client] + 1
        if open_streams > self._max_streams:
            raise BadRequest(
                f"Too many streams: at most {self._max_streams} may be open.",
                code="STREAM_LIMIT_EXCEEDED",
                status=429,
                headers={"Retry-After": "1"},
                extensions={"limit": self._max_streams, "found": open_streams},
            )
        self._streams[client] = open_streams
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]
