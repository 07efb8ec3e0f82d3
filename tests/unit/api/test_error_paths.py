"""Paths of errors: the domain's names in domain and services, the documents' names at the edges."""

import ast
from collections.abc import Iterator
from importlib import import_module
from inspect import getsource, signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType

from app.api.graphql.errors import input_path, schema_path
from app.api.graphql.schema import graphql_schema
from app.api.rest.errors import REST_NAMES
from app.domain.errors import InvalidInput

APP = Path(__file__).parents[3] / "app"
MODULES = [
    import_module(f"app.{folder}.{path.stem}")
    for folder in ("domain", "services")
    for path in sorted((APP / folder).glob("[!_]*.py"))
]
NAMES = {
    *("after", "curated_product_ids", "description", "hierarchy_id", "id", "idempotency_key"),
    *("job_id", "locales", "name", "node_id", "parent_id", "product_ids", "products", "reason"),
    *("slug", "sort_order", "admin_attributes", "shopper_attributes"),
}
"""First parts of the paths of domain and services."""

INNER_NAMES = {"description", "name", "sku"}
"""Names that follow a key or an index."""


def arguments_of_the_schema() -> Iterator[str]:
    for kind in graphql_schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            yield from kind.fields
        elif isinstance(kind, GraphQLObjectType):
            for field in kind.fields.values():
                yield from field.args


ARGUMENTS = set(arguments_of_the_schema())


def path_parts(module: ModuleType) -> Iterator[tuple[bool, str]]:
    """The literals in paths of a module, each with True for the first part of a path.

    A path is what a parameter named `path` receives, or the default of an attribute `path`.
    """
    for node in ast.walk(ast.parse(getsource(module))):
        match node:
            case ast.Call(func=ast.Name(id=name)):
                yield from literals(argument_of(getattr(module, name, None), node))
            case ast.AnnAssign(target=ast.Name(id="path"), value=value):
                yield from literals(value)


def argument_of(callee: Any, call: ast.Call) -> object:
    """Return what the parameter `path` receives, or None."""
    try:
        parameters = signature(callee)
    except (TypeError, ValueError):  # a local function, or a TypedDict
        return None
    if "path" not in parameters.parameters:
        return None
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    return parameters.bind_partial(*call.args, **keywords).arguments.get("path")


def literals(path: object) -> Iterator[tuple[bool, str]]:
    match path:
        case ast.Tuple(elts=parts) | tuple(parts):
            for index, part in enumerate(parts):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield index == 0, part.value
        case ast.Constant(value=str(part)):
            yield True, part


PARTS = [part for module in MODULES for part in path_parts(module)]


def test_every_name_in_a_path_is_known() -> None:
    assert {name for is_first, name in PARTS if is_first} == NAMES
    assert {name for is_first, name in PARTS if not is_first} == INNER_NAMES


@pytest.mark.parametrize("name", sorted(NAMES | INNER_NAMES))
def test_a_name_in_a_path_has_no_upper_case_letter(name: str) -> None:
    assert name == name.lower()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_graphql_shows_an_argument_of_the_schema(name: str) -> None:
    [argument] = schema_path(InvalidInput("", (name,)))
    assert argument in ARGUMENTS
    assert input_path(InvalidInput("", (name,))) == ["input", argument]


def test_graphql_shows_inner_names_keys_and_indexes_unchanged() -> None:
    assert INNER_NAMES <= ARGUMENTS
    error = InvalidInput("", ("locales", "fr_FR", "name"))
    assert schema_path(error) == ["localizations", "fr_FR", "name"]
    assert schema_path(InvalidInput("")) == input_path(InvalidInput("")) == []


def test_rest_renames_only_names_of_the_domain() -> None:
    assert set(REST_NAMES) <= NAMES
