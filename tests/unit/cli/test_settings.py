"""Settings: each is a flag with its own help, and all mistakes are reported at once."""

from contextlib import chdir
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from app import wiring
from app.cli import cli
from app.cli.flags import description, flag, limits, mistake_line
from app.settings import (
    Settings,
    WrongSettings,
    group_of,
    is_secret,
    read,
    unknown_variables,
    variable,
)
from app.wiring import StartError


def command(*arguments: str, cwd: Path, code: int, **environment: str) -> Result:
    """Run a command that must end with this exit code; return its output."""
    with chdir(cwd):
        ended = CliRunner().invoke(cli, arguments, env={"COLUMNS": "300", **environment})
    assert ended.exit_code == code, ended.output
    return ended


@pytest.fixture(scope="module")
def helps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The `--help` output of the commands that run a gateway."""
    folder = tmp_path_factory.mktemp("help")
    return "".join(
        command(name, "--help", cwd=folder, code=0).stdout for name in ("serve", "worker")
    )


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_help_of_every_flag_shows_its_variable_default_and_limits(
    name: str, helps: str
) -> None:
    assert description(name).endswith("."), "the field needs a docstring that ends with a period"
    for word in flag(name).split("/"):
        assert f" {word} " in helps
    assert f"[{', '.join((variable(name), *limits(name)))}]" in helps


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_a_group_with_its_own_panel(name: str, helps: str) -> None:
    assert group_of(name)
    assert f"─ {group_of(name)} ─" in helps


def test_a_worker_takes_queue_settings_and_a_migration_database_settings(
    tmp_path: Path,
) -> None:
    worker = command("worker", "--help", cwd=tmp_path, code=0).stdout
    assert "--lease-seconds" in worker
    assert "--database-url" in worker
    for server_flag in ("--port", "--runner", "--jwks", "--max-cost", "--introspection"):
        assert server_flag not in worker
    migration = command("migrate", "--help", cwd=tmp_path, code=0).stdout
    assert "--database-url" in migration
    assert "--lease-seconds" not in migration


def test_all_mistakes_of_a_start_are_reported_at_once_by_flag_or_variable(tmp_path: Path) -> None:
    ended = command(
        *("serve", "--port", "eighty", "--host", "0.0.0.0", "--max-depth", "0"),
        *("--trusted-documents", "nowhere", "--database-url", "mysql://u:s3cret@host/x"),
        JOBS_GATEWAY_LEASE_SECONDS="0",
        JOBS_GATEWAY_ORIGINS="shop.example",
        JOBS_GATEWAY_SUGGESTIONS="perhaps",
        JOBS_GATEWAY_CONCURENCY="9",
        cwd=tmp_path,
        code=2,
    )
    lines = ended.stderr.splitlines()
    assert ended.stdout == ""
    assert "s3cret" not in ended.stderr
    unknown, *mistakes = lines
    assert (
        unknown
        == "JOBS_GATEWAY_CONCURENCY is not a setting. Did you mean JOBS_GATEWAY_CONCURRENCY?"
    )
    assert sorted(line.partition(":")[0] for line in mistakes) == [
        "--database-url",
        "--host",
        "--max-depth",
        "--port",
        "--trusted-documents",
        "JOBS_GATEWAY_LEASE_SECONDS",
        "JOBS_GATEWAY_ORIGINS",
        "JOBS_GATEWAY_SUGGESTIONS",
    ]
    assert not list(tmp_path.iterdir())


def mistakes_of(**values: object) -> list[str]:
    """The mistakes of a server's start, as printed."""
    with pytest.raises(WrongSettings) as wrong:
        wiring.check(read(values, wiring.check))
    return [mistake_line(mistake, values) for mistake in wrong.value.mistakes]


def test_mistakes_in_combinations_of_settings_are_reported_together(
    tmp_path: Path,
) -> None:
    lines = mistakes_of(
        host="0.0.0.0",
        jwt_secret=SecretStr("short"),
        jwks=str(tmp_path / "none.json"),
        only_trusted=True,
    )
    for line, words in zip(
        lines,
        (
            "--jwt-secret-file: The secret that signs tokens needs at least 32",
            "--jwks: No keys for tokens from ",
            "--jwt-secret-file, --jwks: Tokens are signed in one of two ways",
            "--only-trusted: Without trusted documents nothing could be run.",
        ),
        strict=True,
    ):
        assert line.startswith(words)


