"""Webhooks are sent only to allowed addresses.

Every address is checked at each attempt, and the connection goes to a checked one.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.domain.webhooks import (
    Address,
    DeliveryResponse,
    checked_network,
    signed_headers,
    signing_keys,
)
from app.webhooks.sender import Sender
from tests.support.webhook_receiver import SECRET, Receiver, receiving

LOOPBACK = [checked_network("127.0.0.0/8")]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A running receiver of webhooks."""
    async with receiving() as started:
        yield started


async def posted(sender: Sender, url: str) -> DeliveryResponse:
    """Post a signed message; return the response."""
    headers = signed_headers(signing_keys(SECRET), uuid4(), datetime.now(UTC), b"{}")
    async with sender:
        return await sender.post(url, headers, b"{}")


async def test_no_request_goes_to_an_address_that_is_not_public_unless_it_is_allowed(
    receiver: Receiver,
) -> None:
    for host, networks in (
        ("https://localhost", []),
        ("http://localhost", [checked_network("10.0.0.0/8")]),
        ("https://127.0.0.1", []),
        ("https://[::ffff:127.0.0.1]", []),
        ("https://127.1", []),
        ("https://2130706433", []),
    ):
        url = f"{host}:{receiver.port}/"
        answer = await posted(Sender(networks), url)
        assert answer.status is None
        assert "not in an allowed network" in answer.reason
    assert receiver.connections == 0


class Resolver:
    """A name server that returns each of `answers` once, in order."""

    def __init__(self, *answers: str | Sequence[str]) -> None:
        self.answers = [[answer] if isinstance(answer, str) else answer for answer in answers]
        self.queries: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.queries.append((host, port))
        return [ip_address(address) for address in self.answers.pop(0)]


async def test_the_connection_goes_to_the_checked_address_even_if_the_name_changes() -> None:
    # Only this resolver knows the name, so no other one has resolved it.
    async with (
        receiving() as checked,
        receiving(host="127.0.0.2", port=checked.port) as trap,
    ):
        url = f"http://hooks.invalid:{checked.port}/"
        resolver = Resolver("127.0.0.1", "127.0.0.2")
        only_one = Sender([checked_network("127.0.0.1")], resolve=resolver)
        assert (await posted(only_one, url)).delivered
        assert (await checked.next()).headers["host"] == f"hooks.invalid:{checked.port}"
        assert resolver.queries == [("hooks.invalid", checked.port)]

        # The next attempt resolves and checks the name again.
        again = Sender([checked_network("127.0.0.1")], resolve=resolver)
        assert "127.0.0.2 is not in an allowed network" in (await posted(again, url)).reason
        assert (checked.connections, trap.connections) == (1, 0)


async def test_a_name_with_one_forbidden_address_gets_no_request(
    receiver: Receiver,
) -> None:
    resolver = Resolver(["127.0.0.1", "169.254.169.254"])
    url = f"http://hooks.invalid:{receiver.port}/"
    sender = Sender(LOOPBACK, resolve=resolver)
    assert "169.254.169.254 is not in an allowed network" in (await posted(sender, url)).reason
    assert receiver.connections == 0


async def test_a_name_whose_first_address_does_not_listen_is_reached_at_the_second(
    receiver: Receiver,
) -> None:
    url = f"http://hooks.invalid:{receiver.port}/"
    sender = Sender(LOOPBACK, resolve=Resolver(["127.0.0.2", "127.0.0.1"]))
    assert (await posted(sender, url)).delivered


async def test_a_name_whose_first_address_never_responds_is_reached_at_the_second(
    receiver: Receiver,
) -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.2", receiver.port)))
        silent.listen(0)
        # Once the backlog is full, further connections are not even refused.
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.2", receiver.port))
        sender = Sender(LOOPBACK, resolve=Resolver(["127.0.0.2", "127.0.0.1"]), seconds=6)
        assert (await posted(sender, f"http://hooks.invalid:{receiver.port}/")).delivered


@pytest.mark.parametrize("host", ["unknown.invalid", "x" * 64 + ".invalid"])
async def test_an_unknown_name_is_a_failed_attempt(
    host: str,
) -> None:
    answer = await posted(Sender([]), f"https://{host}/")
    assert answer.status is None
    assert answer.reason


async def test_a_receiver_that_takes_too_long_is_a_failed_attempt(
    receiver: Receiver,
) -> None:
    receiver.open.clear()
    sender = Sender(LOOPBACK, seconds=0.05)
    assert await posted(sender, receiver.url) == DeliveryResponse(
        None, "no response within 0.05 seconds"
    )


def certificate(name: str, folder: Path) -> Path:
    """Write a key and a self-signed certificate for `name`; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


async def test_over_tls_the_certificate_must_match_the_name_and_not_the_address(
    tmp_path: Path,
) -> None:
    file = certificate("hooks.invalid", tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    async with receiving(tls=tls) as receiver:
        for host, expected in (
            ("hooks.invalid", "Status"),
            ("other.invalid", "CERTIFICATE_VERIFY_FAILED"),
        ):
            sender = Sender(
                LOOPBACK,
                resolve=Resolver("127.0.0.1"),
                trusted=ssl.create_default_context(cafile=file),
            )
            url = f"https://{host}:{receiver.port}/"
            assert expected in (await posted(sender, url)).reason
        sender = Sender(LOOPBACK, resolve=Resolver("127.0.0.1"))
        url = f"https://hooks.invalid:{receiver.port}/untrusted"
        assert "CERTIFICATE_VERIFY_FAILED" in (await posted(sender, url)).reason
        assert receiver.received.qsize() == 1


async def test_a_redirect_is_not_followed_and_proxies_of_the_environment_are_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as elsewhere:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{elsewhere.port}")
        receiver.will_answer(307, head=f"location: {elsewhere.url}\r\n")
        answer = await posted(Sender(LOOPBACK), receiver.url)
        assert (answer.status, answer.delivered) == (307, False)
        assert (receiver.connections, elsewhere.connections) == (1, 0)


@pytest.mark.parametrize(
    ("status", "head", "wait"),
    [
        (503, "Retry-After: 120\r\n", timedelta(minutes=2)),
        (429, "retry-after: 1\r\n", timedelta(seconds=1)),
        (500, "retry-after: 120\r\n", None),
        (503, "retry-after: Sun, 22 Nov 2026 00:00:00 GMT\r\n", None),
        (503, f"retry-after: {'9' * 30}\r\n", None),
        (503, "", None),
    ],
)
async def test_retry_after_of_a_busy_receiver_is_understood(
    status: int, head: str, wait: timedelta | None, receiver: Receiver
) -> None:
    receiver.will_answer(status, head=head)
    assert await posted(Sender(LOOPBACK), receiver.url) == DeliveryResponse(status, "Status", wait)


async def test_only_the_head_of_a_response_is_read(receiver: Receiver) -> None:
    receiver.will_answer(200, head="content-length: 1000000000\r\n")
    assert await posted(Sender(LOOPBACK), receiver.url) == DeliveryResponse(200, "Status")
