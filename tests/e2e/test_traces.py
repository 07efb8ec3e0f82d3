"""Traces as a collector receives them: a job's span in another process is linked to the request,
and spans contain no data of the client."""

import socket
from time import monotonic

import httpx
import pytest

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.support.clients import http_client
from tests.support.databases import NewDatabase
from tests.support.otlp_collector import Collector, collecting
from tests.support.processes import start_server, start_worker

pytestmark = pytest.mark.process

SERVER, CLIENT, CONSUMER = 2, 3, 5
PARENT = "11112222333344445555666677778888", "aaaabbbbccccdddd"
"""The trace and span ids in the client's traceparent header."""

DUPLICATE = """
mutation Copy($id: ID!, $name: String!) {
  duplicateHierarchy(input: {hierarchyId: $id, name: $name}) { job { id } }
}
"""


def traced_by(url: str, service: str, delay: str = "50") -> dict[str, str]:
    """Return the environment of a process that sends spans to `url`, `delay` ms late at most."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_SERVICE_NAME": service,
        "OTEL_BSP_SCHEDULE_DELAY": delay,
    }


def check_request_and_run(
    collector: Collector, response: httpx.Response, job_id: str, route: str
) -> None:
    """Check that the request is in its client's trace, and the job's run in a linked trace."""
    request_id = response.headers["x-request-id"]
    by_request = {"jobs_gateway__request_id": request_id}
    request = collector.wait_for(f"POST {route}", **by_request)
    assert request.service == "traced-gateway"
    assert (request.trace, request.parent) == PARENT
    assert request.kind == SERVER
    assert request.attributes["http.route"] == route
    assert request.attributes["http.response.status_code"] == response.status_code

    run = collector.wait_for("job hierarchy-duplicate", **by_request)
    assert run.service == "traced-worker"
    assert run.kind == CONSUMER
    assert run.attributes["jobs_gateway.job.id"] == job_id
    assert run.attributes["jobs_gateway.job.outcome"] == "success"
    assert run.trace != request.trace
    assert run.parent == ""

    ((linked_trace, linked_span),) = run.links
    inside = [request]
    if route == "/graphql":
        inside.append(collector.wait_for("mutation", **by_request))
        assert inside[-1].parent == request.id
        assert inside[-1].attributes["graphql.operation.name"] == "Copy"
    assert (linked_trace, linked_span) == (request.trace, inside[-1].id)

    insert = next(
        span
        for span in collector.spans
        if span.parent == inside[-1].id
        and span.name == "INSERT"
        and "INTO job " in span.attributes["db.query.text"]
    )
    assert insert.kind == CLIENT
    assert insert.attributes["db.system.name"] == "postgresql"
    copied = [span.name for span in collector.spans if span.parent == run.id]
    assert "INSERT" in copied


async def test_a_request_and_the_run_of_its_job_in_another_process_are_linked(
    new_database: NewDatabase,
) -> None:
    url = new_database("postgresql")
    database = open_database(Settings(database_url=url))
    source = await factories.hierarchy(database, {"a": {"b": {}}}, name="sworn to silence")
    database.close()
    headers = {"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-01"}
    with collecting() as collector:
        # The gateway sends its spans when it stops, or not at all.
        late = traced_by(collector.url, "traced-gateway", delay="600000")
        gateway = start_server(url, "--no-runner", **late)
        worker = start_worker(url, **traced_by(collector.url, "traced-worker"))
        async with http_client(gateway.url, headers=headers) as http:
            await http.get("/readyz")
            variables = {"id": str(source), "name": "not for others"}
            by_graphql = await http.post(
                "/graphql", json={"query": DUPLICATE, "variables": variables}
            )
            job_id = by_graphql.json()["data"]["duplicateHierarchy"]["job"]["id"]
            attributes = {"name": "nor for you", "include_products": True}
            body = {"data": {"type": "hierarchy", "attributes": attributes}}
            by_rest = await http.post(f"/pcm/hierarchies/{source}/duplicate_job", json=body)
            rest_job_id = by_rest.json()["data"]["id"]
        for id in (job_id, rest_job_id):
            collector.wait_for("job hierarchy-duplicate", jobs_gateway__job__id=id)
        assert gateway.stop() == 0
        assert worker.stop() == 0
        check_request_and_run(collector, by_graphql, job_id, "/graphql")
        route = "/pcm/hierarchies/{hierarchy_id}/duplicate_job"
        check_request_and_run(collector, by_rest, rest_job_id, route)
    for secret in (b"sworn to silence", b"not for others", b"nor for you", str(source).encode()):
        assert secret not in collector.raw
    assert b"duplicateHierarchy" not in collector.raw, "a span contains the document"
    assert not [span for span in collector.spans if "readyz" in str(span.attributes)]


def test_a_hanging_collector_delays_no_request_or_stop(new_database: NewDatabase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        gateway = start_server(new_database("sqlite"), **traced_by(url, "unheard"))
        for _ in range(3):
            gateway.post("{ jobs { totalCount } }")
        began = monotonic()
        assert gateway.stop() == 0
        # OpenTelemetry's default would wait for 30 s.
        assert monotonic() - began < 15
