"""The source of each schema field: a compiled plan, or for a stated reason the reference executor
alone."""

from collections.abc import Mapping

from graphql import is_interface_type, is_object_type

from app.api.graphql.fields.attribute import source_of
from app.api.graphql.fields.mutation import MutationField
from app.api.graphql.fields.reference import ReferenceField
from app.api.graphql.fields.source import FieldSource
from app.api.graphql.schema import graphql_schema
from app.api.graphql.strawberry_seam import declaration_of

REFERENCE_ONLY = {
    "JobQueue.hours",
    "Query.duplicationDiff",
}


def field_sources() -> Mapping[str, FieldSource]:
    """Return the source of each field, by type and name."""
    return {
        f"{type_.name}.{name}": source_of(declaration_of(field))
        for type_ in graphql_schema.type_map.values()
        if (is_object_type(type_) or is_interface_type(type_)) and not type_.name.startswith("__")
        for name, field in type_.fields.items()
    }


def test_every_field_declares_its_source() -> None:
    assert len(field_sources()) > 200
    assert all(isinstance(source, FieldSource) for source in field_sources().values())


def test_a_field_without_a_plan_states_its_reason() -> None:
    reference_only = {
        name: source
        for name, source in field_sources().items()
        if isinstance(source, ReferenceField)
    }
    assert reference_only.keys() == REFERENCE_ONLY
    assert all(
        source.reason.endswith(".") and " " in source.reason for source in reference_only.values()
    )


def test_the_mutation_fields_are_exactly_the_fields_of_mutation() -> None:
    mutations = {
        name for name, source in field_sources().items() if isinstance(source, MutationField)
    }
    assert mutations == {name for name in field_sources() if name.startswith("Mutation.")}
