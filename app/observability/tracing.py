"""Export of traces to the collector of OpenTelemetry's variables (OTEL_*), if set."""

import logging
import os
from collections.abc import Callable, Mapping
from threading import Thread
from typing import NamedTuple

from opentelemetry.trace import Tracer

from app import __version__

log = logging.getLogger(__name__)

SERVICE_NAME = "jobs-gateway"

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

MAX_STOP_SECONDS = 2.0
"""Time limit for the export of the last spans when the process stops."""


class Tracing(NamedTuple):
    """The tracer, and a function that exports the last spans."""

    tracer: Tracer
    stop: Callable[[], None]


def start_tracing(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Start tracing if a collector is configured and the `otel` extra is installed."""
    if not _is_enabled(environment):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("nothing is traced: pip install 'jobs-gateway[otel]'")
        return None
    defaults = Resource.create({"service.name": SERVICE_NAME, "service.version": __version__})
    provider = TracerProvider(
        # The environment's attributes of the service take precedence.
        resource=defaults.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def stop() -> None:
        # Without a thread, shutdown waits half a minute for a collector that does not answer.
        shutdown = Thread(target=provider.shutdown, daemon=True)
        shutdown.start()
        shutdown.join(MAX_STOP_SECONDS)

    return Tracing(provider.get_tracer(SERVICE_NAME, __version__), stop)


def _is_enabled(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    return exporter == "otlp" and any(map(environment.get, ENDPOINT_VARIABLES))
