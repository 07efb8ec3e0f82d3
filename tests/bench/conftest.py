"""The figures of a run, gathered by the benchmarks and printed behind the last one."""

import os
from collections.abc import Iterator

import pytest

from tests.bench.table import Figures


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """Where measured values go."""
    gathered = Figures()
    # Whatever else runs shows in every figure.
    gathered.add("machine", f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    yield gathered
    gathered.show()
