"""Spans of SQL statements; no overhead without a collector."""

import re
import sys
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.main import Gateway
from app.observability.tracing import start_tracing
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from tests.support.clients import GraphQLClient

COLLECTED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """The exporter that stores spans in memory."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    """A tracer provider that exports to `spans`."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


async def test_statements_are_children_of_the_callers_span_on_every_thread(
    database: Database, provider: TracerProvider, spans: InMemorySpanExporter
) -> None:
    tracer = provider.get_tracer("test")
    database.trace(tracer)

    def select_value(tx: Transaction) -> Any:
        [(secret,)] = tx.rows(sa.text("SELECT :secret"), {"secret": "mum"})
        return secret

    assert await database.read(select_value) == "mum"
    assert not spans.get_finished_spans(), "statements outside a span are not traced"
    for run in (database.read, database.scan, database.write, database.write_bulk):
        spans.clear()
        with tracer.start_as_current_span("caller"):
            await run(select_value)
        *statements, caller = spans.get_finished_spans()
        assert caller.context
        assert {span.parent and span.parent.span_id for span in statements} == {
            caller.context.span_id
        }
        selects = [
            span
            for span in statements
            # Bulk work also queries the free space.
            if re.search(r"SELECT [?%]", str(span.attributes))
        ]
        assert len(selects) == 1
        assert selects[0].attributes
        assert selects[0].attributes["db.system.name"] == database.write_engine.dialect.name
        assert "mum" not in "".join(span.to_json() for span in statements)


async def test_a_failed_statement_is_an_error_span_without_its_values(
    database: Database, provider: TracerProvider, spans: InMemorySpanExporter
) -> None:
    tracer = provider.get_tracer("test")
    database.trace(tracer)

    def twice(tx: Transaction) -> None:
        for _ in range(2):
            tx.changed(
                sa.text(
                    "INSERT INTO product (id, store, sku) VALUES (:id, 'default', 'mum is it')"
                ).bindparams(sa.bindparam("id", type_=sa.Uuid)),
                {"id": UUID(int=0xC0FFEE)},
            )

    with tracer.start_as_current_span("caller"), pytest.raises(sa.exc.IntegrityError):
        await database.write(twice)
    failed = [span for span in spans.get_finished_spans() if not span.status.is_ok]
    assert len(failed) == 1
    assert failed[0].attributes
    assert failed[0].attributes["error.type"] in ("IntegrityError", "UniqueViolation")
    assert not failed[0].events
    assert "c0ffee" not in failed[0].to_json()


async def test_engines_have_no_listeners_without_a_collector(
    gateway: Gateway, client: GraphQLClient
) -> None:
    await client.data("{ jobs { totalCount } }")
    for engine in (gateway.database.write_engine, gateway.database.read_engine):
        assert not list(engine.dispatch.before_cursor_execute)
        assert not list(engine.dispatch.after_cursor_execute)
        assert not list(engine.dialect.dispatch.handle_error)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "alone"},
        {**COLLECTED, "OTEL_SDK_DISABLED": "true"},
        {**COLLECTED, "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=["nothing", "no collector", "disabled", "no exporter"],
)
def test_nothing_is_traced_unless_a_collector_is_configured(environment: dict[str, str]) -> None:
    assert start_tracing(environment) is None


def test_without_the_otel_extra_a_warning_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert start_tracing(COLLECTED) is None
    assert "pip install 'jobs-gateway[otel]'" in caplog.text
