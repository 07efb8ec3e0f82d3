"""Metrics of this process, without stores, ids or paths.

Every label has few values. Only operation names come from clients; those after the first hundred
share one label. app.api.http.metrics_endpoint serves the metrics, and
tests/contract/test_seams.py names the internals of prometheus_client used here.
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

MAX_OPERATION_NAMES = 100
"""Operation names with a label of their own; later ones are `other`."""
MAX_NAME_LENGTH = 64
"""Characters of an operation name; longer ones are `other`."""

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
JOB_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

SERIES_CACHE_SIZE = 1000
"""Cached series per metric; no metric has as many."""

T = TypeVar("T", Counter, Histogram)

registry = CollectorRegistry()
"""All metrics below. Other libraries may add theirs to prometheus_client's default registry."""

# A creation time per series would double the number of series, without a use.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's only untyped function
ProcessCollector(registry=registry)
Gauge("build_info", "The running version.", ["version"], PREFIX, registry=registry).labels(
    __version__
).set(1)


def _counter(name: str, documentation: str, *labels: str) -> Counter:
    return _with_cached_series(Counter(name, documentation, labels, PREFIX, registry=registry))


def _histogram(
    name: str, documentation: str, buckets: tuple[float, ...], *labels: str
) -> Histogram:
    return _with_cached_series(
        Histogram(name, documentation, labels, PREFIX, buckets=buckets, registry=registry)
    )


def _with_cached_series(metric: T) -> T:
    """Cache the metric's series by label values: no lock, no conversion of labels to text."""
    metric.labels = lru_cache(SERIES_CACHE_SIZE)(metric.labels)  # type: ignore[method-assign]
    return metric


class UnlockedCounter(Collector):
    """A counter for the event loop's thread only.

    Without the library's locks it takes a tenth of the time, for events of thousands of
    subscribers.
    """

    def __init__(self, name: str, documentation: str) -> None:
        self._name = f"{PREFIX}_{name}"
        self._documentation = documentation
        self.value = 0
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        yield CounterMetricFamily(self._name, self._documentation, self.value)


class UnlockedHistogram(Collector):
    """A histogram for the event loop's thread only, without locks."""

    def __init__(self, name: str, documentation: str, buckets: tuple[float, ...]) -> None:
        self._name = f"{PREFIX}_{name}"
        self._documentation = documentation
        self._bounds = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count an observation. A negative one, of machines with different clocks, adds no time."""
        if seconds > 0:
            self._sum += seconds
        self._counts[bisect_left(self._bounds, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation)
        counts = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric([], counts, self._sum)
        yield family


HTTP_REQUESTS = _counter(
    "http_requests", "HTTP requests with a response.", "method", "route", "status"
)
HTTP_SECONDS = _histogram(
    "http_request_duration_seconds",
    "Time to the end of the response, without streams.",
    REQUEST_BUCKETS,
    "route",
)
OPERATIONS = _counter(
    "graphql_operations",
    "Completed GraphQL operations, by name and by the code of their first error.",
    "operation",
    "code",
)
OPERATION_SECONDS = _histogram(
    "graphql_operation_duration_seconds",
    "Execution time of a query or a mutation.",
    REQUEST_BUCKETS,
    "operation",
)
TRANSPORTS = _counter(
    "graphql_transport_operations",
    "Executed GraphQL operations, by transport.",
    "transport",
    "type",
)
PLANS = _counter(
    "graphql_plans",
    "Operations executed by a plan (planned), partly by a plan (split), and by the reference "
    "executor: without a plan (ordinary), because of errors in the response (refused), after a bug "
    "in a plan (broke).",
    "outcome",
)
RESOLVER_ERRORS = _counter("resolver_errors", "Errors in responses of operations.", "code")
SUBSCRIBERS = Gauge(
    "subscribers", "Active subscriptions to the event log.", (), PREFIX, registry=registry
)
REREADS = _counter(
    "subscriber_rereads",
    "Reads of the log for one subscriber, which resumed or was slower than the cached events.",
    "reason",
)
DROPPED = _counter("clients_dropped", "Sockets closed because the client did not answer a ping.")
EVENT_LAG = UnlockedHistogram(
    "event_lag_seconds", "Time from an event to its delivery to a subscriber.", LAG_BUCKETS
)
EXECUTIONS = _counter(
    "subscription_executions",
    "Executions of events, each for all subscribers of the same subscription.",
)
DELIVERED = UnlockedCounter("subscription_results", "Results delivered to subscribers.")
JOBS = _counter("jobs_ended", "Ended jobs.", "type", "outcome")
JOB_SECONDS = _histogram(
    "job_duration_seconds", "Time from a job's start to its end.", JOB_BUCKETS, "type", "outcome"
)
TAKEOVERS = _counter("takeovers", "Jobs taken over from a worker without a heartbeat.")
FENCE_REFUSALS = _counter(
    "fence_refusals", "Writes refused because another worker had taken over the job."
)

for _type in JobType:
    for _outcome in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED):
        JOBS.labels(_type, _outcome)

_names: set[str] = set()


def operation_label(name: str | None) -> str:
    """Return the label of an operation's name from a valid document."""
    if name is None:
        return "anonymous"
    if name not in _names:
        if len(_names) >= MAX_OPERATION_NAMES or len(name) > MAX_NAME_LENGTH:
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
        JOB_SECONDS.labels(type, outcome).observe(seconds)
