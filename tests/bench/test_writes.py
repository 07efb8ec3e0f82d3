"""The time of the queue's writes, each one transaction, without HTTP.

With `--before` they alternate with those of another version.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen

import pytest

from tests.bench.table import Figures
from tests.support.databases import DATABASES, Databases
from tests.support.paths import ROOT

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

WRITES = {
    "enqueue": "enqueue a duplication",
    "enqueue_with_key": "enqueue with an idempotency key",
    "enqueue_concurrently": "enqueue, 16 concurrently",
    "cancel": "cancel a pending job",
    "run": "claim and end an empty job",
    "step": "a step of a job",
}
NUMBER = 96
ROUNDS = 5


@contextmanager
def writing(url: str, code: Path) -> "Iterator[Popen[str]]":
    """Run a process that writes with the `app` in folder `code`."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "PYTHONPATH": str(code),
    }
    script = [sys.executable, str(code / "tests" / "bench" / "writes.py")]
    with Popen(script, env=environment, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == f"{code}/app\n"
        try:
            yield process
        finally:
            process.kill()


def measure(process: "Popen[str]", kind: str) -> float:
    """Run NUMBER writes of a kind. Return the microseconds per write."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{kind} {NUMBER}\n")
    process.stdin.flush()
    return float(process.stdout.readline()) / NUMBER * 1e6


def test_writes(databases: Databases, figures: Figures, before: Path | None) -> None:
    codes = [ROOT, before] if before else [ROOT]
    for database in DATABASES:
        figures.add(f"writes, {database}", "")
        with ExitStack() as stack:
            # Each version migrates a database of its own.
            processes = [
                stack.enter_context(writing(databases.unmigrated(database), code)) for code in codes
            ]
            for kind, name in WRITES.items():
                rounds = [[measure(process, kind) for process in processes] for _ in range(ROUNDS)]
                medians = [median(times) for times in zip(*rounds, strict=True)]
                text = f"{1e6 / medians[0]:,.0f} writes/s, {medians[0]:,.0f} µs per write"
                if before:
                    text += f"; --before {medians[1]:,.0f} µs, {medians[1] / medians[0]:.1f} x"
                figures.add(f"  {name}", text)
