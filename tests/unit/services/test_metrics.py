"""Operation labels and their maximum number."""

import pytest

from app.observability import metrics


@pytest.fixture(autouse=True)
def no_names_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without known names, like a new process."""
    monkeypatch.setattr(metrics, "_names", set())


def test_an_operation_is_labelled_by_its_name() -> None:
    assert metrics.operation_label("Jobs") == "Jobs"
    assert metrics.operation_label(None) == "anonymous"


def test_only_the_first_hundred_names_have_their_own_label() -> None:
    labels = {metrics.operation_label(f"Operation{no}") for no in range(1000)}
    assert labels == {*(f"Operation{no}" for no in range(100)), "other"}
    assert metrics.operation_label("Operation99") == "Operation99"
    assert metrics.operation_label("Operation100") == "other"


def test_a_name_that_is_too_long_is_labelled_other() -> None:
    longest = "L" * metrics.MAX_NAME_LENGTH
    assert metrics.operation_label(longest + "L") == "other"
    assert metrics.operation_label(longest) == longest
