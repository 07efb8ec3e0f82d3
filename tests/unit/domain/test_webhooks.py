"""Webhook signatures, permitted addresses, and retries."""

import base64
import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.domain.errors import InvalidInput
from app.domain.webhooks import (
    FIRST_RETRY_DELAY,
    MAX_ATTEMPTS,
    MAX_RETRY_DELAY,
    AddressNotAllowed,
    DeliveryResponse,
    check_address,
    checked_network,
    checked_url,
    origin_of,
    retry_delay,
    signed_headers,
    signing_keys,
)

ID = UUID("00000000-1111-4222-8333-444400000000")
OLD, NEW, OTHER = (
    f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in range(3)
)
BODY = b'{"type":"job.succeeded"}'

FAILED = DeliveryResponse(500, "Internal Server Error")
INSIDE = [checked_network(network) for network in ("10.0.0.0/8", "127.0.0.1", "fd00::/8")]


def verified(secret: str, headers: dict[str, str], body: bytes = BODY) -> object:
    """Verify a message with the library of the specification; return its payload."""
    return Webhook(secret).verify(body, headers)


def test_signed_messages_verify_and_changed_ones_do_not() -> None:
    headers = signed_headers(signing_keys(NEW), ID, datetime.now(UTC), BODY)
    assert headers["webhook-id"] == str(ID)
    assert verified(NEW, headers) == json.loads(BODY)
    for secret, changed, body in (
        (OTHER, headers, BODY),
        (NEW, {**headers, "webhook-id": str(UUID(int=1))}, BODY),
        (NEW, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, BODY),
        (NEW, headers, BODY.replace(b"succeeded", b"cancelled")),
    ):
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            verified(secret, changed, body)


def test_a_message_older_than_five_minutes_does_not_verify() -> None:
    sent = datetime.now(UTC) - timedelta(minutes=6)
    with pytest.raises(WebhookVerificationError, match="too old"):
        verified(NEW, signed_headers(signing_keys(NEW), ID, sent, BODY))


def test_during_a_secret_rotation_both_secrets_verify() -> None:
    headers = signed_headers(signing_keys(f"{NEW}, {OLD}"), ID, datetime.now(UTC), BODY)
    for secret in (OLD, NEW):
        verified(secret, headers)
    with pytest.raises(WebhookVerificationError):
        verified(OTHER, headers)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "correct horse battery staple, and more of them",
        OLD.removeprefix("whsec_"),
        f"{OLD},",
        f"whsec_{base64.b64encode(b'x' * 23).decode()}",
        f"whsec_{base64.b64encode(b'x' * 65).decode()}",
        "whsec_ü" + OLD.removeprefix("whsec_"),
    ],
)
def test_a_weak_or_malformed_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(InvalidInput, match="openssl rand") as refusal:
        signing_keys(secret)
    assert secret == "" or secret not in str(refusal.value)


PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::93.184.216.34"]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001::1",
    "2001:db8::1",
    "4000::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fe80::1%2",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_notified_over_https_only(address: str) -> None:
    check_address(ip_address(address), "https", [])
    with pytest.raises(AddressNotAllowed, match="takes https"):
        check_address(ip_address(address), "http", INSIDE)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_by_default(
    address: str,
) -> None:
    with pytest.raises(AddressNotAllowed, match="not a public address"):
        check_address(ip_address(address), "https", [])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_allowed_network_matches_every_notation_and_no_other_address(
    scheme: str,
) -> None:
    for address in ("10.1.2.3", "127.0.0.1", "fd12::1", "::ffff:127.0.0.1", "64:ff9b::10.1.2.3"):
        check_address(ip_address(address), scheme, INSIDE)
    for address in ("127.0.0.2", "169.254.169.254", "192.168.1.1", "::1", "::ffff:127.0.0.2"):
        with pytest.raises(AddressNotAllowed):
            check_address(ip_address(address), scheme, INSIDE)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example:8443/hooks/jobs?key=value",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1::1]:8443/",
        "http://shop.internal/hooks",
        "http://127.0.0.1:9000/",
        "https://10.0.0.7/",
    ],
)
def test_permitted_urls_are_returned_unchanged(url: str) -> None:
    assert checked_url(url, INSIDE) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("shop.example/SECRET", "no URL"),
        ("ftp://shop.example/SECRET", "no URL"),
        ("https://", "no URL"),
        ("https://shop.example:0/SECRET", "no URL"),
        ("https://shop.example:port/SECRET", "no URL"),
        ("https://[::1/SECRET", "no URL"),
        ("https://user:SECRET@shop.example/", "a user or password"),
        ("https://shop.example/SECRET#here", "no #"),
        ("https://shop.example/SECRET here", "%20"),
        ("https://shop.example/SECRET\r\nhost: evil", "%20"),
        ("https://schöner.example/SECRET", "xn--"),
        (f"https://shop.example/SECRET{'x' * 2_000}", "more than 2000 characters"),
        ("http://shop.example/SECRET", "not https"),
        ("https://127.0.0.1/SECRET", "not a public address"),
        ("https://[::ffff:10.0.0.1]/SECRET", "not a public address"),
    ],
)
def test_forbidden_urls_are_refused_without_showing_their_secrets(url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refusal:
        checked_url(url, [])
    assert "SECRET" not in str(refusal.value)


@pytest.mark.parametrize("network", ["", "10.0.0.1/8", "localhost", "10.0.0.0/33", "10.0.0"])
def test_an_invalid_network_is_refused(network: str) -> None:
    with pytest.raises(InvalidInput, match="no network such as"):
        checked_network(network)


def test_only_the_origin_of_a_url_is_shown() -> None:
    assert origin_of("https://user:SECRET@shop.example:8443/SECRET?a=SECRET") == (
        "https://shop.example:8443"
    )
    assert origin_of("https://shop.example?SECRET") == "https://shop.example"


def test_retry_delays_grow_and_end_within_a_day() -> None:
    for chance in (0.0, 0.5, 1.0):
        pauses = [retry_delay(FAILED, number, chance) for number in range(1, MAX_ATTEMPTS + 1)]
        assert pauses[-1] is None
        delays = [pause for pause in pauses if pause is not None]
        assert len(delays) == MAX_ATTEMPTS - 1
        assert delays == sorted(delays)
        assert 0.9 * FIRST_RETRY_DELAY <= delays[0] <= 1.1 * FIRST_RETRY_DELAY
        assert timedelta(hours=16) < sum(delays, timedelta()) < timedelta(days=1)


def test_retry_delays_depend_on_chance() -> None:
    assert retry_delay(FAILED, 3, 0.0) != retry_delay(FAILED, 3, 1.0)


@pytest.mark.parametrize("status", [200, 201, 204, 299, 410])
def test_success_and_status_410_end_the_delivery(status: int) -> None:
    assert retry_delay(DeliveryResponse(status, ""), 1, 0.5) is None


@pytest.mark.parametrize("status", [None, 100, 301, 302, 307, 400, 401, 404, 408, 429, 500, 503])
def test_every_other_status_is_retried(status: int | None) -> None:
    answer = DeliveryResponse(status, "")
    assert not answer.delivered
    assert retry_delay(answer, 1, 0.5) == FIRST_RETRY_DELAY


def test_a_receiver_can_only_lengthen_the_delay_up_to_a_maximum() -> None:
    for wait, pause in (
        (timedelta(0), FIRST_RETRY_DELAY),
        (timedelta(minutes=5), timedelta(minutes=5)),
        (timedelta(days=300), MAX_RETRY_DELAY),
    ):
        assert retry_delay(DeliveryResponse(503, "", wait), 1, 0.5) == pause
