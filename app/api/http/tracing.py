"""OpenTelemetry spans of requests and operations, without paths, documents and variables."""

from contextlib import AbstractContextManager, nullcontext

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.middleware.access_log import METHODS, PROBE_ROUTES, route_of

W3C = TraceContextTextMapPropagator()


class TracingMiddleware:
    """Records a span per HTTP request, in the trace that its traceparent header names.

    Sockets get no span, since they may last for hours; their operations do.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            # Messages of exceptions may contain secrets.
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
    """Return an operation's span as a context; without a tracer, a context of None.

    An operation of a socket begins a new trace.
    """
    if tracer is None:
        return nullcontext()
    is_child = get_current_span().get_span_context().is_valid
    return tracer.start_as_current_span(
        type,
        kind=SpanKind.INTERNAL if is_child else SpanKind.SERVER,
        attributes={
            "graphql.operation.type": type,
            "jobs_gateway.request_id": request_id,
            **({"graphql.operation.name": name} if name else {}),
        },
        record_exception=False,
        set_status_on_exception=False,
    )


def traceparent() -> str | None:
    """Return the current span in the W3C Trace Context format; None without one."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier)
    return carrier.get("traceparent")
