"""Whatever its streams, its arguments and the proxies are, a command ends without a traceback."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import pytest

from app.cli import COMMANDS
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

SECONDS = 60
ASCII = {"PYTHONIOENCODING": "ascii:strict"}
SECRET = "0123456789abcdef0123456789abcdef"
NAME = "Bäume → 東京 \U0001f333\x1b[2J\u202e"
UNKNOWN = "00000000-0000-4000-8000-000000000000"

ARGUMENTS: dict[str, Sequence[str]] = {
    "serve": ("--port", "nonsense"),
    "worker": ("--lease-seconds", "nonsense"),
    "migrate": (),
    "import": ("{file}", "--name", NAME),
    "duplicate": (UNKNOWN,),
    "jobs": (),
    "watch": (UNKNOWN,),
    "cancel": (UNKNOWN,),
    "retry": (UNKNOWN,),
    "move": (UNKNOWN,),
    "diff": (UNKNOWN,),
    "pause": ("--reason", NAME),
    "resume": (),
    "webhooks": (),
    "doctor": (),
    "token": (),
    "client": ("list",),
    "export-schema": (),
}
"""Arguments with which each command prints something, to whichever stream."""

QUICK = [command for command in COMMANDS if command != "watch"]
"""Commands that end at once without a gateway; `watch` tries to connect for 30 s."""

LOST = ("import", "doctor", "token", "migrate", "export-schema")
"""Commands that print without a gateway."""


class Runner:
    """Runs commands without a gateway, with any streams and variables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "plants.jsonl"
        self.file.write_text(json.dumps({"id": "t", "parent": None, "name": {"en": "Trees"}}))

    def run(
        self,
        *arguments: str | bytes,
        stdout: int | BinaryIO = subprocess.PIPE,
        stderr: int | BinaryIO = subprocess.PIPE,
        prepare: Callable[[], object] | None = None,
        environment: Mapping[str, str | bytes] = MappingProxyType({}),
    ) -> tuple[int, str, str]:
        """Run a command. Return its exit code and what it printed; never a traceback."""
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "JOBS_GATEWAY_URL": "http://127.0.0.1:1",
                "JOBS_GATEWAY_JWT_SECRET": SECRET,
                "COLUMNS": "200",
                **environment,
            },
            cwd=self.folder,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=prepare,
        )
        out, err = process.communicate(timeout=SECONDS)
        texts = [(text or b"").decode(errors="surrogateescape") for text in (out, err)]
        for text in texts:
            assert "Traceback" not in text
            assert "Exception ignored" not in text
        return process.returncode, *texts  # type: ignore[return-value]

    def arguments(self, command: str) -> list[str]:
        """Return a command line that prints something."""
        return [command, *(word.replace("{file}", str(self.file)) for word in ARGUMENTS[command])]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("streams"))


def test_every_command_is_tried() -> None:
    assert list(ARGUMENTS) == list(COMMANDS)


@pytest.mark.parametrize("command", QUICK)
def test_output_that_is_lost_is_one_line_and_a_failure(command: str, runner: Runner) -> None:
    with open("/dev/full", "wb") as full:
        code, _, err = runner.run(*runner.arguments(command), stdout=full)
    assert code == (1 if command in LOST else code)
    assert len(err.splitlines()) <= 1
    if command in LOST:
        assert err == "Standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("command", ["token", "doctor"])
def test_a_closed_output_is_one_line_and_a_failure(command: str, runner: Runner) -> None:
    code, _, err = runner.run(*runner.arguments(command), prepare=lambda: os.close(1))
    assert (code, err) == (1, "Standard output cannot be written: Bad file descriptor.\n")


@pytest.mark.parametrize("arguments", [["export-schema"], ["serve", "--help"], ["--help"]])
def test_a_reader_that_leaves_ends_a_command_silently(arguments: list[str], runner: Runner) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        code, _, err = runner.run(*arguments, stdout=pipe)
    assert (code, err) == (141, "")


@pytest.mark.parametrize("command", ["jobs", "cancel", "migrate", "serve"])
def test_a_standard_error_that_is_lost_changes_no_exit_code(command: str, runner: Runner) -> None:
    # The first one creates the database.
    runner.run(*runner.arguments(command))
    expected, out, _ = runner.run(*runner.arguments(command))
    assert expected in (0, 1, 2)
    with open("/dev/full", "wb") as full:
        assert runner.run(*runner.arguments(command), stderr=full)[:2] == (expected, out)
    closed = runner.run(*runner.arguments(command), prepare=lambda: os.close(2))
    assert closed[:2] == (expected, out)


def test_without_any_stream_the_database_gets_no_output(runner: Runner) -> None:
    def close_all() -> None:
        for descriptor in range(3):
            os.close(descriptor)

    path = runner.folder / "new.db"
    url = {"DATABASE_URL": f"sqlite:///{path}"}
    code, _, _ = runner.run("migrate", prepare=close_all, environment=url)
    assert code == 1
    assert path.read_bytes().startswith(b"SQLite format 3\0")
    assert runner.run("doctor", environment=url)[0] == 0


