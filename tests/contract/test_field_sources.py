"""How each field of the schema is read is said once, and by whom: compiled plans, or, for a reason
that is told, the ordinary executor alone."""

from collections.abc import Mapping
from typing import get_args

from graphql import is_interface_type, is_object_type

from app.api.graphql.fields.declarations import (
    FieldSource,
    MutationField,
    ReferenceField,
    source_of,
)
from app.api.graphql.schema import graphql_schema
from app.api.graphql.strawberry_seam import declaration_of

ORDINARY = {
    "JobQueue.hours",
    "Query.duplicationDiff",
    "Subscription.jobEvents",
    "Subscription.jobUpdates",
}


def reads() -> Mapping[str, FieldSource]:
    """How each field is read, by its type and its name."""
    return {
        f"{type_.name}.{name}": source_of(declaration_of(field))
        for type_ in graphql_schema.type_map.values()
        if (is_object_type(type_) or is_interface_type(type_)) and not type_.name.startswith("__")
        for name, field in type_.fields.items()
    }


def test_every_field_says_how_it_is_read() -> None:
    assert len(reads()) > 200
    assert all(isinstance(read, get_args(FieldSource)) for read in reads().values())


def test_a_field_that_no_plan_has_says_why() -> None:
    ordinary = {name: read for name, read in reads().items() if isinstance(read, ReferenceField)}
    assert ordinary.keys() == ORDINARY
    assert all(read.reason.endswith(".") and " " in read.reason for read in ordinary.values())


def test_what_changes_something_is_a_mutation_and_every_mutation_does() -> None:
    changes = {name for name, read in reads().items() if isinstance(read, MutationField)}
    assert changes == {name for name in reads() if name.startswith("Mutation.")}
