"""The figures of a run, collected by the benchmarks and printed after the last one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.table import Figures


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --before, the folder of another version of the gateway to compare with."""
    parser.addoption(
        "--before",
        metavar="DIR",
        type=Path,
        help="a folder with an earlier commit: git archive COMMIT app tests | tar x -C DIR",
    )


@pytest.fixture(scope="session")
def before(pytestconfig: pytest.Config) -> Path | None:
    """The folder of the version to compare with."""
    folder: Path | None = pytestconfig.getoption("--before", None)
    return folder and folder.resolve()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Iterator[Figures]:
    """Collect the figures of the run and print them at its end, whatever pytest captures."""
    collected = Figures()
    # Other load on the machine affects every figure.
    collected.add("machine", f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    yield collected
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        collected.show()
