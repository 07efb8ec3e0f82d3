"""The list of clients in a file, and the verification of secrets."""

import asyncio
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.api.auth import registered_clients
from app.api.auth.registered_clients import (
    WINDOW_SECONDS,
    ClientRegistry,
    SecretVerifier,
    UnusableClients,
    edit_clients,
    hash_secret,
    read_clients,
)
from app.api.http.refusals import BadRequest
from tests.support.registered_clients import CLIENT_SECRET, HASH, registered, write_list


class Hashes:
    """Counts the hashes that run, and those that run at the same time."""

    def __init__(self) -> None:
        self.salts: list[bytes] = []
        self.threads: set[int] = set()
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def __call__(self, secret: str, salt: bytes) -> str:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
            self.salts.append(salt)
            self.threads.add(threading.get_ident())
        try:
            return hash_secret(secret, salt)
        finally:
            with self._lock:
                self._running -= 1


@pytest.fixture
def verifier() -> SecretVerifier:
    return SecretVerifier()


@pytest.fixture
def hashes(verifier: SecretVerifier, monkeypatch: pytest.MonkeyPatch) -> Hashes:
    hashes = Hashes()
    monkeypatch.setattr(registered_clients, "hash_secret", hashes)
    return hashes


async def test_an_unknown_client_costs_the_same_hash(
    verifier: SecretVerifier, hashes: Hashes
) -> None:
    shop = registered("shop")
    assert not await verifier.verify(shop, "wrong", "a")
    assert not await verifier.verify(None, CLIENT_SECRET, "b")
    assert len(hashes.salts) == 2
    assert {len(salt) for salt in hashes.salts} == {16}


async def test_a_verified_secret_needs_no_further_hash(
    verifier: SecretVerifier, hashes: Hashes
) -> None:
    shop = registered("shop")
    assert all([await verifier.verify(shop, CLIENT_SECRET, "a") for _ in range(50)])
    assert len(hashes.salts) == 1
    # The client's new secret, under the same id.
    other = shop.model_copy(update={"secret_hash": hash_secret("new", b"another new salt")})
    assert not await verifier.verify(other, CLIENT_SECRET, "a")
    assert len(hashes.salts) == 2


async def test_concurrent_logins_of_a_client_share_one_hash(
    verifier: SecretVerifier, hashes: Hashes
) -> None:
    shop = registered("shop")
    logins = [verifier.verify(shop, CLIENT_SECRET, "a") for _ in range(100)]
    assert all(await asyncio.gather(*logins))
    assert len(hashes.salts) == 1


async def test_hashes_run_one_at_a_time_outside_of_the_event_loop(
    verifier: SecretVerifier, hashes: Hashes
) -> None:
    guesses = [verifier.verify(None, f"guess {n}", f"address {n}") for n in range(4)]
    assert not any(await asyncio.gather(*guesses))
    assert len(hashes.salts) == 4
    assert hashes.most == 1
    assert threading.get_ident() not in hashes.threads


async def test_a_cancelled_login_does_not_end_the_hash_for_others(
    verifier: SecretVerifier,
) -> None:
    shop = registered("shop")
    first = asyncio.create_task(verifier.verify(shop, CLIENT_SECRET, "a"))
    await asyncio.sleep(0)
    second = asyncio.create_task(verifier.verify(shop, CLIENT_SECRET, "b"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second


async def test_logins_that_wait_are_limited(
    verifier: SecretVerifier, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registered_clients, "MAX_WAITING", 3)
    guesses = [verifier.verify(None, f"guess {n}", f"address {n}") for n in range(5)]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BadRequest)]
    assert [each.status for each in refused] == [429, 429]
    assert all(each.headers["Retry-After"] for each in refused)
    assert len(hashes.salts) == 3
    assert not await verifier.verify(None, "guess", "address 4")


