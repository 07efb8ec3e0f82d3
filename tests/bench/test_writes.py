"""What the writes of the queue take, each of them one transaction, without the way to them over
HTTP; in turns with those of another commit where `--before` says where that lies."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen

import pytest

from tests.bench.table import Figures
from tests.support.databases import DATABASES, NewDatabase
from tests.support.paths import ROOT

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

HERE = ROOT
WRITES = {
    "enqueue": "a duplication asked for",
    "enqueue_with_key": "the same with a key",
    "enqueue_at_once": "the same, 16 at a time",
    "cancel": "one cancelled",
    "run": "an empty one claimed and ended",
    "step": "a step of one",
}
NUMBER = 96
ROUNDS = 5


@contextmanager
def writing(url: str, code: Path) -> "Iterator[Popen[str]]":
    """A process that writes with the code in that folder."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        # Of the tests, those that came with the code know it best.
        "PYTHONPATH": os.pathsep.join(map(str, (code, HERE))),
    }
    script = [sys.executable, str(Path(__file__).with_name("writes.py"))]
    with Popen(script, env=environment, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == f"{code}/app\n"
        try:
            yield process
        finally:
            process.kill()


def took(process: "Popen[str]", kind: str) -> float:
    """Microseconds for each of many writes of a kind."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{kind} {NUMBER}\n")
    process.stdin.flush()
    return float(process.stdout.readline()) / NUMBER * 1e6


def test_writes(new_database: NewDatabase, figures: Figures, pytestconfig: pytest.Config) -> None:
    before: Path | None = pytestconfig.getoption("--before")
    codes = [HERE, before.resolve()] if before else [HERE]
    for database in DATABASES:
        figures.add(f"writes, {database}", "")
        with ExitStack() as stack:
            processes = [
                stack.enter_context(writing(new_database(database), code)) for code in codes
            ]
            for kind, what in WRITES.items():
                rounds = [[took(process, kind) for process in processes] for _ in range(ROUNDS)]
                medians = [median(times) for times in zip(*rounds, strict=True)]
                told = f"{1e6 / medians[0]:,.0f}/s, {medians[0]:,.0f} µs"
                if before:
                    told += f"; before {medians[1]:,.0f} µs: x {medians[1] / medians[0]:.1f}"
                figures.add(f"  {what}", told)
