"""The commands as processes, against a server that is another."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.processes import LiveServer, start_server

SECONDS = 60
NODES = 3
UNKNOWN = "00000000-0000-4000-8000-000000000000"

DUPLICATE = """
mutation($id: ID!) { duplicateHierarchy(input: {hierarchyId: $id}) { job { id } } }
"""
HIERARCHY = """
query($id: ID!) {
  hierarchy(id: $id) { name nodeCount }
  duplicationPreview(hierarchyId: $id, includeProducts: true) { productAssociationCount }
}
"""

Command = subprocess.Popen[str]


def start(server: LiveServer, *arguments: str | Path) -> Command:
    """A command that asks this server, still running."""
    return subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        env={
            **os.environ,
            "JOBS_GATEWAY_URL": server.url,
            "DATABASE_URL": server.database_url,
            "COLUMNS": "200",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    server: LiveServer, *arguments: str | Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """A command that has come to its end with this exit code."""
    command = start(server, *arguments)
    out, err = command.communicate(timeout=SECONDS)
    assert command.returncode == code, err
    return subprocess.CompletedProcess(arguments, code, out, err)


def next_line(command: Command) -> str:
    """What it prints next."""
    assert command.stdout is not None
    line = command.stdout.readline()
    assert line, "it ended"
    return line


def fields(line: str) -> dict[str, str]:
    """The key=value words of a plain line."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def imported(server: LiveServer, file: Path) -> str:
    """The id of a hierarchy imported from this file while the server runs."""
    return run(server, "import", file, "--name", "Plants").stdout.split()[0]


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three nodes."""
    file = tmp_path_factory.mktemp("plants") / "plants.jsonl"
    lines = [
        {"id": "t", "parent": None, "slug": "trees", "name": {"en": "Trees"}},
        {"id": "o", "parent": "t", "slug": "oaks", "name": {"en": "Oaks"}},
        {"id": "f", "parent": None, "slug": "ferns", "name": {"en": "Ferns"}},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def source(live_server: LiveServer, plants: Path) -> str:
    """A hierarchy on the server that runs its queue."""
    return imported(live_server, plants)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose queue nobody runs: jobs stay pending."""
    folder = tmp_path_factory.mktemp("waiting")
    server = start_server(f"sqlite:///{folder}/waiting.db", "--no-runner")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def waiting_source(waiting: LiveServer, plants: Path) -> str:
    """A hierarchy on the server whose queue nobody runs."""
    return imported(waiting, plants)


def queued(server: LiveServer, source: str, count: int) -> list[str]:
    """The ids of that many new duplications, in the order of the queue."""
    asked = f'duplicateHierarchy(input: {{hierarchyId: "{source}"}}) {{ job {{ id }} }}'
    duplicate = f"mutation {{ {asked} }}"
    return [server.post(duplicate)["duplicateHierarchy"]["job"]["id"] for _ in range(count)]


def test_a_file_is_imported_while_the_server_runs(live_server: LiveServer, plants: Path) -> None:
    done = run(live_server, "import", plants, "--name", "Plants", "--products", "5")
    id = done.stdout.split()[0]
    said = f"{id} 'Plants': 3 nodes, 10 products, store 'default' of /"
    assert done.stdout.startswith(said)
    assert done.stderr == ""
    assert live_server.post(HIERARCHY, id=id) == {
        "hierarchy": {"name": "Plants", "nodeCount": NODES},
        "duplicationPreview": {"productAssociationCount": 10},
    }


def test_a_duplicate_is_watched_to_a_copy_of_as_many_nodes(
    live_server: LiveServer, source: str
) -> None:
    done = run(live_server, "duplicate", source, "--name", "Plants again", "--watch")
    lines = done.stdout.splitlines()
    assert fields(lines[0])["event"] == "SNAPSHOT"
    last = lines[-1]
    assert last.split()[1] == "SUCCESS"
    assert last.endswith(f' nodes={NODES} name="Plants again"')
    copy = live_server.post(HIERARCHY, id=fields(last)["result"])["hierarchy"]
    assert copy == {"name": "Plants again", "nodeCount": NODES}
    assert done.stderr == ""


