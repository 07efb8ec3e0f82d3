"""What is counted and timed while the process runs, and nothing else: no store, no id, no path.

Every label takes few values. Only operation names come from clients, and of those the first
hundred are told apart. The figures are the process's; app.api.metrics shows them.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from app import __version__
from app.domain.jobs import JobStatus, JobType
from app.storage.tables import Job

PREFIX = "jobs_gateway"

OPERATION_NAMES = 100
"""Names of operations that are told apart; later ones are all `other`."""
NAME_CHARACTERS = 64
"""How long such a name may be."""

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
JOB_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

registry = CollectorRegistry()
"""All figures below. Not the library's own one, to which any other library may add."""

# When each series began: as many series again, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # its only untyped one
ProcessCollector(registry=registry)
Gauge("build_info", "The version that runs.", ["version"], PREFIX, registry=registry).labels(
    __version__
).set(1)


def _counter(name: str, documentation: str, *labels: str) -> Counter:
    return Counter(name, documentation, labels, PREFIX, registry=registry)


def _histogram(
    name: str, documentation: str, buckets: tuple[float, ...], *labels: str
) -> Histogram:
    return Histogram(name, documentation, labels, PREFIX, buckets=buckets, registry=registry)


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
EVENT_LAG = _histogram(
    "event_lag_seconds", "From an event's time to its being handed to a subscriber.", LAG_SECONDS
)
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


def job_ended(job: Job) -> None:
    """Count a job that came to its end, and how long it took if it ever ran."""
    JOBS.labels(job.type, job.status).inc()
    if job.started_at and job.completed_at:
        spent = (job.completed_at - job.started_at).total_seconds()
        JOB_SECONDS_SPENT.labels(job.type, job.status).observe(spent)
