"""Every type of the schema declares its required scope, or that it needs none."""

from graphql import is_interface_type, is_object_type

from app.api.graphql.admission.scopes import FREE, SCOPE_OF_TYPE
from app.api.graphql.schema import graphql_schema


def test_every_type_with_fields_needs_a_scope_or_is_free() -> None:
    named = {
        type_.name
        for type_ in graphql_schema.type_map.values()
        if (is_object_type(type_) or is_interface_type(type_)) and not type_.name.startswith("__")
    }
    assert named == SCOPE_OF_TYPE.keys() | FREE
    assert not SCOPE_OF_TYPE.keys() & FREE