def test_a_duplicate_is_watched_as_json_each_version_of_the_job_once(
    live_server: LiveServer, source: str
) -> None:
    done = run(live_server, "duplicate", source, "--watch", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["type"] == "SNAPSHOT"
    assert events[-1]["job"]["status"] == "SUCCESS"
    assert events[-1]["job"]["duplication"]["result"]["nodeCount"] == NODES
    versions = [event["job"]["version"] for event in events]
    assert versions == sorted(set(versions))


def test_the_newest_jobs_are_listed_over_as_many_pages_as_it_takes(
    waiting: LiveServer, waiting_source: str
) -> None:
    ids = queued(waiting, waiting_source, 130)
    listed = run(waiting, "jobs", "--limit", "120").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ids[:9:-1]


def test_jobs_are_listed_by_status(waiting: LiveServer, waiting_source: str) -> None:
    ids = queued(waiting, waiting_source, 30)
    pending = run(waiting, "jobs", "--status", "pending", "--status", "failed", "--json").stdout
    assert [json.loads(line)["id"] for line in pending.splitlines()] == ids[:4:-1]
    none = run(waiting, "jobs", "--status", "success")
    assert (none.stdout, none.stderr) == ("", "No jobs.\n")


def test_a_watch_whose_reader_has_gone_ends_quietly(
    waiting: LiveServer, waiting_source: str
) -> None:
    queued(waiting, waiting_source, 1)
    with start(waiting, "jobs", "--limit", "1", "--watch") as command:
        next_line(command)
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        queued(waiting, waiting_source, 1)
        command.wait(SECONDS)
        assert command.stderr.read() == ""


def test_watched_jobs_are_told_of_until_ctrl_c(live_server: LiveServer, source: str) -> None:
    known = live_server.post(DUPLICATE, id=source)["duplicateHierarchy"]["job"]["id"]
    with start(live_server, "jobs", "--watch", "--limit", "1") as command:
        assert next_line(command).startswith(known)
        # Whether the subscription stands by now or not: it begins where the list ended.
        new = live_server.post(DUPLICATE, id=source)["duplicateHierarchy"]["job"]["id"]
        told = []
        while "SUCCEEDED" not in told:
            line = next_line(command)
            if line.startswith(new):
                told.append(fields(line)["event"])
        command.send_signal(signal.SIGINT)
        assert command.wait(SECONDS) == 0
        assert command.stderr is not None
        assert command.stderr.read() == ""
    assert [event for event in told if event != "PROGRESS"] == ["CREATED", "STARTED", "SUCCEEDED"]


def test_a_pending_job_is_cancelled_once(waiting: LiveServer, waiting_source: str) -> None:
    asked = run(waiting, "duplicate", waiting_source).stdout
    id, status, *_ = asked.split()
    assert status == "PENDING"
    assert fields(asked)["source"] == waiting_source
    assert run(waiting, "cancel", id).stdout.split()[:2] == [id, "CANCELLED"]
    again = run(waiting, "cancel", id, code=1)
    assert again.stderr == "Only a pending job can be cancelled; this one is cancelled.\n"


def test_a_finished_job_is_not_cancelled_and_the_refusal_names_its_status(
    live_server: LiveServer, source: str
) -> None:
    line = run(live_server, "duplicate", source, "--watch").stdout.splitlines()[-1]
    refused = run(live_server, "cancel", line.split()[0], code=1)
    assert refused.stdout == ""
    assert refused.stderr == "Only a pending job can be cancelled; this one is success.\n"


def test_whoever_watches_a_job_that_is_cancelled_hears_of_it_and_fails(
    waiting: LiveServer, waiting_source: str
) -> None:
    command = start(waiting, "duplicate", waiting_source, "--watch", "--json")
    id = json.loads(next_line(command))["job"]["id"]
    run(waiting, "cancel", id)
    out, err = command.communicate(timeout=SECONDS)
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["CANCELLED"]
    assert err == f"Job {id} is CANCELLED.\n"
    assert command.returncode == 1


def test_a_paused_queue_starts_nothing_and_is_resumed_by_hand(
    live_server: LiveServer, source: str
) -> None:
    paused = run(live_server, "pause", "--reason", "new prices").stdout
    assert paused.startswith("PAUSED pending=0 since=")
    assert paused.endswith(' reason="new prices"\n')
    first, last = (run(live_server, "duplicate", source).stdout.split()[0] for _ in range(2))

    moved = run(live_server, "move", last).stdout
    assert fields(moved)["position"] == "1"
    assert run(live_server, "cancel", first).stdout.split()[1] == "CANCELLED"

    assert run(live_server, "resume").stdout == "RUNNING pending=1\n"
    told = run(live_server, "watch", last).stdout.splitlines()
    assert told[-1].split()[:2] == [last, "SUCCESS"]
    refused = run(live_server, "move", last, code=1)
    assert refused.stderr == "Only a pending job can be moved; this one is success.\n"


def test_a_job_is_watched_from_where_somebody_stopped(live_server: LiveServer, source: str) -> None:
    lines = run(live_server, "duplicate", source, "--watch", "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    id, first = events[-1]["job"]["id"], events[0]["cursor"]
    rest = run(live_server, "watch", id, "--after", first, "--json").stdout.splitlines()
    logged = [event["type"] for event in map(json.loads, rest)]
    assert logged[-1] == "SUCCEEDED"
    assert "SNAPSHOT" not in logged
    assert run(live_server, "watch", id, "--after", events[-1]["cursor"]).stdout == ""


def test_what_a_copy_and_its_source_differ_in_is_told(live_server: LiveServer, source: str) -> None:
    copied = run(live_server, "duplicate", source, "--name", "Other", "--watch").stdout
    id = copied.splitlines()[-1].split()[0]
    assert run(live_server, "diff", id).stdout.splitlines() == [
        "onlyInSource=0 onlyInCopy=0 changed=1",
        "CHANGED Plants (name)",
    ]
    refused = run(live_server, "diff", source, code=1)
    assert refused.stderr.startswith(f"{source} is not a duplication that succeeded")


def test_a_job_that_did_not_fail_is_not_tried_again(
    waiting: LiveServer, waiting_source: str
) -> None:
    id = run(waiting, "duplicate", waiting_source).stdout.split()[0]
    refused = run(waiting, "retry", id, code=1)
    assert refused.stderr == "Only a failed job can be tried again; this one is pending.\n"


def test_ctrl_c_ends_the_watching_and_not_the_job(waiting: LiveServer, waiting_source: str) -> None:
    command = start(waiting, "duplicate", waiting_source, "--watch")
    id = next_line(command).split()[0]
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=SECONDS)
    assert err == f"Stopped watching job {id}; it continues.\n"
    assert command.returncode == 130
    assert run(waiting, "jobs").stdout.split()[:2] == [id, "PENDING"]


def test_an_id_of_nothing_is_refused_in_one_sentence(live_server: LiveServer) -> None:
    duplicated = run(live_server, "duplicate", UNKNOWN, "--watch", code=1)
    assert duplicated.stderr == f"No hierarchy has the id {UNKNOWN}.\n"
    cancelled = run(live_server, "cancel", "nonsense", code=1)
    assert cancelled.stderr == "No job has the id nonsense.\n"


def test_a_gateway_that_does_not_answer_is_named(live_server: LiveServer) -> None:
    err = run(live_server, "jobs", "--url", "http://127.0.0.1:1/graphql", code=1).stderr
    assert err.startswith("No gateway at http://127.0.0.1:1 (")
    assert len(err.splitlines()) == 1


def test_a_server_that_is_no_gateway_is_named(live_server: LiveServer) -> None:
    err = run(live_server, "jobs", "--url", f"{live_server.url}/elsewhere", code=1).stderr
    assert err == (
        f"{live_server.url}/elsewhere/graphql responded 404 Not Found. Is it the URL of a gateway?\n"
    )


def test_a_url_that_is_none_is_a_mistake_in_the_command(live_server: LiveServer) -> None:
    assert "--url" in run(live_server, "jobs", "--url", "localhost:8000", code=2).stderr


def test_a_watch_goes_on_where_it_was_when_the_server_was_killed_and_restarted(
    tmp_path: Path, plants: Path
) -> None:
    server = start_server(f"sqlite:///{tmp_path}/killed.db", "--no-runner")
    command = start(server, "duplicate", imported(server, plants), "--watch", "--json")
    seen = [json.loads(next_line(command))]
    server.kill()
    assert command.stderr is not None
    assert "Reconnecting" in command.stderr.readline()
    port = urlsplit(server.url).port
    restarted = start_server(server.database_url, "--port", str(port))
    out, err = command.communicate(timeout=SECONDS)
    restarted.kill()
    assert command.returncode == 0, err
    seen += [json.loads(line) for line in out.splitlines()]
    told = [event["type"] for event in seen if event["type"] != "PROGRESS"]
    assert told == ["SNAPSHOT", "STARTED", "SUCCEEDED"]
    assert seen[-1]["job"]["duplication"]["result"]["nodeCount"] == NODES


def test_the_taxonomy_is_imported_whole_and_duplicated_whole(
    live_server: LiveServer, taxonomy: Path
) -> None:
    done = run(live_server, "import", taxonomy, "--name", "Taxonomy", "--products", "2")
    id = done.stdout.split()[0]
    assert live_server.post(HIERARCHY, id=id) == whole()
    watched = run(live_server, "duplicate", id, "--include-products", "--watch").stdout
    copy = fields(watched.splitlines()[-1])["result"]
    assert live_server.post(HIERARCHY, id=copy) == whole()


def whole() -> dict[str, Any]:
    """The taxonomy with two products a leaf."""
    return {
        "hierarchy": {"name": "Taxonomy", "nodeCount": 10_281},
        "duplicationPreview": {"productAssociationCount": 2 * 8_251},
    }