@pytest.mark.parametrize("command", QUICK)
def test_an_encoding_that_cannot_hold_a_character_escapes_it(command: str, runner: Runner) -> None:
    code, out, err = runner.run(*runner.arguments(command), environment=ASCII)
    assert code in (0, 1, 2)
    assert (out + err).isascii()
    assert "\x1b" not in out + err


@pytest.mark.parametrize(
    "arguments",
    [
        [b"pause", b"--reason", b"\xff"],
        [b"cancel", b"\xff"],
        [b"jobs", b"--url", b"http://\xff"],
        [b"token", b"--subject", b"\xff"],
        [b"import", b"plants.jsonl", b"--name", b"\xff"],
        [b"migrate", b"--database-url", b"sqlite:///\xff.db"],
        [b"serve", b"--jwt-secret-file", b"\xff"],
        [b"serve", b"--store", b"\xff"],
    ],
)
def test_an_argument_that_is_not_utf_8_is_refused(arguments: list[bytes], runner: Runner) -> None:
    code, out, err = runner.run(*arguments)
    assert (code, out) == (2, "")
    assert "it is not UTF-8 text." in err or "is not a valid URL" in err


@pytest.mark.parametrize("name", ["DATABASE_URL", "JOBS_GATEWAY_STORE", "JOBS_GATEWAY_JWKS"])
def test_a_variable_that_is_not_utf_8_is_refused(name: str, runner: Runner) -> None:
    code, _, err = runner.run("serve", environment={name: b"\xff"})
    assert code == 2
    assert err.startswith(f"{name}: ")
    assert all(line.startswith(("DATABASE_URL", "JOBS_GATEWAY_")) for line in err.splitlines())


def test_a_file_whose_name_is_not_utf_8_is_imported_and_named(runner: Runner) -> None:
    path = os.fsencode(runner.folder) + b"/\xff.jsonl"
    Path(os.fsdecode(path)).write_bytes(runner.file.read_bytes())
    assert runner.run("import", path, "--name", "Plants")[0] == 0
    Path(os.fsdecode(path)).write_bytes(b"{")
    code, _, err = runner.run("import", path, "--name", "Plants")
    assert code == 1
    assert r"/\udcff.jsonl, line 1" in err


@pytest.mark.parametrize("command", ["jobs", "watch", "pause"])
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://[::1", "http://a:b:c", "://"])
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(
    proxy: str, command: str, runner: Runner
) -> None:
    url = "http://gateway.example:8000"
    code, out, err = runner.run(
        *runner.arguments(command), "--url", url, environment={"HTTP_PROXY": proxy}
    )
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("HTTP_PROXY must be the URL of an HTTP proxy")


def test_a_dead_proxy_is_blamed_and_no_proxy_is_heeded(runner: Runner) -> None:
    proxy = {"HTTP_PROXY": "http://ada:s3cret@127.0.0.1:1", "no_proxy": ""}
    code, out, err = runner.run("jobs", "--url", "http://gateway.invalid:8000", environment=proxy)
    assert (code, out) == (1, "")
    assert err.startswith("The proxy http://ada:***@127.0.0.1:1 (HTTP_PROXY) does not answer")
    assert "add gateway.invalid to no_proxy" in err
    direct = {**proxy, "no_proxy": ".invalid"}
    _, _, err = runner.run("jobs", "--url", "http://gateway.invalid:8000", environment=direct)
    assert err.startswith("No gateway at http://gateway.invalid:8000")
    # This machine is reached directly.
    _, _, err = runner.run("jobs", environment=proxy)
    assert err.startswith("No gateway at http://127.0.0.1:1")


@pytest.mark.parametrize("stream", ["full", "closed", "reader gone"])
def test_a_server_serves_though_its_output_is_lost(stream: str, runner: Runner) -> None:
    reading, writing = os.pipe()
    database = runner.folder / f"{stream}.db"
    if stream == "full":
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--port", "0", "--demo"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"sqlite:///{database}",
            "JOBS_GATEWAY_LOG_FORMAT": "json",
            "JOBS_GATEWAY_LOG_LEVEL": "info",
        },
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: os.close(1)) if stream == "closed" else None,
    )
    os.close(reading)
    os.close(writing)
    assert process.stderr
    with process.stderr as log:
        # The demo's job runs once the server is up.
        lines = [json.loads(log.readline())]
        while lines[-1]["event"] != "job":
            lines.append(json.loads(log.readline()))
        process.send_signal(signal.SIGINT)
        rest = log.read()
    assert process.wait(SECONDS) == 0
    assert "Traceback" not in rest
    assert [line for line in lines if line["level"] != "info"] == []
