"""The served schema equals schema.graphql and keeps the schema contract."""

from collections.abc import Iterator

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
    print_ast,
)
from graphql.utilities import find_breaking_changes

from app.api.graphql.schema import schema_text
from tests.support.paths import ROOT
from tests.support.reference_documents import CONTRACT


@pytest.fixture(scope="module")
def ours() -> GraphQLSchema:
    """The served schema."""
    return build_schema(schema_text())


@pytest.fixture(scope="module")
def contract() -> GraphQLSchema:
    """The schema contract."""
    return build_schema(CONTRACT.read_text(encoding="utf-8"), assume_valid=True)


def test_schema_graphql_is_the_served_schema() -> None:
    exported = (ROOT / "schema.graphql").read_text(encoding="utf-8")
    assert exported == schema_text(), "run `jobs-gateway export-schema schema.graphql`"


def test_the_schema_contains_the_whole_contract(
    contract: GraphQLSchema, ours: GraphQLSchema
) -> None:
    promised = set(_facts(contract))
    assert len(promised) > 300, "the contract was not read whole"
    assert sorted(promised - set(_facts(ours))) == []


def test_additions_to_the_contract_break_no_client(
    contract: GraphQLSchema, ours: GraphQLSchema
) -> None:
    breaking = find_breaking_changes(contract, ours)
    assert [change.description for change in breaking] == []


def test_every_public_element_is_described(ours: GraphQLSchema) -> None:
    described = dict(_descriptions(ours))
    assert len(described) > 200, "the schema was not read whole"
    assert [name for name, text in described.items() if not (text or "").strip()] == []


def _facts(schema: GraphQLSchema) -> Iterator[str]:
    """Yield one sentence per fact of a schema that matters to programs."""
    for name, type_ in _public_types(schema):
        yield f"{type(type_).__name__} {name}"
        match type_:
            case GraphQLScalarType(specified_by_url=url):
                yield f"{name} is specified by {url}"
            case GraphQLEnumType(values=values):
                yield from (f"{name}.{value}" for value in values)
            case GraphQLUnionType(types=members):
                yield from (f"{name} may be {member}" for member in members)
            case GraphQLInputObjectType(fields=fields):
                yield f"{name} is {'one of' if type_.is_one_of else 'all of'} its fields"
                yield from (f"{name}.{field}: {_input_type(f)}" for field, f in fields.items())
            case GraphQLObjectType() | GraphQLInterfaceType():
                yield from (f"{name} is a {interface}" for interface in type_.interfaces)
                for field, f in type_.fields.items():
                    yield f"{name}.{field}: {f.type}"
                    for argument, a in f.args.items():
                        yield f"{name}.{field}({argument}: {_input_type(a)})"


def _input_type(value: GraphQLArgument | GraphQLInputField) -> str:
    default = value.ast_node and value.ast_node.default_value
    return f"{value.type} = {print_ast(default)}" if default else str(value.type)


def _descriptions(schema: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    for name, type_ in _public_types(schema):
        yield name, type_.description
        match type_:
            case GraphQLEnumType(values=values):
                for value, v in values.items():
                    yield f"{name}.{value}", v.description
            case GraphQLInputObjectType(fields=fields):
                for field, f in fields.items():
                    yield f"{name}.{field}", f.description
            case GraphQLObjectType() | GraphQLInterfaceType():
                for field, f in type_.fields.items():
                    yield f"{name}.{field}", f.description
                    for argument, a in f.args.items():
                        yield f"{name}.{field}({argument})", a.description


def _public_types(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLNamedType]]:
    for name, type_ in schema.type_map.items():
        if not is_introspection_type(type_) and not is_specified_scalar_type(type_):
            yield name, type_
