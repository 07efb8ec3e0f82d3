"""The commands as processes, against a server process."""

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

pytestmark = pytest.mark.process

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
    """Start a command as a client of this server."""
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
    """Run a command to its end. It exits with `code`."""
    command = start(server, *arguments)
    out, err = command.communicate(timeout=SECONDS)
    assert command.returncode == code, err
    return subprocess.CompletedProcess(arguments, code, out, err)


def next_line(command: Command) -> str:
    """Read the next line of standard output."""
    assert command.stdout is not None
    line = command.stdout.readline()
    assert line, "the command has ended"
    return line


def fields(line: str) -> dict[str, str]:
    """Return the key=value words of a line."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def imported(server: LiveServer, file: Path) -> str:
    """Import a file while the server runs. Return the hierarchy's id."""
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
    """A server without a runner: jobs stay pending."""
    folder = tmp_path_factory.mktemp("waiting")
    server = start_server(f"sqlite:///{folder}/waiting.db", "--no-runner")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def waiting_source(waiting: LiveServer, plants: Path) -> str:
    """A hierarchy on the server without a runner."""
    return imported(waiting, plants)


def queued(server: LiveServer, source: str, count: int) -> list[str]:
    """Enqueue `count` duplications. Return their ids in queue order."""
    field = f'duplicateHierarchy(input: {{hierarchyId: "{source}"}}) {{ job {{ id }} }}'
    duplicate = f"mutation {{ {field} }}"
    return [server.post(duplicate)["duplicateHierarchy"]["job"]["id"] for _ in range(count)]


def test_a_file_is_imported_while_the_server_runs(live_server: LiveServer, plants: Path) -> None:
    done = run(live_server, "import", plants, "--name", "Plants", "--products", "5")
    id = done.stdout.split()[0]
    assert done.stdout.startswith(f"{id} 'Plants': 3 nodes, 10 products, store 'default' of /")
    assert done.stderr == ""
    assert live_server.post(HIERARCHY, id=id) == {
        "hierarchy": {"name": "Plants", "nodeCount": NODES},
        "duplicationPreview": {"productAssociationCount": 10},
    }


