"""Where traces go: to the collector that OpenTelemetry's own variables name (OTEL_*), if any."""

import logging
import os
from collections.abc import Callable, Mapping
from threading import Thread
from typing import NamedTuple

from opentelemetry.trace import Tracer

from app import __version__

log = logging.getLogger(__name__)

NAME = "jobs-gateway"

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

STOP_SECONDS = 2.0
"""How long the last spans may take to go out once the process stops."""


class Tracing(NamedTuple):
    """What makes spans, and what sends the last of them."""

    tracer: Tracer
    stop: Callable[[], None]


def start_tracing(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Begin to trace, where a collector is named and the `otel` extra is installed."""
    if not _is_wanted(environment):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("nothing is traced: pip install 'jobs-gateway[otel]'")
        return None
    ours = Resource.create({"service.name": NAME, "service.version": __version__})
    provider = TracerProvider(
        # What the environment says of the service wins.
        resource=ours.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

    def stop() -> None:
        # By itself it waits for half a minute for a collector that does not answer.
        ending = Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)

    return Tracing(provider.get_tracer(NAME, __version__), stop)


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    return exporter == "otlp" and any(map(environment.get, ENDPOINTS))
