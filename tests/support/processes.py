"""Commands of jobs-gateway in processes."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any, TextIO

import httpx

from tests.support.paths import ROOT

START_SECONDS = 30

STARTED: "list[subprocess.Popen[str]]" = []
"""All processes, so that the end of the run kills those of failed tests."""


@dataclass
class LiveProcess:
    """A running command."""

    process: "subprocess.Popen[str]"
    database_url: str
    lines: "Queue[str | None]"
    """Lines of standard output; None at its end."""
    said: list[str] = field(default_factory=list)
    """The lines read so far."""

    def next_line(self) -> str:
        """Read the next line of standard output."""
        line = self.lines.get(timeout=START_SECONDS)
        assert line is not None, f"the process exited with {self.process.wait()}"
        self.said.append(line)
        return line

    def wait_for(self, words: str) -> str:
        """Read lines up to the first that contains `words`, and return it."""
        while words not in (line := self.next_line()):
            pass
        return line

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, by default that of Ctrl-C. Return the exit code."""
        self.process.send_signal(sign)
        return self.process.wait(timeout=START_SECONDS)


@dataclass
class LiveServer(LiveProcess):
    """A running `jobs-gateway serve`."""

    url: str = ""

    def post(self, query: str, **variables: Any) -> dict[str, Any]:
        """Post an operation. Return the data of an answer without errors."""
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
    """Start a server on a free port. Return once it takes requests."""
    return _served(database_url, arguments, environment)


def start_logged_server(
    database_url: str,
    log: Path,
    *arguments: str,
    environment: Mapping[str, str],
    files: int | None = None,
) -> LiveServer:
    """Start a server that logs to `log` and may open at most `files` files."""
    with log.open("w") as errors:
        return _served(database_url, arguments, environment, errors, files)


def start_worker(database_url: str, *arguments: str, **environment: str) -> LiveProcess:
    """Start a worker. Return once it looks for jobs."""
    process, lines = _start(database_url, ("-m", "app", "worker", *arguments), environment)
    worker = LiveProcess(process, database_url, lines)
    worker.wait_for("Ctrl-C stops")
    return worker


def start_script(
    script: Path, database_url: str, *arguments: str, **environment: str
) -> LiveProcess:
    """Start a Python script of the tests, with `app` and `tests` on its path."""
    variables = {"PYTHONPATH": str(ROOT), **environment}
    process, lines = _start(database_url, (str(script), *arguments), variables)
    return LiveProcess(process, database_url, lines)


def _served(
    database_url: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    errors: TextIO | None = None,
    files: int | None = None,
) -> LiveServer:
    command = ("-m", "app", "serve", "--port", "0", *arguments)
    process, lines = _start(database_url, command, environment, errors)
    if files is not None:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))
    server = LiveServer(process, database_url, lines)
    server.url = server.wait_for("  GraphQL").split()[1].removesuffix("/graphql")
    return server


def _start(
    database_url: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    errors: TextIO | None = None,
) -> "tuple[subprocess.Popen[str], Queue[str | None]]":
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "DATABASE_URL": database_url, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=errors,
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
