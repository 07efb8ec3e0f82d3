"""Guessed secrets delay neither queries nor the logins of clients that have logged in before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hostile_load import attacked, target
from tests.support.login_attacks import guess_secrets
from tests.support.registered_clients import registered, write_list

pytestmark = pytest.mark.hostile


def test_guessed_secrets_stall_no_other_client(
    tmp_path: Path, report: Callable[[str], None]
) -> None:
    clients = write_list(tmp_path / "clients.json", registered("shop"))
    with target(tmp_path, JOBS_GATEWAY_CLIENTS=str(clients)) as server:
        figures = attacked(server, guess_secrets)
    report(f"{figures}; {figures.outcome}")
    figures.check()
    assert set(figures.outcome.guesses) <= {401, 429}
    assert set(figures.outcome.logins) == {200}
