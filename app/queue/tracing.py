"""OpenTelemetry spans of attempts, linked to the requests that created their jobs."""

from contextlib import AbstractContextManager

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.storage.tables import JobRow


def attempt_span(tracer: Tracer, job: JobRow) -> AbstractContextManager[Span]:
    """Start the span of an attempt, as the root of its own trace.

    The attempt may begin long after the request's trace has ended, in another process.
    """
    carrier = {"traceparent": job.traceparent} if job.traceparent else {}
    request = get_current_span(TraceContextTextMapPropagator().extract(carrier, Context()))
    return tracer.start_as_current_span(
        f"job {job.type}",
        Context(),
        SpanKind.CONSUMER,
        {
            "jobs_gateway.job.id": str(job.id),
            "jobs_gateway.job.type": job.type.value,
            "jobs_gateway.job.attempt": job.attempts,
            "jobs_gateway.request_id": job.request_id,
            "jobs_gateway.store": job.store,
        },
        [Link(request.get_span_context())] if request.get_span_context().is_valid else [],
        record_exception=False,
        set_status_on_exception=False,
    )
