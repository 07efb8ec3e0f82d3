"""Spans of SQL statements (OpenTelemetry).

OpenTelemetry's own instrumentation does nothing on SQLAlchemy 2.1.
"""

import sqlalchemy as sa
from opentelemetry.trace import SpanKind, StatusCode, Tracer, get_current_span

STATEMENT_LENGTH = 4_096
"""Characters of a statement in its span."""


def trace_statements(engine: sa.Engine, tracer: Tracer) -> None:
    """Make a span of each statement that runs inside another span.

    It has the statement with placeholders, never values. Periodic work outside requests and jobs
    has no spans.
    """

    def begin(
        _connection: object,
        _cursor: object,
        statement: str,
        _values: object,
        context: sa.engine.ExecutionContext,
        _many: bool,
    ) -> None:
        if not get_current_span().is_recording():
            return
        operation = statement.split(maxsplit=1)[0].upper()
        context.__dict__["traced_by"] = tracer.start_span(
            operation,
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": engine.dialect.name,
                "db.operation.name": operation,
                "db.query.text": statement[:STATEMENT_LENGTH],
            },
        )

    def end(
        _connection: object,
        _cursor: object,
        _statement: str,
        _values: object,
        context: sa.engine.ExecutionContext,
        _many: bool,
    ) -> None:
        if span := context.__dict__.pop("traced_by", None):
            span.end()

    def fail(failure: sa.engine.ExceptionContext) -> None:
        context = failure.execution_context
        if context is not None and (span := context.__dict__.pop("traced_by", None)):
            # The type only: messages may contain values.
            span.set_attribute("error.type", type(failure.original_exception).__qualname__)
            span.set_status(StatusCode.ERROR)
            span.end()

    sa.event.listen(engine, "before_cursor_execute", begin)
    sa.event.listen(engine, "after_cursor_execute", end)
    sa.event.listen(engine, "handle_error", fail)
