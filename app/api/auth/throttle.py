"""Rate limits: a token bucket per client, its open streams and the cost of its subscriptions.

A token is an operation of up to COST_PER_TOKEN and SECONDS_PER_TOKEN. A larger operation takes the
tokens of its cost before it runs, and those of its time, if they are more, afterwards.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from types import TracebackType
from typing import Self

from app.api.auth.limits import Limits
from app.api.http.refusals import BadRequest, RateLimited
from app.storage.engine.client_reads import WorkTime, current_work_time

MAX_CLIENTS = 10_000
"""Max buckets in memory. The least recently used bucket is dropped; its client starts with a full
one again."""

BURST_SECONDS = 2
"""Capacity of a bucket, in seconds of its rate."""


COST_PER_TOKEN = 1_000
"""Cost that an operation may have for one token."""

SECONDS_PER_TOKEN = 0.005
"""Processor time that an operation may take for one token: 100 a second are half a processor."""


class ClientWork:
    """The work of one request, paid in tokens: its price in advance, and its time afterwards."""

    def __init__(self, throttle: "Throttle", client: str, operations: int) -> None:
        self._throttle = throttle
        self._client = client
        self._operations = operations
        self.tokens = 0
        self.time = WorkTime()

    def __enter__(self) -> Self:
        self.take(self._operations)
        self._measuring = current_work_time.set(self.time)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        current_work_time.reset(self._measuring)
        self._throttle.charge(self._client, self.time.seconds / SECONDS_PER_TOKEN - self.tokens)

    def take(self, operations: int = 1) -> None:
        """Take a token per operation. Raises RateLimited without enough tokens."""
        self._throttle.take(self._client, operations, taken=self.tokens)
        self.tokens += operations

    def take_cost(self, cost: int) -> None:
        """Take the tokens of an operation's cost. Raises RateLimited."""
        if tokens := cost // COST_PER_TOKEN:
            self.take(tokens)


class Throttle:
    """Token buckets, streams and subscriptions by client key (see `Access.client`)."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = limits.max_requests_per_second
        self._max_streams = limits.max_streams_per_client
        self._max_subscription_cost = limits.max_subscription_cost
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens left, and the time of that count."""
        self._streams: Counter[str] = Counter()
        self._subscription_costs: Counter[str] = Counter()

    @property
    def _burst(self) -> float:
        """The capacity of a bucket."""
        return max(1.0, self._rate * BURST_SECONDS)

    def take(self, client: str, operations: int = 1, *, taken: int = 0) -> None:
        """Take a token per operation. Raises RateLimited without enough tokens.

        `taken`: tokens that the same request took before.
        """
        if not self._rate:
            return
        burst = self._burst
        now = self._clock()
        left, at = self._buckets.pop(client, (burst, now))
        left = min(burst, left + (now - at) * self._rate)
        # A request larger than a full bucket takes the whole bucket, or it could never run.
        price = min(operations, max(0, burst - taken))
        allowed = left >= price
        self._buckets[client] = left - price if allowed else left, now
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimited(
                f"Too many operations: at most {self._rate:g} per second are allowed, "
                f"{burst:g} at once, and a costly one counts as several.",
                max(1, ceil((price - left) / self._rate)),
                limit=self._rate,
                found=operations,
            )

    def work(self, client: str, operations: int = 1) -> ClientWork:
        """Return a block that takes a token per operation, and at its end those of its time.

        It raises RateLimited without enough tokens.
        """
        return ClientWork(self, client, operations)

    def charge(self, client: str, tokens: float) -> None:
        """Take tokens for work that is done, down to as many below zero as a full bucket has."""
        if tokens <= 0 or client not in self._buckets:
            return
        left, at = self._buckets[client]
        self._buckets[client] = max(left - tokens, -self._burst), at

    @contextmanager
    def subscription(self, client: str, cost: int) -> Iterator[None]:
        """Count the cost of an open subscription, which each event takes.

        Raises BadRequest (429) if the client's subscriptions cost too much together.
        """
        total = self._subscription_costs[client] + cost
        if total > self._max_subscription_cost:
            limit = self._max_subscription_cost
            raise BadRequest(
                f"Too many subscriptions: those of a client may cost {limit:,} together, and with "
                f"this one they cost {total:,}.",
                code="SUBSCRIPTION_COST_LIMIT_EXCEEDED",
                status=429,
                headers={"Retry-After": "1"},
                extensions={"limit": limit, "found": total},
            )
        self._subscription_costs[client] = total
        try:
            yield
        finally:
            self._subscription_costs[client] -= cost
            if not self._subscription_costs[client]:
                del self._subscription_costs[client]

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
