"""The vendor's public specification (tests/contract/data/pim): the schema of every answer.

`python -m tests.support.vendor_specification pim.yaml` cuts the file from the whole document.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator

from tests.support.paths import TESTS

PREFIX = "/pcm"
FILE = TESTS / "contract" / "data" / "pim" / "schemas.json"

CUT_PATHS = re.compile(r"/pcm/(jobs|hierarchies|products/(attach|detach)_nodes|.*/nodes$)")
"""The paths that this gateway serves."""

_NOT_RULES = {"description", "example", "examples", "x-postman-example", "discriminator"}
"""Keywords that no document can violate."""


def cut(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Cut requests and responses of CUT_PATHS from the whole document, as JSON Schemas."""
    components = specification["components"]
    names: set[str] = set()
    operations = {
        path: {
            method: {
                "request": _converted(_body(operation.get("requestBody", {})), names),
                "responses": {
                    status: _converted(_body(_response(response, components)), names)
                    for status, response in operation["responses"].items()
                },
            }
            for method, operation in methods.items()
            if method != "parameters"
        }
        for path, methods in specification["paths"].items()
        if CUT_PATHS.match(path)
    }
    schemas: dict[str, Any] = {}
    while missing := names - schemas.keys():
        name = min(missing)
        schemas[name] = _converted(components["schemas"][name], names)
    return {"paths": operations, "schemas": dict(sorted(schemas.items()))}


def _body(document: Mapping[str, Any]) -> Any:
    return document.get("content", {}).get("application/json", {}).get("schema")


def _response(response: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    name = response.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = components["responses"][name] if name else response
    return found


def _converted(node: Any, names: set[str], *, are_properties: bool = False) -> Any:
    """Convert a schema of OpenAPI 3.0 to JSON Schema, and collect the names that it refers to."""
    if isinstance(node, list):
        return [_converted(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    converted = {
        key: _converted(value, names, are_properties=key == "properties" and not are_properties)
        for key, value in node.items()
        if are_properties or key not in _NOT_RULES
    }
    if are_properties:
        return converted
    if "$ref" in converted:
        name = converted["$ref"].rpartition("/")[2]
        names.add(name)
        converted["$ref"] = f"#/$defs/{name}"
    if converted.pop("nullable", False) and "type" in converted:
        converted["type"] = [converted["type"], "null"]
    return converted


def faults(method: str, path: str, status: int, document: Any) -> list[str]:
    """Return what the vendor's schema finds wrong with an answer; the path begins with PREFIX.

    A status that the vendor does not list has the schema of its errors.
    """
    operation = next(_operations(method, path), None)
    schema = operation and operation["responses"].get(str(status))
    if schema is None:
        if status < 400:
            return []
        schema = {"$ref": "#/$defs/error"}
    return [
        f"{error.instance_path}: {error.message}"
        for error in _validator(json.dumps(schema)).iter_errors(document)
    ]


def check_response(response: httpx.Response) -> None:
    """Check that an answer of the REST API conforms to the vendor's specification."""
    path = response.request.url.path
    # A preflight is answered in plain text.
    if response.request.method == "OPTIONS" or path.endswith("/openapi.json"):
        return
    if path.startswith(f"{PREFIX}/") and response.content:
        found = faults(response.request.method, path, response.status_code, response.json())
        assert found == [], f"{response.request.method} {path}: {found}"


def _operations(method: str, path: str) -> Iterator[Any]:
    """Yield the operations of a path, those without parameters first."""
    operations = specification()["paths"]
    for template in sorted(operations, key=lambda template: template.count("{")):
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in operations[template]:
            yield operations[template][method.lower()]


@cache
def specification() -> Any:
    """Read the specification, with the corrections that its own text demands."""
    document = json.loads(FILE.read_text("utf-8"))
    product = document["schemas"].get("product_response")
    if product is not None:
        # "A product that is curated has the "curated_product": true attribute displayed."
        product["properties"]["attributes"]["properties"]["curated_product"] = {"const": True}
    return document


@cache
def _validator(schema: str) -> Draft202012Validator:
    whole = {**json.loads(schema), "$defs": specification()["schemas"]}
    return Draft202012Validator(whole, validate_formats=True)


if __name__ == "__main__":
    import yaml  # type: ignore[import-untyped]

    whole_document = yaml.safe_load(Path(sys.argv[1]).read_text("utf-8"))
    FILE.write_text(json.dumps(cut(whole_document), indent=1) + "\n", "utf-8")
