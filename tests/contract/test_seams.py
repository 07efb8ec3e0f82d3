"""Internals of dependencies: each exists, and one seam module uses it.

An upgrade that renames or removes an internal fails here with its name. To add a library, add a
Seam. tests/contract/test_dependencies.py covers the versions.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import getsource
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import pytest

APP = Path(__file__).parents[2] / "app"


class Seam(NamedTuple):
    """The module that uses a library's internals."""

    module: str
    internals: tuple[str, ...]
    """`package.module:name` or `package.module:Class.attribute`, as the module uses them."""
    common: frozenset[str] = frozenset()
    """Last parts of internals that other modules use for something else."""


SEAMS = (
    Seam(
        "app.storage.engine.sqlalchemy_seam",
        (
            "sqlalchemy.engine.base:OptionEngine",
            "sqlalchemy.engine.base:Engine.dispatch",
            "sqlalchemy.engine.events:ConnectionEvents.before_cursor_execute",
            "sqlalchemy.engine.default:DefaultDialect.loaded_dbapi",
            "sqlalchemy.engine.default:DefaultDialect.is_disconnect",
            "sqlalchemy.exc:DBAPIError",
            "sqlalchemy.sql.compiler:SQLCompiler.string",
            "sqlalchemy.sql.compiler:SQLCompiler.params",
            "sqlalchemy.sql.compiler:SQLCompiler.positional",
            "sqlalchemy.sql.compiler:SQLCompiler.positiontup",
            "sqlalchemy.sql.compiler:SQLCompiler.binds",
            "sqlalchemy.sql.selectable:TypedReturnsRows",
            "sqlalchemy.types:TypeEngine.dialect_impl",
            "sqlalchemy.types:TypeEngine.bind_processor",
            "sqlalchemy.types:TypeEngine.result_processor",
        ),
        common=frozenset({"string", "params", "positional", "DBAPIError", "before_cursor_execute"}),
    ),
    Seam(
        "app.api.graphql.strawberry_seam",
        (
            "strawberry.schema.schema:Schema._schema",
            "strawberry.schema.schema:Schema.schema_converter",
            "strawberry.schema.schema:StrawberryGraphQLCoreExecutionContext",
            "strawberry.schema.schema_converter:GraphQLCoreConverter.DEFINITION_BACKREF",
            "strawberry.schema.schema_converter:GraphQLCoreConverter.scalar_registry",
            "strawberry.schema.schema_converter:GraphQLCoreConverter.config",
            "strawberry.schema.validation_rules.maybe_null:MaybeNullValidationRule",
            "strawberry.schema.validation_rules.one_of:OneOfInputValidationRule",
            "strawberry.types.arguments:StrawberryArgument",
            "strawberry.types.arguments:convert_arguments",
            "strawberry.types.base:WithStrawberryDefinition.__strawberry_definition__",
            "strawberry.types.enum:StrawberryEnumDefinition.values",
            "strawberry.types.execution:ExecutionContext.graphql_document",
            "strawberry.types.execution:ExecutionContext.validation_rules",
            "strawberry.types.field:StrawberryField.arguments",
            "strawberry.types.field:StrawberryField.base_resolver",
            "strawberry.types.field:StrawberryField.metadata",
            "strawberry.types.field:StrawberryField.python_name",
            "strawberry.types.lazy_type:LazyType",
            "strawberry.utils.str_converters:to_camel_case",
            "strawberry.execution:optimized_is_awaitable",
            "graphql.execution:create_source_event_stream",
            "graphql.execution:execute_subscription_event",
            "graphql.execution:Executor.build",
            "graphql.execution:Executor.build_per_event_executor",
            "graphql.execution:Executor.context_value",
            "graphql.execution:Executor.is_awaitable",
            "graphql.execution:Executor.variable_values",
        ),
        common=frozenset(
            {"_schema", "config", "values", "arguments", "metadata", "python_name", "build"}
            | {"context_value", "variable_values"}
        ),
    ),
    Seam(
        "app.api.http.uvicorn_protocols",
        (
            "uvicorn._types:ASGIReceiveEvent",
            "uvicorn._types:ASGISendEvent",
            "uvicorn.protocols.http.flow_control:FlowControl.pause_reading",
            "uvicorn.protocols.http.flow_control:FlowControl.resume_reading",
            "uvicorn.protocols.http.httptools_impl:STATUS_LINE",
            *(
                f"uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.{name}"
                for name in (
                    *("client", "connection_lost", "connection_made", "cycle", "data_received"),
                    *("expect_100_continue", "flow", "handle_websocket_upgrade", "headers"),
                    *("logger", "loop", "on_body", "timeout_keep_alive_task"),
                    *("on_headers_complete", "on_message_begin"),
                    *("on_message_complete", "on_response_complete", "on_url", "parser"),
                    *("pause_writing", "pipeline", "resume_writing", "scope", "transport"),
                    *("_should_upgrade", "_start_asgi_task", "_unset_keepalive_if_required"),
                )
            ),
            *(
                f"uvicorn.protocols.http.httptools_impl:RequestResponseCycle.{name}"
                for name in (
                    *("chunked_encoding", "expected_content_length", "keep_alive", "on_response"),
                    *("response_complete", "response_started", "scope", "send"),
                )
            ),
            "httptools:HttpParserError",
            "httptools:HttpParserUpgrade",
            "httptools:HttpRequestParser.feed_data",
            "httptools:HttpRequestParser.get_http_version",
            "httptools:HttpRequestParser.set_dangerous_leniencies",
            "httptools:HttpRequestParser.should_upgrade",
            *(
                f"uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol.{name}"
                for name in (
                    *("client", "close_sent", "conn", "connection_lost", "connection_made"),
                    *("curr_msg_data_type", "data_received", "disconnected", "frames"),
                    *("handle_cont", "handle_connect", "handle_events"),
                    *("handle_parser_exception", "handshake_complete", "handshake_initiated"),
                    "keepalive_timeout",
                    *(
                        "loop",
                        "on_task_complete",
                        "pause_writing",
                        "queue",
                        "read_paused",
                        "receive",
                        "request",
                    ),
                    *("response", "resume_writing", "scope", "send"),
                    *("send_receive_event_to_app", "transport", "writable"),
                )
            ),
            "websockets.protocol:Protocol.events",
            "websockets.protocol:Protocol.fail",
            "websockets.protocol:Protocol.handshake_exc",
            "websockets.protocol:Protocol.parser",
            "websockets.server:ServerProtocol.reject",
            "websockets.protocol:Protocol.state",
        ),
        common=frozenset(
            {"connection_lost", "connection_made", "data_received", "loop", "transport", "frames"}
            | {"queue", "request", "response", "scope", "send", "fail", "state", "disconnected"}
            | {"client", "events", "flow", "headers", "logger", "parser", "receive", "cycle"}
        ),
    ),
    Seam(
        "app.api.http.uvicorn_servers",
        (
            "uvicorn.server:Server.capture_signals",
            "uvicorn.server:Server.main_loop",
            "uvicorn.server:Server.should_exit",
        ),
        common=frozenset({"capture_signals"}),
    ),
    Seam(
        "app.cli",
        (
            "typer.core:TyperCommand",
            "typer.core:TyperGroup.get_command",
            "typer.core:TyperGroup.list_commands",
            "typer.core:TyperGroup.resolve_command",
            "typer.main:get_command",
        ),
        common=frozenset({"list_commands"}),
    ),
    Seam(
        "app.cli.logs", ("logging:logMultiprocessing", "logging:logProcesses", "logging:logThreads")
    ),
    Seam(
        "app.observability.metrics",
        (
            "prometheus_client.metrics:MetricWrapperBase.labels",
            "prometheus_client.registry:Collector.collect",
            "prometheus_client.utils:floatToGoString",
        ),
        common=frozenset({"labels", "collect"}),
    ),
)

