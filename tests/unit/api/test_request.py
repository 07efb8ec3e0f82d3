"""The parameters of an operation: typed, or refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.graphql.admission.request import GraphQLRequest
from app.api.http.refusals import BadRequest

HASH = "a" * 64
QUERY = "{ __typename }"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_null_and_missing_parameters_are_equal() -> None:
    names = ("operationName", "variables", "extensions", "documentId")
    nothing: dict[str, Any] = {"query": QUERY, **dict.fromkeys(names)}
    assert GraphQLRequest.of(nothing) == GraphQLRequest.of({"query": QUERY})
    assert GraphQLRequest.of(nothing) == GraphQLRequest(QUERY, None, None, {})


def test_a_document_id_has_three_notations() -> None:
    for parameters in (
        {"documentId": HASH},
        {"documentId": f"sha256:{HASH}"},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": HASH}}},
    ):
        assert GraphQLRequest.of(parameters) == GraphQLRequest(None, HASH, None, {})


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "no query"),
        ({"query": None}, "no query"),
        ({"query": 1}, "query must be"),
        ({"query": QUERY, "variables": []}, "variables must be"),
        ({"query": QUERY, "operationName": 1}, "operationName must be"),
        ({"query": QUERY, "extensions": "x"}, "extensions must be"),
        ({"query": QUERY, "extensions": {"persistedQuery": 1}}, "persistedQuery must be"),
        ({"query": QUERY, "documentId": 1}, "documentId must be"),
        ({"documentId": "A" * 64}, "SHA-256"),
        ({"documentId": "md5:" + HASH}, "SHA-256"),
        ({"documentId": HASH + "\n"}, "SHA-256"),
    ],
)
def test_the_error_names_the_invalid_parameter(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        GraphQLRequest.of(parameters)


@given(
    JSON
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("query", "variables", "operationName", "extensions", "documentId"), JSON
        ),
    )
)
def test_any_json_is_a_request_or_refused(parameters: object) -> None:
    try:
        request = GraphQLRequest.of(parameters)
    except BadRequest:
        return
    assert request.query is not None or request.document_id
