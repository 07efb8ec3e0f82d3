"""Spans of requests and operations (OpenTelemetry): neither paths, documents nor variables."""

from contextlib import AbstractContextManager, nullcontext

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.middleware.access_log import METHODS, PROBE_ROUTES, route_of

W3C = TraceContextTextMapPropagator()


class TracingMiddleware:
    """Makes each request a span, in the trace that the request says it belongs to.

    A socket is none: it may last for hours. Its operations are.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on inside its span."""
        if scope["type"] != "http" or scope["path"] in PROBE_ROUTES:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"

        with self._tracer.start_as_current_span(
            method,
            W3C.extract(HTTPConnection(scope).headers),
            SpanKind.SERVER,
            {
                "http.request.method": method,
                "url.scheme": scope["scheme"],
                "network.protocol.version": scope["http_version"],
                "jobs_gateway.request_id": scope["state"]["request_id"],
            },
            # What an exception says may be a secret.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_attribute("error.type", str(status))
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_traced)
            finally:
                route = route_of(scope)
                span.set_attribute("http.route", route)
                span.update_name(f"{method} {route}")


def operation_span(
    tracer: Tracer | None, type: str, name: str | None, request_id: str
) -> AbstractContextManager[Span | None]:
    """The span of an operation while it runs; of a socket's, the first of its trace. None where
    nothing is traced."""
    if tracer is None:
        return nullcontext()
    inside = get_current_span().get_span_context().is_valid
    return tracer.start_as_current_span(
        type,
        kind=SpanKind.INTERNAL if inside else SpanKind.SERVER,
        attributes={
            "graphql.operation.type": type,
            "jobs_gateway.request_id": request_id,
            **({"graphql.operation.name": name} if name else {}),
        },
        record_exception=False,
        set_status_on_exception=False,
    )


def traceparent() -> str | None:
    """The span under way here, as W3C Trace Context writes it."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier)
    return carrier.get("traceparent")
