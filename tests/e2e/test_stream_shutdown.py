"""Stopping the server ends its open SSE and multipart streams."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import httpx
import pytest

from app.api.graphql.transports.http import EVENT_STREAM
from tests.support.processes import start_server
from tests.support.subscriber import JOB_EVENTS

pytestmark = pytest.mark.process

APOLLO = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'

STOPPED_WITHIN_SECONDS = 5
"""Far more than the promised two, for machines under load."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_stopped_server_ends_its_streams(
    number: signal.Signals, tmp_path: Path, report: Callable[[str], None]
) -> None:
    server = start_server(f"sqlite:///{tmp_path}/test.db", "--demo")
    server.wait_for("SUCCEEDED")
    with (
        httpx.Client(base_url=server.url, timeout=30, verify=False) as client,
        ExitStack() as stack,
    ):
        bodies = []
        for accept in (EVENT_STREAM, APOLLO) * 10:
            response = stack.enter_context(
                client.stream(
                    "POST",
                    "/graphql",
                    json={"query": JOB_EVENTS, "variables": {}},
                    headers={"accept": accept},
                )
            )
            assert response.status_code == 200
            bodies.append(response.iter_bytes())
        server.process.send_signal(number)
        signalled = monotonic()
        for body in bodies:
            try:
                received = b"".join(body)
            except httpx.RemoteProtocolError:
                # An aborted stream is fine: it is not complete, so the client reconnects.
                continue
            assert b"complete" not in received
            assert b"--graphql--" not in received
        streams_took = monotonic() - signalled
        assert server.process.wait(timeout=30) == 0
    took = monotonic() - signalled
    report(f"{len(bodies)} streams ended in {streams_took:.2f} s, the process in {took:.2f} s")
    assert took < STOPPED_WITHIN_SECONDS
