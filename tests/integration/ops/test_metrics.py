"""/metrics: names, types and values of its series, without tenant data.

Metrics are per process, and all gateways of this process share them: a test of such a gateway
compares values before and after.
"""

import asyncio
import re
from datetime import timedelta
from math import inf
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from pydantic import SecretStr

from app.api.http.metrics_endpoint import PERCENTILES
from app.domain.jobs import JobType
from app.domain.stores import ORGANIZATION
from app.main import Gateway
from app.queue.handler import Dependencies
from app.queue.handlers import find_handlers
from app.queue.worker import Outcome, Worker
from app.services import attempts, feed, jobs
from app.settings import Settings
from app.storage.admin.backlog import QueueBacklog, queue_backlog
from app.storage.engine.database import Database
from app.storage.jobs import JobFilter
from tests import factories
from tests.oracles.multi_store import (
    OTHER_STORES,
    SECRET,
    populated_multi_store,
    public_ids,
    token_of,
)
from tests.support.clients import GraphQLClient, client_of, http_client
from tests.support.clock import Clock
from tests.support.databases import DATABASES, NewDatabase
from tests.support.gateway import gateway_of
from tests.support.metrics import Figures, adding, families, figures, scrape
from tests.support.processes import start_server, start_worker
from tests.support.subscriber import BEGINNING, JOB_EVENTS, JOB_UPDATES, PROTOCOL, subscriber

BOTH = pytest.mark.parametrize("database_kind", DATABASES, indirect=True)
"""For tests that depend on the kind of database."""

CANCEL = """
mutation Stop($id: ID!) { cancelJob(input: {jobId: $id}) { job { id } errors { __typename } } }
"""
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """SQLite, except for the tests that run on both kinds."""
    kind: str = getattr(request, "param", "sqlite")
    return kind


@pytest.fixture
def idle_gateway(own_gateway: Gateway) -> Gateway:
    """A gateway without a queue, of the test alone: /metrics keeps the figures of the database."""
    return own_gateway