def test_duplicate_watch_follows_the_job_to_a_complete_copy(
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


def test_duplicate_watch_json_prints_each_job_version_once(
    live_server: LiveServer, source: str
) -> None:
    done = run(live_server, "duplicate", source, "--watch", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["type"] == "SNAPSHOT"
    assert events[-1]["job"]["status"] == "SUCCESS"
    assert events[-1]["job"]["duplication"]["result"]["nodeCount"] == NODES
    versions = [event["job"]["version"] for event in events]
    assert versions == sorted(set(versions))


def test_the_newest_jobs_are_listed_across_pages(waiting: LiveServer, waiting_source: str) -> None:
    ids = queued(waiting, waiting_source, 130)
    listed = run(waiting, "jobs", "--limit", "120").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ids[:9:-1]


def test_jobs_are_listed_by_status(waiting: LiveServer, waiting_source: str) -> None:
    ids = queued(waiting, waiting_source, 30)
    pending = run(waiting, "jobs", "--status", "pending", "--status", "failed", "--json").stdout
    assert [json.loads(line)["id"] for line in pending.splitlines()] == ids[:4:-1]
    none = run(waiting, "jobs", "--status", "success")
    assert (none.stdout, none.stderr) == ("", "No jobs.\n")


def test_a_watch_with_a_closed_stdout_ends_without_an_error(
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


def test_jobs_watch_prints_events_until_ctrl_c(live_server: LiveServer, source: str) -> None:
    known = live_server.post(DUPLICATE, id=source)["duplicateHierarchy"]["job"]["id"]
    with start(live_server, "jobs", "--watch", "--limit", "1") as command:
        assert next_line(command).startswith(known)
        # The subscription may not be open yet: it starts at the cursor of the list.
        new = live_server.post(DUPLICATE, id=source)["duplicateHierarchy"]["job"]["id"]
        types = []
        while "SUCCEEDED" not in types:
            line = next_line(command)
            if line.startswith(new):
                types.append(fields(line)["event"])
        command.send_signal(signal.SIGINT)
        assert command.wait(SECONDS) == 0
        assert command.stderr is not None
        assert command.stderr.read() == ""
    assert [type for type in types if type != "PROGRESS"] == ["CREATED", "STARTED", "SUCCEEDED"]


def test_a_pending_job_is_cancelled_once(waiting: LiveServer, waiting_source: str) -> None:
    queued_line = run(waiting, "duplicate", waiting_source).stdout
    id, status, *_ = queued_line.split()
    assert status == "PENDING"
    assert fields(queued_line)["source"] == waiting_source
    assert run(waiting, "cancel", id).stdout.split()[:2] == [id, "CANCELLED"]
    again = run(waiting, "cancel", id, code=1)
    assert again.stderr == "Only a pending job can be cancelled; this one is cancelled.\n"


def test_cancelling_a_finished_job_is_refused_with_its_status(
    live_server: LiveServer, source: str
) -> None:
    line = run(live_server, "duplicate", source, "--watch").stdout.splitlines()[-1]
    refused = run(live_server, "cancel", line.split()[0], code=1)
    assert refused.stdout == ""
    assert refused.stderr == "Only a pending job can be cancelled; this one is success.\n"


def test_a_watch_of_a_cancelled_job_prints_the_event_and_fails(
    waiting: LiveServer, waiting_source: str
) -> None:
    command = start(waiting, "duplicate", waiting_source, "--watch", "--json")
    id = json.loads(next_line(command))["job"]["id"]
    run(waiting, "cancel", id)
    out, err = command.communicate(timeout=SECONDS)
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["CANCELLED"]
    assert err == f"Job {id} is CANCELLED.\n"
    assert command.returncode == 1


def test_a_paused_queue_starts_nothing_until_resume(live_server: LiveServer, source: str) -> None:
    paused = run(live_server, "pause", "--reason", "new prices").stdout
    assert paused.startswith("PAUSED pending=0 since=")
    assert paused.endswith(' reason="new prices"\n')
    first, last = (run(live_server, "duplicate", source).stdout.split()[0] for _ in range(2))

    moved = run(live_server, "move", last).stdout
    assert fields(moved)["position"] == "1"
    assert run(live_server, "cancel", first).stdout.split()[1] == "CANCELLED"

    assert run(live_server, "resume").stdout == "RUNNING pending=1\n"
    lines = run(live_server, "watch", last).stdout.splitlines()
    assert lines[-1].split()[:2] == [last, "SUCCESS"]
    refused = run(live_server, "move", last, code=1)
    assert refused.stderr == "Only a pending job can be moved; this one is success.\n"


def test_a_watch_resumes_after_a_cursor(live_server: LiveServer, source: str) -> None:
    def watched(*arguments: str) -> list[dict[str, Any]]:
        lines = run(live_server, *arguments, "--json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    before = watched("duplicate", source, "--watch")[-1]["cursor"]
    last = watched("duplicate", source, "--watch")[-1]
    logged = watched("watch", last["job"]["id"], "--after", before)
    assert [event["type"] for event in logged if event["type"] != "PROGRESS"] == [
        "CREATED",
        "STARTED",
        "SUCCEEDED",
    ]
    assert watched("watch", last["job"]["id"], "--after", last["cursor"]) == []


def test_diff_lists_the_differences_of_copy_and_source(
    live_server: LiveServer, source: str
) -> None:
    copied = run(live_server, "duplicate", source, "--name", "Other", "--watch").stdout
    id = copied.splitlines()[-1].split()[0]
    assert run(live_server, "diff", id).stdout.splitlines() == [
        "onlyInSource=0 onlyInCopy=0 changed=1",
        "CHANGED Plants (name)",
    ]
    refused = run(live_server, "diff", source, code=1)
    assert refused.stderr.startswith(f"{source} is not a duplication that succeeded")


def test_retry_of_a_pending_job_is_refused(waiting: LiveServer, waiting_source: str) -> None:
    id = run(waiting, "duplicate", waiting_source).stdout.split()[0]
    refused = run(waiting, "retry", id, code=1)
    assert refused.stderr == "Only a failed job can be tried again; this one is pending.\n"


def test_ctrl_c_ends_the_watch_but_not_the_job(waiting: LiveServer, waiting_source: str) -> None:
    command = start(waiting, "duplicate", waiting_source, "--watch")
    id = next_line(command).split()[0]
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=SECONDS)
    assert err == f"Stopped watching job {id}; it continues.\n"
    assert command.returncode == 130
    assert run(waiting, "jobs").stdout.split()[:2] == [id, "PENDING"]


def test_an_unknown_id_is_refused_in_one_sentence(live_server: LiveServer) -> None:
    duplicated = run(live_server, "duplicate", UNKNOWN, "--watch", code=1)
    assert duplicated.stderr == f"No hierarchy has the id {UNKNOWN}.\n"
    cancelled = run(live_server, "cancel", "nonsense", code=1)
    assert cancelled.stderr == "No job has the id nonsense.\n"


def test_an_unreachable_gateway_is_named(live_server: LiveServer) -> None:
    err = run(live_server, "jobs", "--url", "http://127.0.0.1:1/graphql", code=1).stderr
    assert err.startswith("No gateway at http://127.0.0.1:1 (")
    assert len(err.splitlines()) == 1


def test_a_server_other_than_a_gateway_is_named(live_server: LiveServer) -> None:
    err = run(live_server, "jobs", "--url", f"{live_server.url}/elsewhere", code=1).stderr
    url = f"{live_server.url}/elsewhere/graphql"
    assert err == f"{url} responded 404 Not Found. Is it the URL of a gateway?\n"


def test_an_invalid_url_is_a_usage_error(live_server: LiveServer) -> None:
    assert "--url" in run(live_server, "jobs", "--url", "localhost:8000", code=2).stderr


def test_a_watch_resumes_after_the_server_was_killed_and_restarted(
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
    types = [event["type"] for event in seen if event["type"] != "PROGRESS"]
    assert types == ["SNAPSHOT", "STARTED", "SUCCEEDED"]
    assert seen[-1]["job"]["duplication"]["result"]["nodeCount"] == NODES


def test_the_whole_taxonomy_is_imported_and_duplicated(
    live_server: LiveServer, taxonomy: Path
) -> None:
    done = run(live_server, "import", taxonomy, "--name", "Taxonomy", "--products", "2")
    id = done.stdout.split()[0]
    assert live_server.post(HIERARCHY, id=id) == expected_taxonomy()
    watched = run(live_server, "duplicate", id, "--include-products", "--watch").stdout
    copy = fields(watched.splitlines()[-1])["result"]
    assert live_server.post(HIERARCHY, id=copy) == expected_taxonomy()


def expected_taxonomy() -> dict[str, Any]:
    """The expected answer for the taxonomy with two products per leaf."""
    return {
        "hierarchy": {"name": "Taxonomy", "nodeCount": 10_281},
        "duplicationPreview": {"productAssociationCount": 2 * 8_251},
    }
