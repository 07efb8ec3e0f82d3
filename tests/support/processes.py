"""Commands of jobs-gateway as processes of their own."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import httpx

from tests.support.paths import ROOT

START_SECONDS = 30

STARTED: "list[subprocess.Popen[str]]" = []
"""Every server process, so that none outlives a test that failed before it stopped its own."""


@dataclass
class LiveProcess:
    """A command of ours as a process of its own."""

    process: "subprocess.Popen[str]"
    database_url: str
    lines: "Queue[str | None]"
    """What it prints, line by line; None once it ends."""
    said: list[str] = field(default_factory=list)
    """What was read of that."""

    def next_line(self) -> str:
        """The next line it prints."""
        line = self.lines.get(timeout=START_SECONDS)
        assert line is not None, f"the process ended with {self.process.wait()}"
        self.said.append(line)
        return line

    def wait_for(self, words: str) -> str:
        """The first line from here on that has these words."""
        while words not in (line := self.next_line()):
            pass
        return line

    def kill(self) -> None:
        """End it as the operating system would: without a chance to do anything."""
        self.process.kill()
        self.process.wait()

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C or another signal does; its exit code."""
        self.process.send_signal(sign)
        return self.process.wait(timeout=START_SECONDS)


@dataclass
class LiveServer(LiveProcess):
    """`jobs-gateway serve` as a process of its own."""

    url: str = ""

    def post(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer without errors."""
        response = httpx.post(
            f"{self.url}/graphql",
            json={"query": query, "variables": variables},
            timeout=30,
            verify=False,
        )
        answer: dict[str, Any] = response.json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


def start_server(database_url: str, *arguments: str, **environment: str) -> LiveServer:
    """A server on a free port, once it takes requests."""
    command = ("-m", "app", "serve", "--port", "0", *arguments)
    process, lines = _started(database_url, *command, **environment)
    server = LiveServer(process, database_url, lines)
    server.url = server.wait_for("  GraphQL").split()[1].removesuffix("/graphql")
    return server


def start_worker(database_url: str, *arguments: str, **environment: str) -> LiveProcess:
    """A worker, once it looks for jobs."""
    process, lines = _started(database_url, "-m", "app", "worker", *arguments, **environment)
    worker = LiveProcess(process, database_url, lines)
    worker.wait_for("Ctrl-C stops")
    return worker


def start_script(
    script: Path, database_url: str, *arguments: str, **environment: str
) -> LiveProcess:
    """A Python script of the tests as a process of its own, which finds `app` and `tests`."""
    found = {"PYTHONPATH": str(ROOT), **environment}
    process, lines = _started(database_url, str(script), *arguments, **found)
    return LiveProcess(process, database_url, lines)


def _started(
    database_url: str, *command: str, **environment: str
) -> "tuple[subprocess.Popen[str], Queue[str | None]]":
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "DATABASE_URL": database_url, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    lines: Queue[str | None] = Queue()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as printed:
            for line in printed:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return process, lines
