"""Costs and required scopes of operations, computed without execution."""

from typing import Any

import pytest
from graphql import get_introspection_query, parse

from app.api.graphql.admission.cost import ASSUMED_ROWS, MAX_COST, OperationCost, operation_cost
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.graphql.schema import graphql_schema
from app.domain.callers import Scope

READ_JOBS = frozenset({Scope.JOBS_READ})
READ_HIERARCHIES = frozenset({Scope.HIERARCHIES_READ})


def cost_of(text: str, **variables: Any) -> OperationCost:
    document = ParsedDocument(text, parse(text))
    return operation_cost(graphql_schema, document.fragments, document.operation(None), variables)


@pytest.mark.parametrize(
    ("text", "variables", "cost"),
    [
        ("{ __typename }", {}, 1),
        ("{ jobs { totalCount } }", {}, 2),
        # jobs, nodes, and 25 of each field: the default page size.
        ("{ jobs { nodes { id status } } }", {}, 2 + 25 * 2),
        ("{ jobs(first: 3) { nodes { id } } }", {}, 2 + 3),
        ("{ jobs(last: 4) { edges { cursor node { id } } } }", {}, 2 + 4 * 3),
        ("{ jobs(first: null) { nodes { id } } }", {}, 2 + 25),
        ("query ($n: Int) { jobs(first: $n) { nodes { id } } }", {"n": 7}, 2 + 7),
        ("query ($n: Int) { jobs(first: $n) { nodes { id } } }", {}, 2 + 25),
        ("query ($n: Int) { jobs(first: $n) { nodes { id } } }", {"n": 10**6}, 2 + 100),
        ("query ($n: Int) { jobs(first: $n) { nodes { id } } }", {"n": -1}, 2 + 1),
        ('{ nodes(ids: ["a", "b", "c"]) { id } }', {}, 1 + 3),
        ("query ($i: [ID!]!) { nodes(ids: $i) { id } }", {"i": ["a"] * 9}, 1 + 9),
        (
            "{ hierarchies(first: 2) { nodes { localizations { name } } } }",
            {},
            2 + 2 * (1 + ASSUMED_ROWS),
        ),
        (
            "{ hierarchies(first: 10) { nodes { children(first: 20) { nodes { id } } } } }",
            {},
            2 + 10 * (2 + 20),
        ),
        # The page size applies through fragments, once per spread.
        (
            "{ jobs(first: 5) { ...page } } fragment page on JobConnection { nodes { id } }",
            {},
            2 + 5,
        ),
        (
            "{ a: jobs(first: 5) { ...p } b: jobs(first: 9) { ...p } } "
            "fragment p on JobConnection { nodes { id } }",
            {},
            (2 + 5) + (2 + 9),
        ),
        ('{ node(id: "a") { id ... on Job { status } ... on Hierarchy { name } } }', {}, 4),
        # The statistics cost 100, and their fields 5 each; without the argument 24 hours.
        ("{ jobQueue { hours { begins } } }", {}, 2 + 100 + 24 * 5),
        ("{ jobQueue { hours(hours: 24) { begins } } }", {}, 2 + 100 + 24 * 5),
        ("query ($n: Int!) { jobQueue { hours(hours: $n) { begins } } }", {"n": 2}, 112),
    ],
)
def test_every_field_costs_one_per_row_of_its_lists(
    text: str, variables: dict[str, Any], cost: int
) -> None:
    assert cost_of(text, **variables).cost == cost


@pytest.mark.parametrize(
    ("selection", "is_long"),
    [
        ("name", False),
        ("localizations { locale name description }", True),
        ("adminAttributes { key value }", True),
        ("localizations { locale }", False),
        ("shopperAttributes { key value }", True),
        ("breadcrumbs { id name slug }", True),
    ],
)
def test_an_operation_is_long_if_its_full_lists_are(selection: str, is_long: bool) -> None:
    text = f'{{ hierarchy(id: "a") {{ nodes(first: 100) {{ nodes {{ {selection} }} }} }} }}'
    assert cost_of(text).is_long is is_long
    few = cost_of(text.replace("100", "10"))
    assert not few.is_long
    assert few.cost <= 3 + 10 * (1 + 3 * ASSUMED_ROWS)


def test_repeated_fragment_spreads_are_priced_without_expansion() -> None:
    # 2 to the power of 60 fields: their expansion would take forever.
    fragments = "".join(
        f"fragment f{n} on Hierarchy {{ a: copiedFrom {{ ...f{n + 1} }} b: copiedFrom {{ id ...f"
        f"{n + 1} }} }}"
        for n in range(60)
    )
    text = f'{{ hierarchy(id: "a") {{ ...f0 }} }} {fragments} fragment f60 on Hierarchy {{ id }}'
    assert cost_of(text).cost == MAX_COST


def test_introspection_is_counted_separately() -> None:
    whole = cost_of(get_introspection_query(input_value_deprecation=True))
    assert whole.cost == 0
    assert whole.introspection > 1000
    assert cost_of("{ __schema { types { name } } jobs { totalCount } }").cost == 2
    assert whole.scopes == frozenset()


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("{ __typename }", frozenset()),
        ('{ node(id: "a") { id __typename } }', frozenset()),
        ("{ jobs { __typename } }", READ_JOBS),
        ('{ node(id: "a") { ... on Job { id } } }', READ_JOBS),
        ('{ node(id: "a") { ... on TreeItem { id } } }', READ_HIERARCHIES),
        ('{ job(id: "a") { duplication { sourceId } } }', READ_JOBS),
        (
            '{ job(id: "a") { duplication { source { id } } } }',
            READ_JOBS | READ_HIERARCHIES,
        ),
        ("{ hierarchies { nodes { jobs { totalCount } } } }", READ_JOBS | READ_HIERARCHIES),
        ("{ ...q } fragment q on Query { jobQueue { pending } }", READ_JOBS),
        ("subscription { jobEvents { cursor } }", READ_JOBS),
    ],
)
def test_an_operation_needs_the_scopes_of_all_types_it_selects_from(
    text: str, scopes: frozenset[Scope]
) -> None:
    assert cost_of(text).scopes == scopes
