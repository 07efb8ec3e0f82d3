"""What operations cost, and which scopes they need, told without running them."""

from typing import Any

import pytest
from graphql import get_introspection_query, parse

from app.api.graphql.admission.cost import ASSUMED_ROWS, MAX_COST, OperationCost, operation_cost
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.graphql.schema import graphql_schema
from app.domain.callers import Scope

READ_JOBS = frozenset({Scope.JOBS_READ})
READ_HIERARCHIES = frozenset({Scope.HIERARCHIES_READ})


def bill_of(text: str, **variables: Any) -> OperationCost:
    document = ParsedDocument(text, parse(text))
    return operation_cost(graphql_schema, document.fragments, document.operation(None), variables)


@pytest.mark.parametrize(
    ("text", "variables", "cost"),
    [
        ("{ __typename }", {}, 1),
        ("{ jobs { totalCount } }", {}, 2),
        # jobs, nodes, and 25 of each field: the default of a page.
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
        # The page's size reaches the rows through fragments, as often as they are spread.
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
    ],
)
def test_every_field_counts_one_times_the_lists_it_is_in(
    text: str, variables: dict[str, Any], cost: int
) -> None:
    assert bill_of(text, **variables).cost == cost


def test_what_is_spread_again_and_again_is_told_without_unfolding_it() -> None:
    # 2 to the power of 60 fields: unfolded they would take for ever.
    fragments = "".join(
        f"fragment f{n} on Hierarchy {{ a: copiedFrom {{ ...f{n + 1} }} b: copiedFrom {{ id ...f"
        f"{n + 1} }} }}"
        for n in range(60)
    )
    text = f'{{ hierarchy(id: "a") {{ ...f0 }} }} {fragments} fragment f60 on Hierarchy {{ id }}'
    assert bill_of(text).cost == MAX_COST


def test_what_the_schema_says_of_itself_is_counted_apart() -> None:
    whole = bill_of(get_introspection_query(input_value_deprecation=True))
    assert whole.cost == 0
    assert whole.introspection > 1000
    assert bill_of("{ __schema { types { name } } jobs { totalCount } }").cost == 2
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
    assert bill_of(text).scopes == scopes
