"""Logs of long-running processes.

One line per request and per job, with the request id and without secrets. The processes are real;
their standard error is read once they have ended.
"""

import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import orjson
import pytest

from app.domain.callers import EVERY_SCOPE
from tests.oracles.multi_store import SECRET, token_of
from tests.support.databases import NewDatabase
from tests.support.subscriber import BEGINNING, JOB_EVENTS, subscriber

DUPLICATE = """
mutation Copy($id: ID!, $name: String) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name}) {
    job { id } errors { __typename }
  }
}
"""
LAST = "{ hierarchies(first: 1) { nodes { id } } }"

Line = dict[str, Any]


class Logged:
    """A process and its log, which is complete once the process has ended."""

    def __init__(self, process: "subprocess.Popen[str]", path: Path) -> None:
        self.process = process
        self.output: list[str] = []
        self._path = path

    def until(self, words: str) -> str:
        """The next line of standard output that contains `words`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if words in line:
                return line
        raise AssertionError(f"the process ended: {self._path.read_text()}")

    def end(self) -> None:
        """Stop the process as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        self.output += self.process.stdout.readlines()
        assert self.process.wait(timeout=30) == 0

    @property
    def text(self) -> str:
        """The whole log."""
        return self._path.read_text()

    def lines(self, event: str | None = None) -> list[Line]:
        """The lines with this event, or all; every line must be JSON."""
        records = [orjson.loads(line) for line in self.text.splitlines()]
        return [line for line in records if event in (None, line["event"])]


@contextmanager
def logging_command(
    folder: Path, *arguments: str, stderr: int | None = None, **environment: str
) -> Iterator[Logged]:
    """Run a command whose log goes to a file, or to `stderr`."""
    path = folder / f"{arguments[0]}.log"
    with path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "JOBS_GATEWAY_LOG_LEVEL": "info",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=log if stderr is None else stderr,
            text=True,
        )
    try:
        yield Logged(process, path)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def serving(
    folder: Path, database_url: str, *arguments: str, stderr: int | None = None, **environment: str
) -> Iterator[tuple[Logged, httpx.Client]]:
    """Run a gateway; yield it and a client."""
    with logging_command(
        folder,
        *("serve", "--port", "0", *arguments),
        stderr=stderr,
        **{"DATABASE_URL": database_url, **environment},
    ) as logged:
        url = logged.until("  GraphQL").split()[1].removesuffix("/graphql")
        with httpx.Client(base_url=url, timeout=30, verify=False) as http:
            yield logged, http


def post(http: httpx.Client, query: str, headers: Mapping[str, str] = {}, **variables: Any) -> Any:
    """Post an operation; return the response's data."""
    body = {"query": query, "variables": variables}
    return http.post("/graphql", json=body, headers=headers).json().get("data")


