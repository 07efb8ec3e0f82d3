"""The figures of a run, gathered by the benchmarks and printed behind the last one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.table import Figures


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where another version of the gateway lies, to be measured beside this one."""
    parser.addoption(
        "--before",
        metavar="DIR",
        type=Path,
        help="a folder with the app of an earlier commit: git archive COMMIT app | tar x -C DIR",
    )


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """Where measured values go."""
    gathered = Figures()
    # Whatever else runs shows in every figure.
    gathered.add("machine", f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    yield gathered
    gathered.show()
