"""Read /metrics, and the difference between two readings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

Figures = Mapping[str, float]
"""Values by series, as they are written."""


def families(text: str) -> list[Metric]:
    """What Prometheus makes of the answer."""
    return list(text_string_to_metric_families(text))


def figures(text: str) -> dict[str, float]:
    """Each series with its value."""
    return {
        sample.name
        + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in families(text)
        for sample in family.samples
    }


async def scraped(http: httpx.AsyncClient) -> dict[str, float]:
    """The figures now."""
    return figures((await http.get("/metrics")).text)


class Added:
    """What a block has added to the counts."""

    def __init__(self, before: Figures) -> None:
        self.before = before
        self.after: Figures = {}

    def of(self, name: str) -> dict[str, float]:
        """By labels, for those series of that name that grew."""
        return {
            series.removeprefix(f"jobs_gateway_{name}").strip(): value - self.before.get(series, 0)
            for series, value in self.after.items()
            if series.split(" ")[0] == f"jobs_gateway_{name}"
            and value != self.before.get(series, 0)
        }


@asynccontextmanager
async def adding(http: httpx.AsyncClient) -> AsyncIterator[Added]:
    """Looks before and behind a block."""
    added = Added(await scraped(http))
    yield added
    added.after = await scraped(http)
