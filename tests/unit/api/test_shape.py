"""Depth and width of a document, computed without the schema."""

import pytest
from graphql import parse

from app.api.auth.limits import Limits
from app.api.graphql.admission.complexity import MAX_NESTING, DocumentComplexity
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.http.refusals import LimitExceeded


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("{ a }", 1),
        ("{ a { b { c } } d }", 3),
        ("{ a { ... { b } ... on T { c { d } } } }", 3),
        ("{ a { ...f } } fragment f on T { b { ...g } } fragment g on T { c }", 3),
        ("query One { a } query Two { a { b } }", 2),
        # Documents that validation will refuse have a depth, too.
        ("{ ...f } fragment f on T { a { ...f } }", 1),
        ("{ ...nothing }", 0),
    ],
)
def test_depth_counts_nested_fields_through_fragments(text: str, depth: int) -> None:
    assert DocumentComplexity(ParsedDocument(text, parse(text))).depth == depth


def code_of(text: str, **limits: int) -> str | None:
    try:
        DocumentComplexity(ParsedDocument(text, parse(text))).check(Limits(**limits))
    except LimitExceeded as refused:
        extensions = refused.errors[0]["extensions"]
        assert isinstance(extensions, dict)
        return str(extensions["code"])
    return None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{ a: x b: x }", None),
        ("{ a: x b: x c: x }", "ALIAS_LIMIT_EXCEEDED"),
        ("{ x x x }", None),
        ("{ x x x x }", "ALIAS_LIMIT_EXCEEDED"),
        ("{ x ... { x } ... on T { x x } }", "ALIAS_LIMIT_EXCEEDED"),
        # Only in one selection set, neither nested nor in different fields.
        ("{ x { x { x { x } } } y { x } z { x } }", None),
    ],
)
def test_a_field_repeated_in_its_selection_set_counts_as_an_alias(
    text: str, code: str | None
) -> None:
    assert code_of(text, max_aliases=2) == code


def test_directives_count_in_every_location() -> None:
    text = "query ($v: Int @a) @b { x @c ...f @d ... @e { y } } fragment f on T @g { z }"
    assert code_of(text, max_directives=6) is None
    assert code_of(text, max_directives=5) == "DIRECTIVE_LIMIT_EXCEEDED"


def test_a_document_within_the_limits_is_admitted() -> None:
    assert code_of("{ a { b } }", max_depth=2) is None
    assert code_of("{ a { b } }", max_depth=1) == "DEPTH_LIMIT_EXCEEDED"


def chain_of_fragments(levels: int) -> str:
    fragments = "".join(
        f"fragment f{level} on T {{ ...f{level + 1} }} " for level in range(1, levels - 1)
    )
    return f"{{ ...f1 }} {fragments} fragment f{levels - 1} on T {{ a }}"


def inline_fragments(levels: int) -> str:
    return "{ ..." * levels + "{ a }" + "}" * levels


def wide_then_deep(levels: int) -> str:
    """The deep part is first seen near the root, then again far below it."""
    return (
        "{ ...deep a "
        + "{ ..." * levels
        + "{ ...deep }"
        + "}" * levels
        + "}"
        + ("fragment deep on T { b { b { b { b } } } }")
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (chain_of_fragments(MAX_NESTING), None),
        (chain_of_fragments(MAX_NESTING + 1), "DEPTH_LIMIT_EXCEEDED"),
        (chain_of_fragments(650), "DEPTH_LIMIT_EXCEEDED"),
        (inline_fragments(MAX_NESTING - 1), None),
        (inline_fragments(MAX_NESTING), "DEPTH_LIMIT_EXCEEDED"),
        (wide_then_deep(MAX_NESTING - 8), None),
        (wide_then_deep(MAX_NESTING - 4), "DEPTH_LIMIT_EXCEEDED"),
    ],
)
def test_nested_selection_sets_are_limited_with_fragments_expanded(
    text: str, code: str | None
) -> None:
    assert code_of(text) == code
