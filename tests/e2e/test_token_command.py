"""`jobs-gateway token` as a process: it prints a token alone, or says in a sentence why not."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

SECRET = "0123456789abcdef0123456789abcdef"
SECONDS = 60


def run(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with nothing but this set, once it has ended with this exit code."""
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
    """What the printed token says."""
    ended = run(*arguments, code=0, JOBS_GATEWAY_JWT_SECRET=SECRET, **environment)
    assert ended.stderr == ""
    (line,) = ended.stdout.splitlines()
    said: dict[str, Any] = jwt.decode(
        line, SECRET, ["HS256"], options={"verify_aud": False, "require": ["exp", "iat"]}
    )
    return said


def test_a_token_is_for_the_default_store_and_everything_for_half_a_day() -> None:
    before = int(time.time())
    said = minted()
    assert before <= said["iat"] <= time.time()
    assert said == {
        "iss": "jobs-gateway",
        "aud": "jobs-gateway",
        "sub": "developer",
        "store": "default",
        "scope": "hierarchies:read hierarchies:write jobs:read jobs:write",
        "iat": said["iat"],
        "exp": said["iat"] + 12 * 3600,
    }


def test_flags_and_settings_say_what_it_says() -> None:
    said = minted(
        *("--store", "plants", "--subject", "ada", "--lifetime", "7d"),
        *("--scope", "jobs:read", "--scope", "hierarchies:write"),
        JOBS_GATEWAY_JWT_ISSUER="us",
        JOBS_GATEWAY_JWT_AUDIENCE="them",
    )
    assert (said["iss"], said["aud"]) == ("us", "them")
    assert (said["store"], said["sub"]) == ("plants", "ada")
    assert said["scope"] == "hierarchies:write jobs:read"
    assert said["exp"] - said["iat"] == 7 * 86_400


@pytest.mark.parametrize(("lifetime", "seconds"), [("90", 5400), ("30m", 1800), ("2h", 7200)])
def test_a_lifetime_is_in_minutes_or_says_its_unit(lifetime: str, seconds: int) -> None:
    said = minted("--lifetime", lifetime, "--organization")
    assert said["exp"] - said["iat"] == seconds
    assert said["organization"] is True
    assert "store" not in said


def test_without_a_secret_it_says_how_to_make_one() -> None:
    ended = run(code=2)
    assert ended.stdout == ""
    (sentence,) = ended.stderr.splitlines()
    assert "JOBS_GATEWAY_JWT_SECRET" in sentence
    assert "openssl rand -hex 32" in sentence


def test_where_an_issuer_makes_the_tokens_it_says_so(tmp_path: Path) -> None:
    ended = run(code=2, JOBS_GATEWAY_JWKS=str(tmp_path / "jwks.json"))
    assert ended.stdout == ""
    assert ended.stderr == (
        "Tokens come from the issuer whose keys are at JOBS_GATEWAY_JWKS, not from here.\n"
    )


def test_a_short_secret_is_refused_and_not_shown() -> None:
    ended = run(code=2, JOBS_GATEWAY_JWT_SECRET="far-too-short")
    assert ended.stdout == ""
    assert "at least 32 bytes" in ended.stderr
    assert "far-too-short" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--store", "plants", "--organization"], "give --store or --organization"),
        (["--store", ""], "can not be empty"),
        (["--scope", "jobs:delete"], "jobs:delete"),
        (["--lifetime", "0"], "'0' is neither minutes nor like"),
        (["--lifetime", "soon"], "'soon' is neither minutes nor like"),
        (["--lifetime", "999999999d"], "expiry"),
    ],
)
def test_a_mistake_ends_it_with_2_and_a_sentence(arguments: list[str], words: str) -> None:
    ended = run(*arguments, code=2, JOBS_GATEWAY_JWT_SECRET=SECRET)
    assert ended.stdout == ""
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
