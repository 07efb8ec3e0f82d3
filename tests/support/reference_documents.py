"""The examples of the two reference documents, as files under tests/contract/data."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import SHARED, TESTS

CANCEL, DUPLICATE = "cancel-a-job", "duplicate-a-hierarchy"
DATA = TESTS / "contract" / "data"
CONTRACT = DATA / "schema-contract.graphql"

ORIGINALS = SHARED / "reference"
"""The documents themselves. A clone of the repository has no such folder."""
ORIGINAL_CONTRACT = SHARED / "schema-contract.graphql"


@dataclass(frozen=True)
class Payloads:
    """The two payloads that a document shows per status."""

    possible: Any
    """The shape: every key that can occur, with a value of its type."""
    example: Any


@dataclass(frozen=True)
class ReferenceDocument:
    """The parts of a document that can be compared with an answer."""

    by_status: Mapping[int, Payloads]
    values: list[list[str]]
    """Every list of possible values, in the document's order."""

    def values_with(self, value: str) -> set[str]:
        """Return the one list of possible values that contains `value`."""
        (values,) = [values for values in self.values if value in values]
        return set(values)


def load(name: str) -> ReferenceDocument:
    """Read a document's parts from the repository."""
    folder = DATA / name
    statuses = sorted(int(path.stem.partition("-")[0]) for path in folder.glob("*-example.json"))
    return ReferenceDocument(
        {
            status: Payloads(
                _read(folder / f"{status}-possible.json"), _read(folder / f"{status}-example.json")
            )
            for status in statuses
        },
        _read(folder / "values.json"),
    )


def cut(text: str) -> ReferenceDocument:
    """Cut a document into the same parts."""
    head, *sections = re.split(r"^- application/json\n- Schema\n", text, flags=re.MULTILINE)
    statuses = [int(status) for status in re.findall(r"^- (\d{3})$", head, re.MULTILINE)]
    payloads = [list(_embedded(section)) for section in sections]
    # No payload is outside the sections of the statuses.
    assert [payload for pair in payloads for payload in pair] == list(_embedded(text))
    listed = re.findall(r"Possible values: \[([^\]]*)\]", text)
    return ReferenceDocument(
        {status: Payloads(*pair) for status, pair in zip(statuses, payloads, strict=True)},
        [re.findall(r"[\w-]+", values) for values in listed],
    )


def _embedded(text: str) -> Iterator[Any]:
    """Yield the JSON documents of a text. Each begins on a line of its own."""
    end = 0
    for begin in re.finditer(r"^{$", text, re.MULTILINE):
        if begin.start() >= end:
            document, end = json.JSONDecoder().raw_decode(text, begin.start())
            yield document


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
