"""Hostile load: one attacker and one victim over real sockets against a server process."""

import json
import multiprocessing
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tests.support.processes import LiveServer, start_logged_server
from tests.support.tokens import SECRET
from tests.support.victim import Victim, Waits

T = TypeVar("T")

MIB = 1024**2

CALM_SECONDS = 2
"""Time before the attack, for the victim's calm waits."""
RETURN_SECONDS = 15
"""Time after the attack within which memory must be returned."""
SAMPLE_SECONDS = 0.02

GOAL_WAIT_SECONDS = 0.1
GOAL_GROWTH_BYTES = 64 * MIB
RETURNED_BYTES = 32 * MIB
"""Growth that counts as returned: caches fill, and the allocator keeps some pages."""

SLACK = 3
"""Waits may be this multiple of the goal and of the machine's own delay; growth, of its goal."""


@dataclass(frozen=True)
class Target:
    """The server under attack."""

    server: LiveServer
    log: Path

    @property
    def url(self) -> str:
        """Base URL."""
        return self.server.url

    @property
    def resident_bytes(self) -> int:
        """Return the process's resident memory."""
        pages = Path(f"/proc/{self.server.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    @property
    def descriptors(self) -> int:
        """Return the number of the process's open descriptors."""
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

    def warnings(self) -> list[str]:
        """Return the messages of the log at warning and above."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line["event"] for line in lines if line["level"] not in ("debug", "info")]


@contextmanager
def target(
    folder: Path, *arguments: str, files: int | None = None, **environment: str
) -> Iterator[Target]:
    """Run a server with production limits; tokens of tests.support.tokens select the store.

    `files` limits its open descriptors.
    """
    log = folder / "server.log"
    limits = {
        "JOBS_GATEWAY_MAX_REQUESTS_PER_SECOND": "100",
        "JOBS_GATEWAY_LOG_LEVEL": "info",
        "JOBS_GATEWAY_LOG_FORMAT": "json",
        "JOBS_GATEWAY_JWT_SECRET": SECRET,
    }
    server = start_logged_server(
        f"sqlite:///{folder}/attacked.db",
        log,
        *("--no-runner", *arguments),
        environment={**limits, **environment},
        files=files,
    )
    try:
        yield Target(server, log)
    finally:
        server.kill()


@dataclass
class Figures(Generic[T]):
    """Figures of an attack."""

    calm: Waits
    attacked: Waits
    machine: Waits
    """How late the machine woke an idle process during the attack."""
    bytes_before: int
    bytes_peak: int
    bytes_after: int
    returned_seconds: float
    """Time after the attack until memory was returned, at most RETURN_SECONDS."""
    descriptors_before: int
    descriptors_peak: int
    descriptors_after: int
    warnings: Counter[str]
    outcome: T
    """The result of the attack."""

    @property
    def growth(self) -> int:
        """Return the growth of resident memory during the attack."""
        return self.bytes_peak - self.bytes_before

    def __str__(self) -> str:
        logged = ", ".join(f"{count} x {line!r}" for line, count in self.warnings.most_common(3))
        return (
            f"calm {self.calm}; attacked {self.attacked}"
            f" (goal {GOAL_WAIT_SECONDS * 1000:.0f} ms, machine"
            f" {self.machine.longest * 1000:.0f} ms);"
            f" RSS {self.bytes_before / MIB:.0f} -> {self.bytes_peak / MIB:.0f} ->"
            f" {self.bytes_after / MIB:.0f} MiB within {self.returned_seconds:.1f} s"
            f" (goal +{GOAL_GROWTH_BYTES / MIB:.0f} MiB, returned in {RETURN_SECONDS} s);"
            f" descriptors {self.descriptors_before} -> {self.descriptors_peak} ->"
            f" {self.descriptors_after}; log: {logged or 'no warning'}"
        )

    def check(self) -> None:
        """Assert that no other client was refused, and the goals with slack."""
        assert self.attacked.refusals == []
        most = SLACK * (GOAL_WAIT_SECONDS + self.machine.longest)
        assert self.attacked.longest <= most, str(self)
        assert self.growth <= SLACK * GOAL_GROWTH_BYTES, str(self)
        assert self.bytes_after - self.bytes_before <= GOAL_GROWTH_BYTES, str(self)


def attacked(target: Target, attack: Callable[[str], T]) -> Figures[T]:
    """Run `attack(url)` in a process of its own, and return the figures of the victim and server.

    The attack is pickled: a function of a module of tests.support, or a partial of one.
    """
    with (
        Victim(target.url).working() as victim,
        ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=os.nice, initargs=(10,)
        ) as pool,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as idle,
    ):
        idle.submit(delay).result()
        victim.swap()
        time.sleep(CALM_SECONDS)
        calm = victim.swap()
        bytes_before, descriptors_before = target.resident_bytes, target.descriptors
        attacking = pool.submit(attack, target.url)
        with _peaks(target) as peaks:
            machine = Waits()
            while not attacking.done():
                machine.add("sleep", idle.submit(delay).result())
            outcome = attacking.result()
            waits = victim.swap()
        ended = time.monotonic()
        while (passed := time.monotonic() - ended) < RETURN_SECONDS and (
            target.resident_bytes - bytes_before > RETURNED_BYTES
            or target.descriptors > descriptors_before + 1
        ):
            time.sleep(SAMPLE_SECONDS)
        return Figures(
            calm=calm,
            attacked=waits,
            machine=machine,
            bytes_before=bytes_before,
            bytes_peak=peaks["bytes"],
            bytes_after=target.resident_bytes,
            returned_seconds=passed,
            descriptors_before=descriptors_before,
            descriptors_peak=peaks["descriptors"],
            descriptors_after=target.descriptors,
            warnings=Counter(target.warnings()),
            outcome=outcome,
        )


def delay() -> float:
    """Sleep shortly. Return how many seconds too long it took."""
    began = time.perf_counter()
    time.sleep(SAMPLE_SECONDS)
    return time.perf_counter() - began - SAMPLE_SECONDS


@contextmanager
def _peaks(target: Target) -> Iterator[Counter[str]]:
    """Yield the highest resident bytes and descriptors during the block."""
    peaks: Counter[str] = Counter()
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.is_set():
            peaks["bytes"] = max(peaks["bytes"], target.resident_bytes)
            peaks["descriptors"] = max(peaks["descriptors"], target.descriptors)
            stopped.wait(SAMPLE_SECONDS)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peaks
    finally:
        stopped.set()
        thread.join()