async def test_an_operation_is_counted_by_its_name_and_the_code_of_its_first_error(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    run, http = idle_client.answer, idle_client.http
    async with adding(http) as added:
        await run("query Shown { hierarchies { totalCount } }")
        await run("query Shown { hierarchies { totalCount } }")
        await run("{ __typename }")
        await run(CANCEL, id=str(uuid4()))
        await run('query Lost { jobs(after: "nonsense") { totalCount } }')
        await run("query Invalid { nothing }")
        await run("query {")
        await run("query Shown($n: Int!) { jobs(first: $n) { totalCount } }", n="x")
        await http.post("/graphql", content=b"[")
        await http.get("/graphql", headers={"accept": "image/png"})
        await http.post(
            "/graphql", json=[{"query": "query Part { __typename }"}, {"query": "{ nothing }"}]
        )
    assert added.of("graphql_operations_total") == {
        "code=OK operation=Shown": 2,
        "code=OK operation=anonymous": 1,
        "code=REFUSED operation=Stop": 1,
        "code=INVALID_INPUT operation=Lost": 1,
        "code=GRAPHQL_VALIDATION_FAILED operation=refused": 2,
        "code=GRAPHQL_PARSE_FAILED operation=refused": 1,
        "code=BAD_USER_INPUT operation=refused": 1,
        "code=UNSUPPORTED_MEDIA_TYPE operation=refused": 1,
        "code=NOT_ACCEPTABLE operation=refused": 1,
        "code=OK operation=Part": 1,
    }
    assert added.of("graphql_operation_duration_seconds_count") == {
        "operation=Shown": 2,
        "operation=anonymous": 1,
        "operation=Stop": 1,
        "operation=Lost": 1,
        "operation=Part": 1,
    }
    assert added.of("graphql_transport_operations_total") == {
        "transport=http type=query": 5,
        "transport=http type=mutation": 1,
    }
    assert added.of("resolver_errors_total") == {"code=INVALID_INPUT": 1}


async def test_internal_errors_and_timeouts_are_counted_by_their_codes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = settings.model_copy(update={"runner": False, "max_execution_seconds": 0.2})
    async with gateway_of(limited) as gateway, client_of(gateway) as client:

        async def never(*_: object) -> None:
            await asyncio.get_running_loop().create_future()

        with monkeypatch.context() as patched:
            patched.setattr(gateway.database, "client_read", never)
            async with adding(client.http) as added:
                await client.answer("query Slow { jobs { totalCount } }")
        assert added.of("graphql_operations_total") == {
            "code=EXECUTION_TIME_LIMIT_EXCEEDED operation=Slow": 1
        }

        await gateway.database.write(_lose, "job")
        async with adding(client.http) as added:
            await client.answer("query Broken { jobs { totalCount } }")
    assert added.of("graphql_operations_total") == {
        "code=INTERNAL_SERVER_ERROR operation=Broken": 1
    }
    assert added.of("resolver_errors_total") == {"code=INTERNAL_SERVER_ERROR": 1}


def _lose(tx: Any, table: str) -> None:
    tx.connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO lost_{table}")


async def test_requests_are_counted_by_their_route_template(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    http = idle_client.http
    async with adding(http) as added:
        for _ in range(2):
            await http.get(f"/pcm/hierarchies/{uuid4()}/nodes/{uuid4()}")
        await http.post(f"/pcm/jobs/{uuid4()}/cancel")
        await http.get("/pcm/jobs")
        await http.get(f"/pcm/{uuid4()}")
        await http.get(f"/{uuid4()}")
        await http.request("PROPFIND", "/healthz")
    assert added.of("http_requests_total") == {
        "method=GET route=/pcm/hierarchies/{hierarchy_id}/nodes/{node_id} status=404": 2,
        "method=POST route=/pcm/jobs/{job_id}/cancel status=404": 1,
        "method=GET route=/pcm/jobs status=200": 1,
        "method=GET route=/pcm status=404": 1,
        "method=GET route=none status=404": 1,
        "method=other route=/healthz status=405": 1,
        # The scrape before.
        "method=GET route=/metrics status=200": 1,
    }
    assert added.of("http_request_duration_seconds_count")["route=/pcm/jobs"] == 1


@BOTH
async def test_a_subscription_is_counted_while_open_and_when_it_ends(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database, http = idle_gateway.database, idle_client.http
    source = await factories.hierarchy(database, {})
    job = await factories.pending_duplication(database, source)
    query = JOB_UPDATES.replace("subscription", "subscription Watch")
    before = await scrape(http)
    async with adding(http) as added, subscriber(idle_gateway.url) as connected:
        updates = await connected.subscribe(query, id=str(job.id))
        assert (await anext(updates))["type"] == "SNAPSHOT"
        claimed = await factories.claimed_job(database)
        assert (await anext(updates))["type"] == "STARTED"
        now = await scrape(http)
        assert now["jobs_gateway_subscribers"] == before["jobs_gateway_subscribers"] + 1
        await database.write(attempts.fail, claimed, "X", "x", lambda: None)
        assert [event["type"] for event in await updates.rest()] == ["FAILED"]
        nowhere = await connected.subscribe(query, id=str(uuid4()))
        with pytest.raises(Exception, match="No job"):
            await anext(nowhere)
        assert (await idle_client.http.post(
            "/graphql",
            json={"query": query, "variables": {"id": str(job.id)}},
            headers={"accept": "text/event-stream"},
        )).status_code == 200  # fmt: skip
    assert added.after["jobs_gateway_subscribers"] == before["jobs_gateway_subscribers"]
    assert added.of("graphql_operations_total") == {
        "code=OK operation=Watch": 2,
        "code=NOT_FOUND operation=Watch": 1,
    }
    assert added.of("graphql_transport_operations_total") == {
        "transport=ws type=subscription": 2,
        "transport=sse type=subscription": 1,
    }
    assert added.of("resolver_errors_total") == {"code=NOT_FOUND": 1}
    # The job may have started before the subscriber could receive that event.
    assert added.of("event_lag_seconds_count") in ({"": 1}, {"": 2})
    (lag,) = added.of("event_lag_seconds_sum").values()
    assert lag < 30
    # A subscription's duration is the client's choice, so it is not measured.
    assert added.of("graphql_operation_duration_seconds_count") == {}
    assert added.of("http_request_duration_seconds_count") == {"route=/metrics": 2}


@BOTH
async def test_resumed_and_slow_subscribers_read_the_log_and_are_counted(
    idle_gateway: Gateway, idle_client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, http = idle_gateway.database, idle_client.http
    source = await factories.hierarchy(database, {})
    await factories.pending_duplication(database, source)
    async with adding(http) as added, subscriber(idle_gateway.url) as connected:
        await (await connected.subscribe(JOB_EVENTS, after=BEGINNING)).take(1)
    assert added.of("subscriber_rereads_total") == {"reason=resumed": 1}

    monkeypatch.setattr(feed, "TAIL_EVENTS", 1)
    async with adding(http) as added:
        # A subscriber that reads one event, and the next one only after many more.
        slow_events = await idle_gateway.feed.job_events(factories.STORE, JobFilter(), after=None)
        first = asyncio.ensure_future(anext(slow_events))
        queue = (await idle_client.data("{ jobQueue { cursor } }"))["jobQueue"]
        async with subscriber(idle_gateway.url) as connected:
            # From a cursor, as it may start after further events.
            events = await connected.subscribe(JOB_EVENTS, after=queue["cursor"])
            while not first.done():
                await factories.pending_duplication(database, source)
                await anext(events)
            last = await factories.pending_duplication(database, source)
            for _ in range(3):
                last = await factories.pending_duplication(database, source)
            while (await anext(events))["job"]["id"] != str(last.id):
                pass
            while (await anext(slow_events)).job.id != last.id:
                pass
        await slow_events.aclose()
    assert added.of("subscriber_rereads_total")["reason=fell_behind"] >= 1


async def test_a_client_that_answers_no_pings_is_dropped_and_counted(settings: Settings) -> None:
    limited = settings.model_copy(update={"socket_ping_seconds": 0.2, "runner": False})
    async with gateway_of(limited) as gateway, client_of(gateway) as client:
        address = urlsplit(gateway.url)
        async with adding(client.http) as added:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            head = (
                "GET /graphql HTTP/1.1",
                f"Host: {address.netloc}",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                f"Sec-WebSocket-Protocol: {PROTOCOL}",
            )
            writer.write("".join(f"{line}\r\n" for line in (*head, "")).encode())
            assert (await reader.read()).endswith(b"keepalive ping timeout")
            writer.close()
    assert added.of("clients_dropped_total") == {"": 1}


@BOTH
async def test_jobs_are_counted_by_type_and_outcome_once_they_are_committed(
    gateway: Gateway, client: GraphQLClient
) -> None:
    database, http = gateway.database, client.http
    async with adding(http) as added, subscriber(gateway.url) as connected:
        events = await connected.subscribe(JOB_EVENTS, after=BEGINNING)
        source = await factories.hierarchy(database, {"a": {}})
        await factories.pending_duplication(database, source)
        await factories.pending_job(database, JobType.PRODUCT_EXPORT)
        ends: set[str] = set()
        while ends != {"SUCCEEDED", "FAILED"}:
            if (event := await anext(events))["type"] in ("SUCCEEDED", "FAILED"):
                ends.add(event["type"])
    assert added.of("jobs_ended_total") == {
        "outcome=success type=hierarchy-duplicate": 1,
        "outcome=failed type=product-export": 1,
    }
    assert added.of("job_duration_seconds_count") == {
        "outcome=success type=hierarchy-duplicate": 1,
        "outcome=failed type=product-export": 1,
    }
    assert added.of("takeovers_total") == added.of("fence_refusals_total") == {}


@BOTH
async def test_a_cancelled_job_is_counted_and_a_refused_cancellation_is_not(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database, http = idle_gateway.database, idle_client.http
    source = await factories.hierarchy(database, {})
    first = await factories.pending_duplication(database, source)
    second = await factories.pending_duplication(database, source)

    def undone(tx: Any) -> None:
        jobs.cancel(tx, factories.STORE, second.id)
        raise ZeroDivisionError

    async with adding(http) as added:
        await idle_client.data(CANCEL, id=str(first.id))
        await idle_client.data(CANCEL, id=str(first.id))
        with pytest.raises(ZeroDivisionError):
            await database.write(undone)
        await http.post(f"/pcm/jobs/{second.id}/cancel")
    assert added.of("jobs_ended_total") == {"outcome=cancelled type=hierarchy-duplicate": 2}
    # It never ran.
    assert added.of("job_duration_seconds_count") == {}


@BOTH
async def test_a_takeover_is_counted_only_if_the_worker_was_silent(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database, http = idle_gateway.database, idle_client.http
    source = await factories.hierarchy(database, {"a": {}})
    await factories.pending_duplication(database, source)
    soon = timedelta(0)
    async with adding(http) as added:
        released = await database.write(attempts.claim, factories.STORE, uuid4(), factories.LEASE)
        assert released
        await database.write(attempts.release, released)
        silent = await database.write(attempts.claim, factories.STORE, uuid4(), soon)
    assert silent
    assert added.of("takeovers_total") == {}
    async with adding(http) as added:
        successor = await factories.claimed_job(database)
        worker = Worker(
            database, find_handlers(Dependencies(database)), factories.LEASE, asyncio.Event()
        )
        assert await worker.run(silent) is Outcome.LOST
        assert await worker.run(successor) is Outcome.SUCCEEDED
    assert added.of("takeovers_total") == {"": 1}
    assert added.of("fence_refusals_total") == {"": 1}


@BOTH
async def test_waiting_ages_are_percentiles_over_the_lanes_with_pending_jobs(
    clocked_database: Database, clock: Clock
) -> None:
    assert await clocked_database.scan(queue_backlog, PERCENTILES) == QueueBacklog(0, 0, {})
    for no in range(20):
        await factories.pending_job(clocked_database, JobType.PRODUCT_EXPORT, store=f"store {no}")
        clock.advance(timedelta(seconds=1))
    # The first is not its lane's oldest; the second leaves its lane empty.
    await factories.pending_job(clocked_database, JobType.PRODUCT_EXPORT, store="store 0")
    cancelled = await factories.pending_job(clocked_database, JobType.PRODUCT_EXPORT, store="done")
    await clocked_database.write(jobs.cancel, "done", cancelled.id)
    backlog = await clocked_database.scan(queue_backlog, PERCENTILES)
    assert backlog == QueueBacklog(21, 20, {50: 10, 90: 18, 99: 20, 100: 20})
    # Once the oldest is claimed, the next one's age is that of the lane.
    await factories.claimed_job(clocked_database, store="store 0")
    assert await clocked_database.scan(queue_backlog, (5, 100)) == QueueBacklog(
        20, 20, {5: 0, 100: 19}
    )


async def test_queue_metrics_show_the_current_queue(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    database = idle_gateway.database
    for _ in range(3):
        await factories.pending_job(database, JobType.PRODUCT_EXPORT)
    scraped = await scrape(idle_client.http)
    assert scraped["jobs_gateway_queue_depth"] == 3
    assert scraped["jobs_gateway_queue_waiting_lanes"] == 1
    age = "jobs_gateway_queue_oldest_pending_age_seconds"
    ages = {scraped[f"{age} percentile={percentile}"] for percentile in PERCENTILES}
    assert len(ages) == 1
    assert 0 <= ages.pop() < 60
    assert scraped["jobs_gateway_database_up"] == 1


@BOTH
async def test_process_metrics_remain_while_the_database_fails(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    await idle_gateway.database.write(_lose, "lane")
    _check_process_metrics_only(await scrape(idle_client.http))


async def test_a_hung_database_is_neither_awaited_nor_queried_again(
    idle_gateway: Gateway, idle_client: GraphQLClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = 0

    async def never(*_: object) -> None:
        nonlocal queries
        queries += 1
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("app.api.http.metrics_endpoint.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("app.api.http.metrics_endpoint.BACKLOG_SECONDS", 0)
    monkeypatch.setattr(idle_gateway.database, "scan", never)
    for _ in range(3):
        _check_process_metrics_only(await scrape(idle_client.http))
    assert queries == 1


def _check_process_metrics_only(scraped: Figures) -> None:
    assert scraped["jobs_gateway_database_up"] == 0
    assert not [series for series in scraped if "queue" in series]
    assert scraped["process_resident_memory_bytes"] > 0


async def test_metrics_contain_no_tenant_data(settings: Settings) -> None:
    async with populated_multi_store(settings) as multi_store:
        for store, data in multi_store.store_data.items():
            client = multi_store.client(store)
            names = await client.data("query Named { jobs { nodes { id } } }")
            assert names["jobs"]["nodes"]
            for path in ("jobs", f"hierarchies/{data.hierarchy}/nodes", "hierarchies/lost"):
                await client.answer("GET", f"/pcm/{path}")
            await client.data(f'mutation {{ cancelJob(input: {{jobId: "{data.pending}"}}) '
                              "{ job { id } } }")  # fmt: skip
        text = (await multi_store.http.get("/metrics")).text
        ids = {
            id for store in multi_store.store_data for id in public_ids(multi_store.database, store)
        }
        texts = {sample for family in families(text) for series in family.samples
                 for sample in (*series.labels.values(), repr(series.value))}  # fmt: skip
    assert "Named" in texts
    assert not ids & texts
    assert not ID.search(text)
    for store, data in multi_store.store_data.items():
        assert data.marker not in text
        assert store not in texts
    assert {"alpha", "beta", ORGANIZATION} >= set(OTHER_STORES)
    assert token_of("alpha")[:20] not in text
    assert SECRET not in text


async def test_metrics_follow_the_naming_rules_of_prometheus(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    await idle_client.data("{ __typename }")
    all_families = families((await idle_client.http.get("/metrics")).text)
    ours = [family for family in all_families if family.name.startswith("jobs_gateway_")]
    assert len(ours) > 15
    assert {family.name for family in all_families} - {family.name for family in ours} == {
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_cpu_seconds",
        "process_open_fds",
        "process_max_fds",
    }
    for family in ours:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb)\b", family.name)
        assert not family.name.endswith("_created")
        names = {sample.name for sample in family.samples}
        match family.type:
            case "counter":
                assert names <= {f"{family.name}_total"}
            case "histogram":
                assert family.name.endswith("_seconds")
            case "gauge":
                assert not re.search(r"_(total|count|sum|bucket)$", family.name)
            case other:
                pytest.fail(f"{family.name} is of type {other}")
        for sample in family.samples:
            assert ("le" in sample.labels) == sample.name.endswith("_bucket")
            assert "quantile" not in sample.labels


async def test_buckets_are_cumulative_and_the_last_one_counts_everything(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    await idle_client.data("query Counted { __typename }")
    for family in families((await idle_client.http.get("/metrics")).text):
        if family.type != "histogram":
            continue
        counts = {
            str(sorted(sample.labels.items())): sample.value
            for sample in family.samples
            if sample.name.endswith("_count")
        }
        for labels, count in counts.items():
            buckets = [
                (float(sample.labels["le"]), sample.value)
                for sample in family.samples
                if sample.name.endswith("_bucket")
                and str(sorted((k, v) for k, v in sample.labels.items() if k != "le")) == labels
            ]
            assert buckets == sorted(buckets)
            assert [value for _, value in buckets] == sorted(value for _, value in buckets)
            assert buckets[-1] == (inf, count)


async def test_openmetrics_is_served_on_request(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    plain = await idle_client.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    answer = await idle_client.http.get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    # The library's parser has no type annotations.
    read = list(openmetrics.text_string_to_metric_families(answer.text))  # type: ignore[no-untyped-call]
    assert {"jobs_gateway_queue_depth", "jobs_gateway_http_requests"} <= {
        family.name for family in read
    }


@pytest.mark.process
def test_a_thousand_operation_names_create_no_more_series_than_a_hundred(
    new_database: NewDatabase,
) -> None:
    server = start_server(new_database("sqlite"), "--no-runner")
    with httpx.Client(base_url=server.url, timeout=30, verify=False) as http:
        batch = [{"query": f"query Operation{no} {{ __typename }}"} for no in range(1000)]
        for begin in range(0, 1000, 10):
            answers = http.post("/graphql", json=batch[begin : begin + 10]).json()
            assert all(answer["data"] for answer in answers)
        for name in ("invalid", "lost"):
            http.post("/graphql", json={"query": f"query {name} {{ nothing }}"})
        scraped = figures(http.get("/metrics").text)
    assert server.stop() == 0
    series = [name for name in scraped if name.startswith("jobs_gateway_graphql_operations_total")]
    assert len(series) == 102
    prefix = "jobs_gateway_graphql_operations_total code="
    assert scraped[f"{prefix}OK operation=Operation99"] == 1
    assert scraped[f"{prefix}OK operation=other"] == 900
    assert scraped[f"{prefix}GRAPHQL_VALIDATION_FAILED operation=refused"] == 2
    timed = [name for name in scraped if "operation_duration_seconds_count" in name]
    assert len(timed) == 101
    assert len(scraped) < 2500


@pytest.mark.parametrize(
    ("host", "metrics", "shown"),
    [
        ("127.0.0.1", None, True),
        ("127.0.0.1", False, False),
        ("0.0.0.0", None, False),
        ("0.0.0.0", True, True),
    ],
)
async def test_metrics_are_served_on_loopback_and_elsewhere_only_if_enabled(
    host: str, metrics: bool | None, shown: bool, new_database: NewDatabase
) -> None:
    settings = Settings(
        database_url=new_database("sqlite"),
        port=0,
        host=host,
        metrics=metrics,
        jwt_secret=SecretStr(SECRET),
    )
    async with gateway_of(settings) as gateway:
        port = urlsplit(gateway.url).port
        async with http_client(f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/metrics")).status_code == (200 if shown else 404)


@pytest.mark.process
def test_a_worker_serves_probes_and_metrics_on_its_port_if_set(database_url: str) -> None:
    assert Settings().worker_port is None
    worker = start_worker(database_url, "--worker-port", "0")
    (health,) = [line.split()[1] for line in worker.said if "Health" in line]
    url = health.removesuffix("/healthz")
    assert urlsplit(url).hostname == "127.0.0.1"
    with httpx.Client(base_url=url, timeout=30, verify=False) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/readyz").status_code == 200
        assert figures(http.get("/metrics").text)["jobs_gateway_queue_depth"] == 0
        refused = http.get("/graphql")
        assert refused.status_code == 404
        assert refused.headers["x-content-type-options"] == "nosniff"
    assert worker.stop() == 0
