"""What is counted and timed while the process runs, and nothing else: no store, no id, no path.

Every label takes few values. Only operation names come from clients, and of those the first
hundred are told apart. The figures are the process's; app.api.metrics shows them.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app import __version__
from app.domain.jobs import JobStatus, JobType

PREFIX = "jobs_gateway"

OPERATION_NAMES = 100
"""Names of operations that are told apart; later ones are all `other`."""
NAME_CHARACTERS = 64
"""How long such a name may be."""

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
JOB_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

SERIES_KEPT = 1000
"""Series of one figure that are kept at hand; there are fewer."""

T = TypeVar("T", Counter, Histogram)

registry = CollectorRegistry()
"""All figures below. Not the library's own one, to which any other library may add."""

# When each series began: as many series again, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # its only untyped one
ProcessCollector(registry=registry)
Gauge("build_info", "The version that runs.", ["version"], PREFIX, registry=registry).labels(
    __version__
).set(1)


def _counter(name: str, documentation: str, *labels: str) -> Counter:
    return _at_hand(Counter(name, documentation, labels, PREFIX, registry=registry))


def _histogram(
    name: str, documentation: str, buckets: tuple[float, ...], *labels: str
) -> Histogram:
    return _at_hand(
        Histogram(name, documentation, labels, PREFIX, buckets=buckets, registry=registry)
    )


def _at_hand(figure: T) -> T:
    """The same, whose series are found without a lock and without texts made of their labels."""
    figure.labels = lru_cache(SERIES_KEPT)(figure.labels)  # type: ignore[method-assign]
    return figure


class Tally(Collector):
    """A counter for what happens to thousands at once, all in the event loop's thread: without the
    library's locks it takes a tenth of the time."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = f"{PREFIX}_{name}"
        self._documentation = documentation
        self.value = 0
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The figure now."""
        yield CounterMetricFamily(self._name, self._documentation, self.value)


class Lags(Collector):
    """A histogram, likewise."""

    def __init__(self, name: str, documentation: str, buckets: tuple[float, ...]) -> None:
        self._name = f"{PREFIX}_{name}"
        self._documentation = documentation
        self._bounds = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one. Clocks of two machines may differ: less than nothing is nothing."""
        if seconds > 0:
            self._sum += seconds
        self._counts[bisect_left(self._bounds, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation)
        counts = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric([], counts, self._sum)
        yield family


HTTP_REQUESTS = _counter("http_requests", "Answered HTTP requests.", "method", "route", "status")
HTTP_SECONDS = _histogram(
    "http_request_duration_seconds",
    "Time to the end of the answer; streams are left out.",
    REQUEST_SECONDS,
    "route",
)
OPERATIONS = _counter(
    "graphql_operations",
    "GraphQL operations that ended, by name and by the code of their first error.",
    "operation",
    "code",
)
OPERATION_SECONDS = _histogram(
    "graphql_operation_duration_seconds",
    "Time that a query or a mutation ran.",
    REQUEST_SECONDS,
    "operation",
)
TRANSPORTS = _counter(
    "graphql_transport_operations",
    "GraphQL operations that were run, by the way they came.",
    "transport",
    "type",
)
PLANS = _counter(
    "graphql_plans",
    "Queries that were answered by a plan (planned); and that were not, as what they ask for has "
    "none (ordinary), as their answer has errors (refused), as a plan broke (broke).",
    "outcome",
)
RESOLVER_ERRORS = _counter("resolver_errors", "Errors in the answers of operations.", "code")
SUBSCRIBERS = Gauge(
    "subscribers", "Subscriptions that follow the event log now.", (), PREFIX, registry=registry
)
REREADS = _counter(
    "subscriber_rereads",
    "Times that a subscriber read the log itself: it resumed, or fell behind what is kept at hand.",
    "reason",
)
DROPPED = _counter("clients_dropped", "Sockets that were closed because their peer was silent.")
EVENT_LAG = Lags(
    "event_lag_seconds", "From an event's time to its being handed to a subscriber.", LAG_SECONDS
)
EXECUTIONS = _counter(
    "subscription_executions", "Events that were executed for all subscribers told the same."
)
DELIVERED = Tally("subscription_results", "Results that were handed to subscribers.")
JOBS = _counter("jobs_ended", "Jobs that ended.", "type", "outcome")
JOB_SECONDS_SPENT = _histogram(
    "job_duration_seconds", "From a job's start to its end.", JOB_SECONDS, "type", "outcome"
)
TAKEOVERS = _counter("takeovers", "Jobs taken over from a worker that went silent.")
FENCE_REFUSALS = _counter(
    "fence_refusals", "Workers whose writes were refused, since another one had their job."
)

for _type in JobType:
    for _outcome in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED):
        JOBS.labels(_type, _outcome)

_names: set[str] = set()


def operation_label(name: str | None) -> str:
    """The label of an operation by that name, which was in a valid document."""
    if name is None:
        return "anonymous"
    if name not in _names:
        if len(_names) >= OPERATION_NAMES or len(name) > NAME_CHARACTERS:
            return "other"
        _names.add(name)
    return name


def job_ended(
    type: JobType, outcome: JobStatus, started_at: datetime | None, completed_at: datetime | None
) -> None:
    """Count an ended job, and observe its duration if it was started."""
    JOBS.labels(type, outcome).inc()
    if started_at and completed_at:
        seconds = (completed_at - started_at).total_seconds()
        JOB_SECONDS_SPENT.labels(type, outcome).observe(seconds)