def test_a_list_of_clients_needs_a_secret_and_must_be_usable(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    for values in ({}, {"jwks": "https://issuer.example/keys"}):
        (mistake,) = mistakes_of(clients=path, **values)
        assert mistake.startswith("--clients: ")
        assert "signed with JOBS_GATEWAY_JWT_SECRET" in mistake
    secret = SecretStr("a secret that only these tests know")
    (missing,) = mistakes_of(clients=path, jwt_secret=secret)
    assert missing == (
        f"--clients: {path} cannot be read: No such file or directory. `jobs-gateway client add` "
        "creates it."
    )
    path.write_text("{")
    (broken,) = mistakes_of(clients=path, jwt_secret=secret)
    assert broken.startswith(f"--clients: {path} is not a list of clients: ")
    # The mistake in the secret is the only one.
    (short,) = mistakes_of(clients=path, jwt_secret=secret, jwks="https://issuer.example/keys")[:1]
    assert short.startswith("--jwt-secret-file, --jwks: ")


WITH_PASSWORD = "https://ada:s3cret@host/x"


@pytest.mark.parametrize(
    "name",
    [
        *("host", "port", "origins", "cors_headers", "jwks", "clients", "trusted_documents"),
        *("webhook_networks", "database_url", "listen_url"),
    ],
)
def test_a_password_in_any_setting_is_not_shown(name: str) -> None:
    other = {"jwt_secret": SecretStr("x" * 32)} if name == "clients" else {}
    mistakes = mistakes_of(**other, **{name: WITH_PASSWORD})
    assert mistakes
    assert "s3cret" not in " ".join(mistakes)


def test_a_host_to_listen_on_is_shown_without_a_password() -> None:
    with pytest.raises(StartError) as error:
        wiring.listen(WITH_PASSWORD, 0)
    assert "s3cret" not in str(error.value)


def test_two_of_three_issuers_may_share_a_key_set() -> None:
    settings = read({"jwks": "a, a, b", "jwt_issuer": "1, 2, 2"})
    assert settings.jwks == ("a", "a", "b")
    assert settings.jwt_issuer == ("1", "2")


def test_an_empty_secret_is_a_mistake_instead_of_open_access(tmp_path: Path) -> None:
    (short,) = mistakes_of(jwt_secret=SecretStr(""), host="0.0.0.0")
    assert "needs at least 32 bytes, and this one has 0" in short


def test_consequences_of_another_mistake_are_not_reported() -> None:
    (mistake,) = mistakes_of(host="0.0.0.0", insecure="perhaps")
    assert mistake.startswith("--insecure: ")


def test_a_secret_is_read_from_a_file_and_never_a_flag(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("only this and that file know of me!\n")
    assert [name for name in Settings.model_fields if is_secret(name)]
    for flags, words in (
        (("--jwt-secret-file", "nowhere"), "--jwt-secret-file: nowhere cannot be read: No such"),
        (("--jwt-secret-file", str(secret), "--jwks", "nowhere"), "--jwt-secret-file, --jwks: "),
    ):
        ended = command("serve", *flags, cwd=tmp_path, code=2)
        assert words in ended.stderr
        assert "only this" not in ended.stderr
    # click names the known flag in its error for an unknown one.
    assert "--jwt-secret-file" in command("serve", "--jwt-secret", "x", cwd=tmp_path, code=2).stderr


def test_an_unknown_variable_is_reported_with_the_nearest_setting() -> None:
    assert list(unknown_variables(["JOBS_GATEWAY_HOTS", "JOBS_GATEWAY_URL", "PATH"])) == [
        ("JOBS_GATEWAY_HOTS", "JOBS_GATEWAY_HOST")
    ]
    assert not list(unknown_variables(map(variable, Settings.model_fields)))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("stores", "shop, @nobodys", "begins with @"),
        ("stores", "x" * 256, "256 characters"),
        ("cors_headers", "X-Team, X Team", "'X Team' is not the name of a header"),
    ],
)
def test_a_name_that_breaks_a_rule_is_refused_at_start(
    field: str, value: str, message: str
) -> None:
    with pytest.raises(WrongSettings) as refused:
        read({field: value})
    (mistake,) = refused.value.mistakes
    assert message in mistake.message
    assert read({"stores": "shop,@organization"}).stores == {"shop", "@organization"}
    assert read({"cors_headers": "X-Team, x-other"}).cors_headers == {"X-Team", "x-other"}


def test_whole_limits_are_shown_without_decimals() -> None:
    assert limits("lease_seconds") == ("30", "1 to 3600")
    assert limits("max_body_bytes")[1] == "1024 to 16777216"