async def test_wrong_secrets_of_an_address_are_limited_per_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registered_clients, "MAX_WRONG_SECRETS", 2)
    now = 0.0
    verifier = SecretVerifier(clock=lambda: now)
    shop = registered("shop")
    assert await verifier.verify(shop, CLIENT_SECRET, "one")
    # The right secret did not count.
    for n in range(2):
        assert not await verifier.verify(shop, f"guess {n}", "one")
    now = WINDOW_SECONDS - 0.5
    with pytest.raises(BadRequest, match=r"Too many wrong secrets. Try again in 1 s.") as refused:
        await verifier.verify(shop, "guess", "one")
    assert refused.value.headers == {"Retry-After": "1"}
    assert await verifier.verify(shop, CLIENT_SECRET, "one")
    assert not await verifier.verify(shop, "guess", "two")
    now = WINDOW_SECONDS
    assert not await verifier.verify(shop, "guess", "one")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not a list of clients"),
        ("[]", "is not a list of clients"),
        ('{"clients": {}}', "clients: "),
        ('{"clients": [], "more": 1}', "more: Extra inputs"),
        ('{"clients": [{}]}', "clients.0.id: Field required"),
        ({"secret_hash": CLIENT_SECRET}, "clients.0.secret_hash: "),
        ({"secret_hash": HASH.replace("16384", "2")}, "clients.0.secret_hash: "),
        ({"scopes": ["jobs:delete"]}, "clients.0.scopes.0: "),
        ({"scopes": []}, "clients.0.scopes: "),
        ({"id": "a b"}, "clients.0.id: "),
        ({"id": "a\n"}, "clients.0.id: "),
        ({"store": None}, "has a store, or organization: true"),
        ({"organization": True}, "has a store, or organization: true"),
        ({"store": " a"}, "cannot begin or end with a blank"),
        ({"stores": "a"}, "clients.0.stores: Extra inputs"),
        (" " * 2_000_000, "more than 1,048,576 bytes"),
    ],
)
def test_a_broken_list_is_described_without_its_secrets(
    content: str | dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "clients.json"
    if isinstance(content, dict):
        client = {**registered("shop").model_dump(mode="json", exclude_none=True), **content}
        content = json.dumps({"clients": [client]})
    path.write_text(content)
    with pytest.raises(UnusableClients, match=r"clients\.json") as unusable:
        ClientRegistry(path)
    message = str(unusable.value)
    assert words in message
    assert len(message.splitlines()) == 1
    assert CLIENT_SECRET not in message
    assert HASH[20:] not in message


def test_a_path_that_the_system_refuses_is_unusable(tmp_path: Path) -> None:
    # Root can search every folder: a name above the limit is refused in its place.
    with pytest.raises(UnusableClients, match=r"cannot be read: File name too long\.$"):
        read_clients(tmp_path / ("x" * 300))
    (file := tmp_path / "file").touch()
    with pytest.raises(UnusableClients, match=r"cannot be read: Not a directory\.$"):
        read_clients(file / "clients.json")


def test_a_client_cannot_be_listed_twice(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    client = registered("shop").model_dump(mode="json")
    path.write_text(json.dumps({"clients": [client, client]}))
    with pytest.raises(UnusableClients, match="a client twice"):
        read_clients(path)


def test_a_missing_list_is_created_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"
    with pytest.raises(UnusableClients, match="`jobs-gateway client add` creates it"):
        read_clients(path)
    write_list(path, registered("shop"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_clients(path) == {"shop": registered("shop")}
    assert list(tmp_path.iterdir()) == [path]


def test_an_edit_keeps_the_group_and_follows_a_link(tmp_path: Path) -> None:
    target = write_list(tmp_path / "target.json", registered("shop"))
    target.chmod(0o664)
    link = tmp_path / "link.json"
    link.symlink_to(target)
    write_list(link, registered("web"))
    assert link.is_symlink()
    assert list(read_clients(target)) == ["web"]
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_failed_edit_changes_nothing(tmp_path: Path) -> None:
    path = write_list(tmp_path / "clients.json", registered("shop"))

    def fail() -> None:
        with edit_clients(path) as clients:
            clients.clear()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(read_clients(path)) == ["shop"]
    with pytest.raises(UnusableClients, match="cannot be written"):
        write_list(tmp_path / "none" / "clients.json")


def test_a_list_is_never_written_too_long_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_list(tmp_path / "clients.json", registered("shop"))
    monkeypatch.setattr(registered_clients, "MAX_CLIENT_FILE_BYTES", path.stat().st_size)
    with pytest.raises(UnusableClients, match="would have more than"):
        write_list(path, registered("shop"), registered("web"))
    assert list(read_clients(path)) == ["shop"]
    with edit_clients(path) as clients:
        clients.pop("shop")
    assert read_clients(path) == {}


def test_concurrent_edits_lose_no_client(tmp_path: Path) -> None:
    path = tmp_path / "clients.json"

    def add(number: int) -> None:
        with edit_clients(path) as clients:
            clients[f"client-{number}"] = registered(f"client-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    assert len(read_clients(path)) == 16


def test_a_list_that_others_can_read_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_list(tmp_path / "clients.json", registered("shop"))
    with caplog.at_level(logging.WARNING, registered_clients.__name__):
        ClientRegistry(path)
        assert caplog.messages == []
        path.chmod(0o640)
        ClientRegistry(path)
        assert caplog.messages == []
        path.chmod(0o644)
        ClientRegistry(path)
    (line,) = caplog.messages
    assert "open to other users" in line
