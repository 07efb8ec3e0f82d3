"""`jobs-gateway client`: the list of clients that may log in."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.api.auth.registered_clients import hash_secret, read_clients, salt_of
from app.cli import cli
from app.domain.callers import EVERY_SCOPE, Scope
from tests.support.registered_clients import registered, write_list


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clients.json"


def run(path: Path | None, *arguments: str, code: int = 0) -> Result:
    """Run `client` with this file. It exits with `code`."""
    environment = {"JOBS_GATEWAY_CLIENTS": str(path)} if path else {}
    ended = CliRunner().invoke(cli, ["client", *arguments], env={"COLUMNS": "200", **environment})
    assert ended.exit_code == code, ended.output
    assert "Traceback" not in ended.output
    return ended


def test_a_new_client_gets_a_secret_of_which_the_file_has_the_hash(path: Path) -> None:
    shown = dict(line.split("=", 1) for line in run(path, "add", "shop").stdout.splitlines())
    assert list(shown) == ["client_id", "client_secret"]
    assert shown["client_id"] == "shop"
    secret = shown["client_secret"]
    assert len(secret) == 43
    assert secret not in path.read_text()
    client = read_clients(path)["shop"]
    assert hash_secret(secret, salt_of(client.secret_hash)) == client.secret_hash
    assert (client.store, client.implicit) == ("default", False)
    assert set(client.scopes) == EVERY_SCOPE
    assert path.stat().st_mode & 0o777 == 0o600


def test_flags_determine_the_store_and_the_scopes(path: Path) -> None:
    run(path, "add", "web", "--store", "plants", "--scope", "jobs:read", "--implicit")
    shown = json.loads(run(path, "add", "org", "--organization", "--json").stdout)
    assert list(shown) == ["client_id", "client_secret"]
    web, org = read_clients(path).values()
    assert (web.store, web.scopes, web.implicit) == ("plants", (Scope.JOBS_READ,), True)
    assert (org.store, org.organization) == (None, True)
    assert run(path, "list").stdout.splitlines() == [
        "web store=plants scopes=jobs:read implicit",
        "org organization scopes=hierarchies:read,hierarchies:write,jobs:read,jobs:write",
    ]
    first, _ = map(json.loads, run(path, "list", "--json").stdout.splitlines())
    assert first == {
        "id": "web",
        "store": "plants",
        "organization": False,
        "scopes": ["jobs:read"],
        "implicit": True,
    }


def test_a_removed_client_is_no_longer_listed(path: Path) -> None:
    write_list(path, registered("shop"), registered("web"))
    assert "shop is removed" in run(path, "remove", "shop").stderr
    assert list(read_clients(path)) == ["web"]
    assert f"{path} has no client shop." in run(path, "remove", "shop", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["add", "shop"], 1, "has a client shop"),
        (["add", "a b"], 2, "1 to 100 letters"),
        (["add", ""], 2, "1 to 100 letters"),
        (["add", "x", "--store", "a", "--organization"], 2, "use --store or --organization"),
        (["add", "x", "--store", "@a"], 2, "begins with @"),
        (["add", "x", "--scope", "jobs:delete"], 2, "jobs:delete"),
        (["remove", "../x"], 2, "1 to 100 letters"),
        (["list", "--clients", "/nowhere/clients.json"], 1, "No such file or directory"),
        (["add", "x", "--clients", "/nowhere/clients.json"], 1, "cannot be written"),
    ],
)
def test_a_mistake_changes_nothing(arguments: list[str], code: int, words: str, path: Path) -> None:
    write_list(path, registered("shop"))
    before = path.read_bytes()
    ended = run(path, *arguments, code=code)
    assert ended.stdout == ""
    assert words in ended.stderr
    assert path.read_bytes() == before


def test_a_broken_list_is_not_overwritten(path: Path) -> None:
    path.write_text("{")
    for arguments in (["add", "shop"], ["list"], ["remove", "shop"]):
        assert "is not a list of clients" in run(path, *arguments, code=1).stderr
    assert path.read_text() == "{"


def test_without_a_file_the_error_names_the_setting() -> None:
    assert "JOBS_GATEWAY_CLIENTS" in run(None, "list", code=2).stderr
