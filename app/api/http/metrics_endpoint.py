"""GET /metrics: the figures of this process, and what waits in the whole database."""

import asyncio
import logging
from collections.abc import Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from app.observability.metrics import PREFIX, registry
from app.storage.admin.backlog import QueueBacklog, backlog
from app.storage.engine.database import Database

log = logging.getLogger(__name__)

PERCENTILES = (50, 90, 99, 100)

BACKLOG_SECONDS = 1
"""How long a backlog is shown before another one is asked for."""

PATIENCE_SECONDS = 2
"""How long the database may take to tell it, before the figures go without."""


class MetricsEndpoint:
    """Answers with the figures in the format of Prometheus, or of OpenMetrics to who prefers it.

    However often it is asked, and however long the database takes, it reads once at a time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looking: asyncio.Task[None] | None = None
        self._backlog: QueueBacklog | None = None
        self._looked_at = float("-inf")

    async def show(self, request: Request) -> Response:
        """The figures as of now. A database that is away leaves out its own."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        found = await self._current()
        # Of thousands of series it takes tens of milliseconds, in which others can be answered.
        text = await asyncio.to_thread(encode, _GatewayCollector(found))
        return Response(text, headers={"Content-Type": content_type})

    async def _current(self) -> QueueBacklog | None:
        now = asyncio.get_running_loop().time()
        if self._looking is None and now >= self._looked_at + BACKLOG_SECONDS:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await asyncio.shield(self._looking)
            except TimeoutError:
                return None
        return self._backlog

    async def _look(self) -> None:
        try:
            self._backlog = await self._database.scan(backlog, PERCENTILES)
        except Exception as error:
            log.warning("no figures of what waits: %s", error)
            self._backlog = None
        finally:
            self._looked_at = asyncio.get_running_loop().time()
            self._looking = None


class _GatewayCollector(Collector):
    """One look at all figures."""

    def __init__(self, found: QueueBacklog | None) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        yield from registry.collect()
        yield _gauge(
            "database_up", "Whether the database answered.", float(self._found is not None)
        )
        if self._found is None:
            return
        yield _gauge("queue_depth", "Pending jobs of all stores.", self._found.pending)
        yield _gauge("queue_waiting_lanes", "Stores that have pending jobs.", self._found.lanes)
        ages = GaugeMetricFamily(
            f"{PREFIX}_queue_oldest_pending_age_seconds",
            "How long a store's oldest pending job has waited, by percentile over those stores; "
            "100 is the longest.",
            labels=["percentile"],
        )
        for percentile in PERCENTILES:
            ages.add_metric([str(percentile)], self._found.ages.get(percentile, 0))
        yield ages


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", documentation, value=value)
