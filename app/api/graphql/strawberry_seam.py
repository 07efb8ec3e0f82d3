"""Every internal of strawberry and graphql-core that the gateway relies on.

Documented names are imported where they are used. tests/contract/test_seams.py names each internal,
so that an upgrade that changes one fails with its name.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLField,
    GraphQLSchema,
    create_source_event_stream,
    execute_subscription_event,
)
from graphql import Executor as GraphQLExecutor
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule
from strawberry.types import ExecutionContext
from strawberry.types.arguments import StrawberryArgument, convert_arguments
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.lazy_type import LazyType
from strawberry.utils.str_converters import to_camel_case

ContextT = TypeVar("ContextT")
EnumT = TypeVar("EnumT", bound=Enum)

STRAWBERRY_RULES = (MaybeNullValidationRule, OneOfInputValidationRule)
"""Validation rules that strawberry applies in addition to graphql-core's when it validates."""

PreparedExecution = GraphQLExecutor[Any]
"""An operation with coerced variables, ready to execute for a root value."""

StrawberryExecution = StrawberryGraphQLCoreExecutionContext
"""The class that strawberry executes queries and mutations by."""

ArgumentConverter = Callable[[Mapping[str, Any], list[StrawberryArgument]], dict[str, Any]]
"""Converts coerced GraphQL values to a resolver's keyword arguments."""


def lazy_type(name: str, module: str) -> Any:
    """Return the GraphQL type `name` of a module that is imported when the schema is built.

    GraphQL types refer to each other in cycles; modules must not.
    """
    return LazyType(name, module)


def core_schema(schema: strawberry.Schema) -> GraphQLSchema:
    """Return graphql-core's schema."""
    return schema._schema


def declaration_of(field: GraphQLField) -> StrawberryField:
    """Return strawberry's declaration of a field of the schema."""
    declaration: StrawberryField = field.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
    return declaration


def has_resolver(field: StrawberryField) -> bool:
    """Return True if a field has a resolver, and is not an attribute of its row."""
    return field.base_resolver is not None


def argument_converter(schema: strawberry.Schema) -> ArgumentConverter:
    """Return the conversion of arguments that strawberry's own resolvers use."""
    converter = schema.schema_converter
    return partial(
        convert_arguments, scalar_registry=converter.scalar_registry, config=converter.config
    )


def schema_name(name: str) -> str:
    """Return the schema's name of a parameter or an attribute."""
    return to_camel_case(name)


def describe_values(enum: type[EnumT], descriptions: Mapping[EnumT, str]) -> None:
    """Set the description of each value of a strawberry enum.

    strawberry.enum_value would do so only inside the enum, and domain enums know no GraphQL.
    """
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = descriptions[enum[value.name]]


def skip_validation(execution: ExecutionContext, document: DocumentNode) -> None:
    """Execute an admitted document as it is, without parsing and validating its text again."""
    execution.graphql_document = document
    execution.validation_rules = ()


class _ContextInfo(NamedTuple):
    context: Any


def info_of(context: ContextT) -> "strawberry.Info[ContextT, None]":
    """Return a stand-in for strawberry's Info that has a context only.

    Plans pass it to mutations, which read nothing else of their Info.
    """
    return cast("strawberry.Info[ContextT, None]", _ContextInfo(context))


def prepare_execution(
    schema: GraphQLSchema,
    document: DocumentNode,
    context: object,
    variables: dict[str, Any],
    operation_name: str | None,
    execution: type[PreparedExecution],
) -> PreparedExecution | list[GraphQLError]:
    """Prepare an operation as strawberry's Schema.subscribe does, or return its errors.

    `execution` executes its events.
    """
    return execution.build(
        schema,
        document,
        context_value=context,
        raw_variable_values=variables,
        operation_name=operation_name,
        # Faster than graphql-core's; declared as bool, not as the type guard it is.
        is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
    )


async def source_events(
    execution: PreparedExecution,
) -> AsyncGenerator[Any, None] | ExecutionResult:
    """Return the events of a subscription's resolver, or its errors."""
    events: Any = create_source_event_stream(execution)
    if execution.is_awaitable(events):
        events = await events
    result: AsyncGenerator[Any, None] | ExecutionResult = events
    return result


def execute_event(
    execution: PreparedExecution, event: object
) -> ExecutionResult | Awaitable[ExecutionResult]:
    """Execute a prepared subscription for one event of its source."""
    return execute_subscription_event(execution.build_per_event_executor(event))
