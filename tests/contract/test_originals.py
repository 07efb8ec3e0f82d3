"""The contract's data in the repository equals the originals, on machines that have them."""

import pytest

from tests.support import reference_documents
from tests.support.paths import SHARED

pytestmark = pytest.mark.skipif(
    not SHARED.exists(), reason=f"the originals are not on this machine: {SHARED}"
)


@pytest.mark.parametrize("name", [reference_documents.CANCEL, reference_documents.DUPLICATE])
def test_the_examples_of_a_reference_document_equal_the_original(name: str) -> None:
    original = (reference_documents.ORIGINALS / f"{name}.txt").read_text("utf-8")
    assert reference_documents.load(name) == reference_documents.cut(original)


def test_the_schema_contract_equals_the_original() -> None:
    original = reference_documents.ORIGINAL_CONTRACT.read_text("utf-8")
    assert reference_documents.CONTRACT.read_text("utf-8") == original
