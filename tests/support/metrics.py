"""Read /metrics, and the difference between two readings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

Figures = Mapping[str, float]
"""Values by series: the name, then each label as ` name=value`."""


def families(text: str) -> list[Metric]:
    """Parse the text of /metrics as Prometheus does."""
    return list(text_string_to_metric_families(text))


def figures(text: str) -> dict[str, float]:
    """Return each series of /metrics with its value."""
    return {
        sample.name
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in families(text)
        for sample in family.samples
    }


async def scrape(http: httpx.AsyncClient) -> dict[str, float]:
    """Read the current figures."""
    return figures((await http.get("/metrics")).text)


class Added:
    """The increase of counters during a block."""

    def __init__(self, before: Figures) -> None:
        self.before = before
        self.after: Figures = {}

    def of(self, name: str) -> dict[str, float]:
        """Return the increase per label set, for the series `name` that grew."""
        return {
            series.removeprefix(f"jobs_gateway_{name}").strip(): value - self.before.get(series, 0)
            for series, value in self.after.items()
            if series.split(" ")[0] == f"jobs_gateway_{name}"
            and value != self.before.get(series, 0)
        }


@asynccontextmanager
async def adding(http: httpx.AsyncClient) -> AsyncIterator[Added]:
    """Read the figures before and after a block."""
    added = Added(await scrape(http))
    yield added
    added.after = await scrape(http)
