"""A copy through the queue, compared with the same rows copied by plain SQL."""

from pathlib import Path
from statistics import median

import pytest

from tests.bench.copies import Copied, gateway_copy, raw_copy, source
from tests.bench.table import Figures, percentile

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ROUNDS = 3
RATIO = 1.5
CANCEL_MS = 50.0
GROWTH = 1.2


async def test_a_copy_is_about_as_fast_as_plain_sql(tmp_path: Path, figures: Figures) -> None:
    large = await source(tmp_path, nodes=100_000, products_per_node=10)
    raw: list[float] = []
    queued: list[Copied] = []
    cancelled: list[Copied] = []
    for _ in range(ROUNDS):
        raw.append(raw_copy(large))
        queued.append(await gateway_copy(large))
        cancelled.append(await gateway_copy(large, cancelling=True))

    figures.add("copy of 100k nodes + 1M associations: plain SQL", _pace(raw, large.rows))
    for case, copies in (("queue otherwise empty", queued), ("during cancellations", cancelled)):
        seconds = [copy.seconds for copy in copies]
        ratios = [took / plain for took, plain in zip(seconds, raw, strict=True)]
        figures.add(f"  through the queue, {case}", _pace(seconds, large.rows))
        figures.add_goal(f"  ratio to plain SQL, {case}", median(ratios), RATIO, "{:.2f}")
        figures.add("  peak memory of the server", f"{max(c.peak_mib for c in copies):.0f} MiB")
    latencies = [seconds * 1000 for copy in cancelled for seconds in copy.cancel_seconds]
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    figures.add(
        f"  cancelJob during a copy, {len(latencies)} requests",
        f"latency p50 {p50:.1f} ms, max {max(latencies):.1f} ms",
    )
    figures.add_goal("  cancelJob during a copy, latency p99", p99, CANCEL_MS, "{:.1f} ms")


async def test_memory_does_not_grow_with_the_tree(tmp_path: Path, figures: Figures) -> None:
    peaks = []
    for nodes in (100_000, 1_000_000):
        original = await source(tmp_path, nodes, products_per_node=1)
        copied = await gateway_copy(original)
        original.path.unlink()
        peaks.append(copied.peak_mib)
        figures.add(
            f"copy of {nodes:,} nodes, one product per node",
            f"peak memory {copied.peak_mib:.0f} MiB, {copied.seconds:.2f} s",
        )
    small, large = peaks
    figures.add_goal("  peak memory, ratio to 100,000 nodes", large / small, GROWTH, "{:.2f}")


def _pace(seconds: list[float], rows: int) -> str:
    took = median(seconds)
    return f"{took:.2f} s, {rows / took:,.0f} rows/s"