@pytest.mark.process
async def test_a_request_and_its_job_log_one_line_each_with_the_same_request_id(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    with serving(tmp_path, new_database("sqlite"), "--demo") as (logged, http):
        logged.until("SUCCEEDED")
        (source,) = post(http, f"query Last {LAST}")["hierarchies"]["nodes"]
        http.get("/healthz")
        http.get("/readyz")
        http.get("/metrics")
        http.get(f"/pcm/jobs/{uuid4()}", headers={"x-request-id": "rest"})
        http.post("/graphql", json={"query": "{ nothing }"})
        http.post("/graphql", json=[{"query": "query A { __typename }"}, {"query": "{ nothing }"}])
        async with subscriber(str(http.base_url), additional_headers={"x-request-id": "ws"}) as ws:
            query = JOB_EVENTS.replace("subscription", "subscription Follow")
            events = await ws.subscribe(query, after=BEGINNING)
            assert [event["type"] for event in await events.take(3)][2] == "SUCCEEDED"
            created = post(http, DUPLICATE, {"x-request-id": "copy-request"}, id=source["id"])
            while (event := await anext(events))["type"] != "SUCCEEDED":
                pass
            await events.stop()
            await (await ws.subscribe("query After { __typename }")).rest()
        job = created["duplicateHierarchy"]["job"]["id"]
        assert event["job"]["id"] == job
        logged.end()

    def values_in(line: Line, *names: str) -> tuple[Any, ...]:
        return tuple(line.get(name) for name in names)

    requests = [
        values_in(line, "transport", "method", "route", "status", "operation", "code", "results")
        for line in logged.lines("request")
    ]
    graphql = ("http", "POST", "/graphql", 200)
    assert requests == [
        (*graphql, "Last", "OK", None),
        ("http", "GET", "/pcm/jobs/{job_id}", 404, None, None, None),
        ("http", "POST", "/graphql", 422, None, "GRAPHQL_VALIDATION_FAILED", None),
        (*graphql, "A", "GRAPHQL_VALIDATION_FAILED", None),
        (*graphql, "Copy", "OK", None),
        ("ws", None, None, None, "Follow", "OK", requests[5][6]),
        ("ws", None, None, None, "After", "OK", None),
        ("ws", "socket", "/graphql", None, None, None, None),
    ]
    # Three events of the demo's job, three of this one, and its progress.
    assert requests[5][6] >= 6
    ids = [line["request_id"] for line in logged.lines("request")]
    assert (ids[1], ids[4], *ids[5:]) == ("rest", "copy-request", "ws", "ws", "ws")

    *_, line = logged.lines("job")
    assert values_in(line, "job_id", "request_id", "type", "outcome", "attempts", "store") == (
        *(job, "copy-request", "hierarchy-duplicate", "success", 1, "default"),
    )
    assert line["items"] > 0
    assert 0 <= line["seconds"] < 30
    for line in logged.lines():
        assert datetime.fromisoformat(line["timestamp"]).tzinfo
        assert line["level"] == "info"
        assert line["logger"].startswith("app.")
    assert all(0 < line["ms"] < 30_000 for line in logged.lines("request"))
    # The banner goes to standard output.
    assert logged.output[0].startswith("jobs-gateway ")
    assert logged.output[-1] == "Stopped.\n"


@pytest.mark.process
def test_neither_secrets_nor_client_data_are_logged(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    database_url = new_database("sqlite")
    token = token_of("alpha", EVERY_SCOPE)
    sent = "open sesame"
    with serving(
        *(tmp_path, database_url, "--no-runner"),
        JOBS_GATEWAY_JWT_SECRET=SECRET,
        JOBS_GATEWAY_LOG_LEVEL="debug",
    ) as (logged, http):
        known = {"authorization": f"Bearer {token}"}
        post(http, DUPLICATE, known, id=sent, name=sent)
        post(http, DUPLICATE, {"authorization": f"Bearer {token}x"}, id=sent)
        http.get(f"/pcm/jobs/{sent}", headers={**known, "x-secret": sent})
        http.get("/pcm/jobs", headers=known, params={"filter": f"eq(id,{sent})"})
        http.post("/pcm/hierarchies", headers=known, json={"data": {"attributes": {"name": sent}}})
        http.get("/graphql", headers=known, params={"query": "{ __typename }", "secret": sent})
        http.get("/healthz", headers=known)
        # A bug with client data: the failing statement has it as a value.
        with closing(sqlite3.connect(urlsplit(database_url).path)) as file:
            file.execute("ALTER TABLE job RENAME TO lost")
            file.execute("ALTER TABLE hierarchy RENAME COLUMN name TO lost")
            file.commit()
        find = "query Find($name: String!) { hierarchies(filter: {name: $name}) { totalCount } }"
        assert post(http, find, known, name=sent) is None
        assert http.get("/pcm/jobs", headers=known).status_code == 500
        document = {"data": {"type": "hierarchy", "attributes": {"name": sent}}}
        assert http.post("/pcm/hierarchies", headers=known, json=document).status_code == 500
        logged.end()
    text = logged.text
    *api_lines, probe_line = sorted(
        logged.lines("request"), key=lambda line: line["route"] == "/healthz"
    )
    assert len(api_lines) == 9
    assert {line["level"] for line in api_lines} == {"info"}
    assert (probe_line["level"], probe_line["status"]) == ("debug", 200)
    assert "no such column" in text or "no column named" in text
    assert "Traceback" in text
    for secret in (token, token.rpartition(".")[2], SECRET, sent, "sesame"):
        assert secret not in text
    assert {line.get("subject") for line in api_lines} == {None, "walker"}


@pytest.mark.process
def test_failures_are_logged_with_request_id_and_traceback(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    database_url = new_database("sqlite")
    with serving(tmp_path, database_url, "--no-runner", "--log-level", "warning") as (logged, http):
        http.get("/pcm/jobs")
        with closing(sqlite3.connect(urlsplit(database_url).path)) as file:
            file.execute("ALTER TABLE job RENAME TO lost")
            file.commit()
        http.get("/pcm/jobs", headers={"x-request-id": "broken"})
        # Other loggers log only warnings and errors.
        http.request("BREW", "/")
        logged.end()
    ours, theirs = logged.lines()
    assert (ours["level"], ours["logger"], ours["request_id"]) == (
        *("error", "app.api.http.refusals", "broken"),
    )
    assert "no such table: job" in ours["exception"]
    assert (theirs["level"], theirs["logger"]) == ("warning", "uvicorn.error")


@pytest.mark.process
def test_a_worker_logs_the_id_of_a_request_that_another_process_served(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    database_url = new_database("postgresql")
    with (
        serving(tmp_path, database_url, "--no-runner", "--demo") as (server, http),
        logging_command(tmp_path, "worker", DATABASE_URL=database_url) as worker,
    ):
        server.until("SUCCEEDED")
        (source,) = post(http, LAST)["hierarchies"]["nodes"]
        created = post(http, DUPLICATE, {"x-request-id": "copy-request"}, id=source["id"])
        job = created["duplicateHierarchy"]["job"]["id"]
        stream = f'subscription {{ jobUpdates(id: "{job}") {{ job {{ status }} }} }}'
        accept = {"accept": "text/event-stream"}
        followed = http.post("/graphql", json={"query": stream}, headers=accept).text
        assert '"SUCCESS"' in followed
        worker.end()
        server.end()
    *_, line = worker.lines("job")
    assert (line["job_id"], line["request_id"]) == (job, "copy-request")
    *_, streamed = server.lines("request")
    assert (streamed["transport"], streamed["results"]) == ("sse", followed.count("event: next"))
    assert server.lines("job") == []


@pytest.mark.process
def test_a_terminal_gets_plain_lines_instead_of_json(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    ours, theirs = pty.openpty()
    try:
        with serving(tmp_path, new_database("sqlite"), "--no-runner", stderr=theirs) as (
            logged,
            http,
        ):
            post(http, "query Shown { __typename }", {"x-request-id": "mine"})
            logged.end()
        line = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert line.count("\n") == 1
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    assert plain != line
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[info *\] request ", plain)
    for words in ("operation=Shown", "request_id=mine", "status=200", "route=/graphql"):
        assert words in plain