INTERNALS = [(seam, internal) for seam in SEAMS for internal in seam.internals]
EXCLUSIVE = [
    (seam, name)
    for seam, internal in INTERNALS
    if (name := internal.rpartition(":")[2].rpartition(".")[2]) not in seam.common
]


def resolved(internal: str) -> Any:
    """Return the internal, or None where only instances of its class have it."""
    try:
        return resolve_name(internal)
    except AttributeError:
        owner, _, attribute = internal.rpartition(".")
        cls = resolve_name(owner)
        is_declared = any(
            attribute in vars(base).get("__annotations__", ()) for base in cls.__mro__
        )
        if not is_declared and not re.search(rf"self\.{attribute}(: .+)? = ", getsource(cls)):
            raise
        return None


@cache
def used_names() -> dict[str, set[str]]:
    """Return the attributes, names and imported names that each module of app uses."""
    return {module_name(path): {*names_in(path)} for path in APP.rglob("*.py")}


def module_name(path: Path) -> str:
    parts = path.relative_to(APP.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def names_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                yield name
            case ast.ImportFrom(names=names):
                yield from (alias.name for alias in names)


def module_of(value: object) -> str | None:
    """Name a Seam by its module in the id of a test."""
    return value.module if isinstance(value, Seam) else None


@pytest.mark.parametrize(("seam", "internal"), INTERNALS, ids=module_of)
def test_an_internal_exists(seam: Seam, internal: str) -> None:
    resolved(internal)


@pytest.mark.parametrize(("seam", "name"), EXCLUSIVE, ids=module_of)
def test_only_its_seam_uses_an_internal(seam: Seam, name: str) -> None:
    assert {module for module, names in used_names().items() if name in names} == {seam.module}


@pytest.mark.parametrize("seam", SEAMS, ids=module_of)
def test_a_seam_module_says_that_its_internals_are_tested(seam: Seam) -> None:
    assert "tests/contract/test_seams.py" in (import_module(seam.module).__doc__ or "")


def test_a_missing_internal_is_reported_by_name() -> None:
    with pytest.raises(AttributeError, match="no_such_internal"):
        resolved("sqlalchemy.sql.compiler:SQLCompiler.no_such_internal")
