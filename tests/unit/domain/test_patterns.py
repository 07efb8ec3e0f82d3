"""Patterns with wildcards, compared in linear time."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.domain.patterns import WILDCARD, matches_pattern

TEXTS = st.text("ab", max_size=12)


@given(TEXTS, st.text("ab*", max_size=8))
def test_a_text_matches_as_a_regular_expression_does(text: str, pattern: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split(WILDCARD)))
    assert matches_pattern(text, pattern, "", "") == bool(re.fullmatch(expression, text))


def test_other_cases_are_replaced_and_a_null_never_matches() -> None:
    assert matches_pattern("ABba", "ab*", "AB", "ab")
    assert not matches_pattern("ABba", "ab*", "", "")
    assert not matches_pattern(None, "*", "", "")
