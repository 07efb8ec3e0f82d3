"""GET /metrics: this process's metrics, and the queue backlog of the database."""

import asyncio
import logging
from collections.abc import Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from app.observability.metrics import PREFIX, registry
from app.storage.admin.backlog import QueueBacklog, queue_backlog
from app.storage.engine.database import Database

log = logging.getLogger(__name__)

PERCENTILES = (50, 90, 99, 100)

BACKLOG_SECONDS = 1
"""Max age of a reported backlog."""

PATIENCE_SECONDS = 2
"""After this time without a backlog the response has only the process's metrics."""


class MetricsEndpoint:
    """Serves metrics in the Prometheus or OpenMetrics format, by the Accept header.

    Concurrent requests share one read of the backlog, so a slow database sees one at a time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading: asyncio.Task[None] | None = None
        self._backlog: QueueBacklog | None = None
        self._read_at = float("-inf")

    async def show(self, request: Request) -> Response:
        """Return the current metrics, without those of an unreachable database."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        backlog = await self._current()
        # In a thread: encoding thousands of series takes tens of milliseconds.
        text = await asyncio.to_thread(encode, _GatewayCollector(backlog))
        return Response(text, headers={"Content-Type": content_type})

    async def _current(self) -> QueueBacklog | None:
        now = asyncio.get_running_loop().time()
        if self._reading is None and now >= self._read_at + BACKLOG_SECONDS:
            self._reading = asyncio.create_task(self._read())
        if self._reading is not None:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await asyncio.shield(self._reading)
            except TimeoutError:
                return None
        return self._backlog

    async def _read(self) -> None:
        try:
            self._backlog = await self._database.scan(queue_backlog, PERCENTILES)
        except Exception as error:
            log.warning("the queue backlog could not be read: %s", error)
            self._backlog = None
        finally:
            self._read_at = asyncio.get_running_loop().time()
            self._reading = None


class _GatewayCollector(Collector):
    """The registry's metrics and those of one backlog, None if the database is unreachable."""

    def __init__(self, backlog: QueueBacklog | None) -> None:
        self._backlog = backlog

    def collect(self) -> Iterator[Metric]:
        yield from registry.collect()
        yield _gauge(
            "database_up", "1 if the database responded, else 0.", float(self._backlog is not None)
        )
        if self._backlog is None:
            return
        yield _gauge("queue_depth", "Pending jobs of all stores.", self._backlog.pending)
        yield _gauge("queue_waiting_lanes", "Stores that have pending jobs.", self._backlog.lanes)
        ages = GaugeMetricFamily(
            f"{PREFIX}_queue_oldest_pending_age_seconds",
            "Age of a store's oldest pending job, by percentile over stores with pending jobs; "
            "100 is the longest.",
            labels=["percentile"],
        )
        for percentile in PERCENTILES:
            ages.add_metric([str(percentile)], self._backlog.ages.get(percentile, 0))
        yield ages


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", documentation, value=value)
