"""`jobs-gateway token` as a process: it prints only a token, or one sentence with the reason."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

pytestmark = pytest.mark.process

SECRET = "0123456789abcdef0123456789abcdef"
SECONDS = 60


def run(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with only these variables of the gateway set. It exits with `code`."""
    bare = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JOBS_GATEWAY_", "DATABASE_URL"))
    }
    ended = subprocess.run(
        [sys.executable, "-m", "app", "token", *arguments],
        env={**bare, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == code, ended.stderr
    return ended


def minted(*arguments: str, **environment: str) -> dict[str, Any]:
    """Return the claims of the printed token."""
    ended = run(*arguments, code=0, JOBS_GATEWAY_JWT_SECRET=SECRET, **environment)
    assert ended.stderr == ""
    (line,) = ended.stdout.splitlines()
    claims: dict[str, Any] = jwt.decode(
        line, SECRET, ["HS256"], options={"verify_aud": False, "require": ["exp", "iat"]}
    )
    return claims


def test_by_default_a_token_has_all_scopes_of_the_default_store_for_12_hours() -> None:
    before = int(time.time())
    claims = minted()
    assert before <= claims["iat"] <= time.time()
    assert claims == {
        "iss": "jobs-gateway",
        "aud": "jobs-gateway",
        "sub": "developer",
        "store": "default",
        "scope": "hierarchies:read hierarchies:write jobs:read jobs:write",
        "iat": claims["iat"],
        "exp": claims["iat"] + 12 * 3600,
    }


def test_flags_and_settings_determine_the_claims() -> None:
    claims = minted(
        *("--store", "plants", "--subject", "ada", "--lifetime", "7d"),
        *("--scope", "jobs:read", "--scope", "hierarchies:write"),
        JOBS_GATEWAY_JWT_ISSUER="us",
        JOBS_GATEWAY_JWT_AUDIENCE="them",
    )
    assert (claims["iss"], claims["aud"]) == ("us", "them")
    assert (claims["store"], claims["sub"]) == ("plants", "ada")
    assert claims["scope"] == "hierarchies:write jobs:read"
    assert claims["exp"] - claims["iat"] == 7 * 86_400


@pytest.mark.parametrize(("lifetime", "seconds"), [("90", 5400), ("30m", 1800), ("2h", 7200)])
def test_a_lifetime_is_in_minutes_or_has_a_unit(lifetime: str, seconds: int) -> None:
    claims = minted("--lifetime", lifetime, "--organization")
    assert claims["exp"] - claims["iat"] == seconds
    assert claims["organization"] is True
    assert "store" not in claims


def test_without_a_secret_the_error_explains_how_to_create_one() -> None:
    ended = run(code=2)
    assert ended.stdout == ""
    (sentence,) = ended.stderr.splitlines()
    assert "JOBS_GATEWAY_JWT_SECRET" in sentence
    assert "openssl rand -hex 32" in sentence


def test_with_a_key_set_the_error_refers_to_the_issuer(tmp_path: Path) -> None:
    ended = run(code=2, JOBS_GATEWAY_JWKS=str(tmp_path / "jwks.json"))
    assert ended.stdout == ""
    assert ended.stderr == (
        "Tokens are signed by the issuer of JOBS_GATEWAY_JWKS, not by this command.\n"
    )


def test_a_short_secret_is_refused_and_not_shown() -> None:
    ended = run(code=2, JOBS_GATEWAY_JWT_SECRET="far-too-short")
    assert ended.stdout == ""
    assert "at least 32 bytes" in ended.stderr
    assert "far-too-short" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--store", "plants", "--organization"], "use --store or --organization"),
        (["--store", ""], "can not be empty"),
        (["--scope", "jobs:delete"], "jobs:delete"),
        (["--lifetime", "0"], "'0' is not a number of minutes, or like"),
        (["--lifetime", "soon"], "'soon' is not a number of minutes, or like"),
        (["--lifetime", "999999999d"], "expiry"),
    ],
)
def test_a_mistake_exits_with_2_and_a_sentence(arguments: list[str], words: str) -> None:
    ended = run(*arguments, code=2, JOBS_GATEWAY_JWT_SECRET=SECRET)
    assert ended.stdout == ""
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
