"""Hostile load by clients without a token: others wait for no attacker, and memory is bounded.

Figures are reported. Goals are judged with slack (see Figures.check), so that a busy machine fails
no test; everything else is an outcome that does not depend on time.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from websockets.frames import Opcode

from tests.support import attacks
from tests.support.attacks import Attacked, frame
from tests.support.hostile_load import MIB, Figures, attacked, target

pytestmark = pytest.mark.hostile

Report = Callable[[str], None]
Attack = Callable[[str], list[Attacked]]


def figures_of(attack: Attack, folder: Path, report: Report) -> Figures[list[Attacked]]:
    """Attack a new server; report and check its figures."""
    with target(folder) as server:
        figures = attacked(server, attack)
    report(str(figures))
    figures.check()
    return figures


def test_pipelined_requests_without_reads_are_not_stored(tmp_path: Path, report: Report) -> None:
    figures = figures_of(attacks.pipelined_requests, tmp_path, report)
    # Only what fits into buffers is accepted, most of it the kernel's.
    assert sum(connection.sent for connection in figures.outcome) < 48 * MIB


@pytest.mark.parametrize(
    ("repeated", "then"),
    [
        pytest.param(frame(Opcode.PING), b"", id="empty pings"),
        pytest.param(frame(Opcode.PONG), b"", id="empty pongs"),
        pytest.param(frame(Opcode.CONT, fin=False), frame(Opcode.TEXT, b"{", fin=False), id="cont"),
        pytest.param(attacks.MESSAGE_PING, b"", id="ping messages"),
    ],
)
def test_a_flood_of_frames_closes_the_socket_with_1008(
    repeated: bytes, then: bytes, tmp_path: Path, report: Report
) -> None:
    figures = figures_of(partial(attacks.frames, repeated=repeated, then=then), tmp_path, report)
    assert {socket.closed for socket in figures.outcome} == {True}
    # A client that still sends can see a reset before the close frame.
    assert {socket.close_code for socket in figures.outcome} <= {1008, None}


def test_unfinished_bodies_do_not_exhaust_descriptors(tmp_path: Path, report: Report) -> None:
    with target(tmp_path, files=256) as server:
        figures = attacked(server, partial(attacks.unfinished_bodies, connections=300))
    report(str(figures))
    figures.check()
    assert figures.descriptors_peak < 256
    assert any("connections" in line for line in figures.warnings)


def test_idle_connections_do_not_exhaust_descriptors(tmp_path: Path, report: Report) -> None:
    with target(tmp_path, files=256) as server:
        figures = attacked(server, partial(attacks.idle_connections, connections=300))
    report(str(figures))
    figures.check()
    assert figures.descriptors_peak < 256
    assert any("connections" in line for line in figures.warnings)


@pytest.mark.parametrize(
    ("attack", "statuses"),
    [
        # A request without a token may get its 401 before the rest of it is received.
        pytest.param(attacks.endless_trailers, {400, 401}, id="trailers"),
        pytest.param(attacks.endless_chunk_extensions, {400, 401}, id="chunk extensions"),
        pytest.param(attacks.large_heads, {431}, id="heads of 70 KB in one packet"),
    ],
)
def test_bytes_that_are_no_body_are_limited(
    attack: Attack, statuses: set[int], tmp_path: Path, report: Report
) -> None:
    figures = figures_of(attack, tmp_path, report)
    assert {connection.closed for connection in figures.outcome} == {True}
    # A client that still sends can see a reset before the response.
    assert {connection.status for connection in figures.outcome} <= {*statuses, None}
    assert sum(connection.sent for connection in figures.outcome) < 32 * MIB


def test_unfinished_heads_are_bounded_for_all_connections(tmp_path: Path, report: Report) -> None:
    figures_of(partial(attacks.unfinished_heads, connections=2_000), tmp_path, report)


def test_offers_of_http_2_are_ignored_without_a_log_line(tmp_path: Path, report: Report) -> None:
    figures = figures_of(attacks.upgrades, tmp_path, report)
    assert not figures.warnings
    assert figures.outcome[0].status == 401
