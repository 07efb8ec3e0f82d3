"""retryJob, cancelJobs, moveJob, pauseQueue, resumeQueue, and jobQueue.hours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from app.api.auth.identity import mint
from app.domain.callers import Scope
from app.domain.jobs import JobStatus, JobType
from app.main import Gateway
from app.queue.dispatcher import Dispatcher
from app.queue.handler import Dependencies
from app.queue.handlers import find_handlers
from app.services import attempts, hierarchies, jobs
from app.services import queue as lanes
from app.services.attempts import Step
from app.services.jobs import Requester
from app.settings import Settings
from app.storage import job_stats
from app.storage import jobs as stored
from app.storage.engine.connect import connect
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.job_stats import JobHour
from app.storage.lanes import claimable_stores
from app.storage.sql.dialects import in_keys_values
from app.storage.tables import Job, JobRow, Lane
from tests import factories
from tests.support.clients import GraphQLClient, http_client
from tests.support.clock import Clock
from tests.support.gateway import gateway_of
from tests.support.rest_client import rest_of
from tests.support.subscriber import JOB_EVENTS, JOB_UPDATES, subscriber

SECRET = "a secret that only these tests know"
OTHER = "other"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
REQUESTER = Requester(factories.STORE, "given", "ada")

ERRORS = """
    errors {
        __typename
        ... on UserError { message path }
        ... on %s { status }
    }
"""
JOB = "id status version queuePosition canCancel canRetry retryOf { id } retriedBy { id }"
RETRY = f"""
    mutation ($id: ID!) {{
        retryJob(input: {{jobId: $id}}) {{ job {{ {JOB} }} replayed {ERRORS % "JobNotRetryable"} }}
    }}
"""
MOVE = f"""
    mutation ($id: ID!) {{
        moveJob(input: {{jobId: $id}}) {{ job {{ {JOB} }} {ERRORS % "JobNotMovable"} }}
    }}
"""
QUEUE = "queue { pending pause { reason at by } running { id } } errors { " + (
    "__typename ... on UserError { message path } }"
)
PAUSE = f"mutation ($input: PauseQueueInput) {{ pauseQueue(input: $input) {{ {QUEUE} }} }}"
RESUME = f"mutation {{ resumeQueue {{ {QUEUE} }} }}"
CANCEL = """
    mutation ($filter: JobFilter!) {
        cancelJobs(input: {filter: $filter}) {
            outcomes {
                job { id status version }
                cancelled
                error { message status path }
            }
            remaining
            errors { __typename ... on UserError { message path } }
        }
    }
"""
QUEUED = """
    query ($first: Int, $after: String, $last: Int, $before: String) {
        queuedJobs(first: $first, after: $after, last: $last, before: $before) {
            nodes { id queuePosition estimatedStartAt }
            edges { cursor }
            pageInfo { hasNextPage hasPreviousPage endCursor startCursor }
            totalCount
        }
    }
"""
OF = f"query ($id: ID!) {{ job(id: $id) {{ {JOB} createdAt updatedAt }} }}"


@pytest.fixture
async def source(idle_gateway: Gateway) -> UUID:
    """A hierarchy to duplicate."""
    return await factories.hierarchy(idle_gateway.database, {"a": {}})


async def queue_duplications(gateway: Gateway, source: UUID, number: int) -> list[str]:
    """Queue `number` duplications; return their ids."""
    return [
        str((await factories.pending_duplication(gateway.database, source)).id)
        for _ in range(number)
    ]


async def fail_next(database: Database, *, store: str = factories.STORE) -> str:
    """Start the next job and let it fail; return its id."""
    claimed = await factories.claimed_job(database, store=store)
    await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
    return str(claimed.id)


async def succeed_next(database: Database) -> str:
    """Start the next job and let it succeed; return its id."""
    claimed = await factories.claimed_job(database)
    await database.write(attempts.succeed, claimed, lambda: attempts.Completion(2))
    return str(claimed.id)


async def retry(client: GraphQLClient, id: object) -> dict[str, Any]:
    payload: dict[str, Any] = (await client.data(RETRY, id=str(id)))["retryJob"]
    return payload


async def move(client: GraphQLClient, id: object) -> dict[str, Any]:
    payload: dict[str, Any] = (await client.data(MOVE, id=str(id)))["moveJob"]
    return payload


async def cancel(client: GraphQLClient, **filter: Any) -> dict[str, Any]:
    payload: dict[str, Any] = (await client.data(CANCEL, filter=filter))["cancelJobs"]
    return payload


async def job(client: GraphQLClient, id: object) -> dict[str, Any]:
    payload: dict[str, Any] = (await client.data(OF, id=str(id)))["job"]
    return payload


async def queued(client: GraphQLClient) -> list[str]:
    """The ids of the pending jobs in queue order, checked against their queue positions."""
    connection = (await client.data(QUEUED, first=100))["queuedJobs"]
    assert connection["totalCount"] == len(connection["nodes"])
    assert [node["queuePosition"] for node in connection["nodes"]] == list(
        range(1, 1 + len(connection["nodes"]))
    )
    return [node["id"] for node in connection["nodes"]]


async def newest_cursor(client: GraphQLClient) -> str:
    """The cursor of the newest event."""
    cursor: str = (await client.data("{ jobQueue { cursor } }"))["jobQueue"]["cursor"]
    return cursor


def refused(payload: dict[str, Any]) -> tuple[str, list[str]]:
    """The type and path of the only error."""
    (error,) = payload["errors"]
    assert error["message"].endswith(".")
    return error["__typename"], error["path"]


async def jobs_in_each_status(gateway: Gateway, source: UUID) -> dict[str, str]:
    """Create a job in each status; return their ids by status."""
    database = gateway.database
    ids = await queue_duplications(gateway, source, 5)
    done, broken = await succeed_next(database), await fail_next(database)
    running = await factories.claimed_job(database)
    await database.write(jobs.cancel, factories.STORE, UUID(ids[3]))
    assert ids[:3] == [done, broken, str(running.id)]
    statuses = ("SUCCESS", "FAILED", "STARTED", "CANCELLED", "PENDING")
    return dict(zip(statuses, ids, strict=True))


NOT_FOUND = ("NotFound", ["input", "jobId"])


@pytest.mark.parametrize("mutation", [retry, move])
async def test_unreadable_jobs_are_refused_as_not_found(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID, mutation: Any
) -> None:
    foreign_source = await factories.hierarchy(idle_gateway.database, {}, store=OTHER)
    pending = [
        await factories.pending_duplication(idle_gateway.database, foreign_source, store=OTHER)
        for _ in range(3)
    ]
    broken = await fail_next(idle_gateway.database, store=OTHER)
    before = await newest_cursor(idle_client)
    for id in (UNKNOWN, source, "no id", "", pending[2].id, broken):
        payload = await mutation(idle_client, id)
        assert payload["job"] is None
        assert refused(payload) == NOT_FOUND
    assert await newest_cursor(idle_client) == before


# retryJob.


async def test_only_a_failed_job_can_be_retried(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    for status, id in (await jobs_in_each_status(idle_gateway, source)).items():
        assert (await job(idle_client, id))["canRetry"] is (status == "FAILED")
        payload = await retry(idle_client, id)
        if status == "FAILED":
            assert payload["errors"] == []
            continue
        assert payload["job"] is None
        assert payload["replayed"] is False
        assert refused(payload) == ("JobNotRetryable", ["input", "jobId"])
        assert payload["errors"][0]["status"] == status


async def test_a_retry_is_a_new_last_job_with_the_same_options(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await factories.pending_duplication(
        database, source, name="Copy", description="", include_products=True
    )
    broken = await fail_next(database)
    (other,) = await queue_duplications(idle_gateway, source, 1)
    seen = await job(idle_client, broken)
    payload = await retry(idle_client, broken)
    again = payload["job"]
    assert again == {
        "id": again["id"],
        "status": "PENDING",
        "version": 1,
        "queuePosition": 2,
        "canCancel": True,
        "canRetry": False,
        "retryOf": {"id": broken},
        "retriedBy": None,
    }
    assert await queued(idle_client) == [other, again["id"]]
    assert await job(idle_client, broken) == {**seen, "retriedBy": {"id": again["id"]}}

    def rows(tx: Transaction) -> list[JobRow]:
        jobs_by_id = stored.by_ids(tx, factories.STORE, [UUID(broken), UUID(again["id"])])
        return [jobs_by_id[UUID(broken)], jobs_by_id[UUID(again["id"])]]

    first, second = await database.read(rows)
    for name in ("type", "args", "subject_id", "items"):
        assert getattr(first, name) == getattr(second, name), name
    assert second.created_at >= first.created_at
    assert second.request_id != first.request_id


async def test_a_retry_is_replayed_unless_it_failed_or_was_cancelled(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await queue_duplications(idle_gateway, source, 1)
    broken = await fail_next(database)

    async def check_retry(*, replayed: bool) -> str:
        payload = await retry(idle_client, broken)
        assert payload["errors"] == []
        assert payload["replayed"] is replayed
        id: str = payload["job"]["id"]
        assert (await job(idle_client, broken))["retriedBy"] == {"id": id}
        return id

    first = await check_retry(replayed=False)
    end = await newest_cursor(idle_client)
    assert await check_retry(replayed=True) == first
    assert await newest_cursor(idle_client) == end
    claimed = await factories.claimed_job(database)
    assert await check_retry(replayed=True) == first
    await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
    second = await check_retry(replayed=False)
    await database.write(jobs.cancel, factories.STORE, UUID(second))
    third = await check_retry(replayed=False)
    assert await succeed_next(database) == third
    assert await check_retry(replayed=True) == third
    assert len({first, second, third}) == 3
    # The first retry failed, so retriedBy now points to a later one.
    assert (await job(idle_client, first))["retriedBy"] is None


async def test_a_job_whose_retry_was_retried_returns_that_retry(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await queue_duplications(idle_gateway, source, 1)
    broken = await fail_next(database)
    await retry(idle_client, broken)
    last = await retry(idle_client, await fail_next(database))

    again = await retry(idle_client, broken)

    assert again["replayed"]
    assert again["job"]["id"] == last["job"]["id"]


async def test_concurrent_retries_create_one_job(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await queue_duplications(idle_gateway, source, 1)
    broken = await fail_next(idle_gateway.database)
    payloads = await asyncio.gather(*(retry(idle_client, broken) for _ in range(8)))
    assert len({payload["job"]["id"] for payload in payloads}) == 1
    assert sorted(payload["replayed"] for payload in payloads) == [False] + 7 * [True]


async def test_a_job_with_a_deleted_source_cannot_be_retried(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await queue_duplications(idle_gateway, source, 1)
    broken = await fail_next(idle_gateway.database)
    await idle_gateway.database.write(hierarchies.delete, factories.STORE, source)
    payload = await retry(idle_client, broken)
    assert payload["job"] is None
    assert refused(payload) == NOT_FOUND
    assert str(source) in payload["errors"][0]["message"]
    assert await queued(idle_client) == []


async def test_a_job_of_a_type_without_a_source_can_be_retried(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    await factories.pending_job(idle_gateway.database, JobType.PRODUCT_EXPORT)
    payload = await retry(idle_client, await fail_next(idle_gateway.database))
    assert payload["errors"] == []
    assert await queued(idle_client) == [payload["job"]["id"]]


async def test_only_the_newest_of_many_retries_is_read(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await queue_duplications(idle_gateway, source, 1)
    broken = await fail_next(idle_gateway.database)
    for _ in range(5):
        newest = (await retry(idle_client, broken))["job"]["id"]
        await fail_next(idle_gateway.database)
    database = idle_gateway.database
    (newest_retry,) = (
        await database.read(stored.newest_retries, factories.STORE, [UUID(broken)])
    ).values()
    assert str(newest_retry.id) == newest
    keys = in_keys_values(database.url.get_backend_name(), [UUID(broken)])
    assert await database.read(stored._RETRIES.rows, keys) == [newest_retry]


async def test_a_retry_outlives_the_retried_job(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await queue_duplications(idle_gateway, source, 1)
    broken = await fail_next(idle_gateway.database)
    again = (await retry(idle_client, broken))["job"]["id"]

    def delete(tx: Transaction) -> None:
        row = stored.by_id(tx, factories.STORE, UUID(broken))
        assert row
        assert row.pk
        stored.delete(tx, [row.pk])

    await idle_gateway.database.write(delete)
    assert (await job(idle_client, again))["retryOf"] is None


# cancelJobs.


async def test_cancel_jobs_cancels_a_hundred_jobs_at_a_time_in_order_of_creation(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await queue_duplications(idle_gateway, source, 205)
    # In order of creation, even for a job that was moved to the front.
    await move(idle_client, ids[150])
    end = await newest_cursor(idle_client)
    cancelled: list[str] = []
    remaining = []
    for _ in range(3):
        payload = await cancel(idle_client, status=["PENDING"])
        assert all(outcome["cancelled"] for outcome in payload["outcomes"])
        assert {outcome["job"]["status"] for outcome in payload["outcomes"]} == {"CANCELLED"}
        assert {outcome["error"] is None for outcome in payload["outcomes"]} == {True}
        cancelled += [outcome["job"]["id"] for outcome in payload["outcomes"]]
        remaining.append(payload["remaining"])
    assert cancelled == ids
    assert remaining == [105, 5, 0]
    async with subscriber(idle_gateway.url) as connected:
        events = await (await connected.subscribe(JOB_EVENTS, after=end)).take(205)
    assert [(event["type"], event["job"]["id"]) for event in events] == [
        ("CANCELLED", id) for id in ids
    ]
    assert (await cancel(idle_client, status=["PENDING"])) == {
        "outcomes": [],
        "remaining": 0,
        "errors": [],
    }


async def test_jobs_that_cannot_be_cancelled_are_listed_after_those_that_can(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await jobs_in_each_status(idle_gateway, source)
    payload = await cancel(idle_client, status=list(ids))
    outcomes = [
        (
            outcome["job"]["id"],
            outcome["cancelled"],
            outcome["error"] and outcome["error"]["status"],
        )
        for outcome in payload["outcomes"]
    ]
    assert outcomes == [
        (ids["PENDING"], True, None),
        *((id, False, status) for status, id in ids.items() if status != "PENDING"),
    ]
    assert {outcome["error"]["message"] for outcome in payload["outcomes"][1:]} == {
        f"Only a pending job can be cancelled; this one is {status.value}."
        for status in JobStatus
        if status is not JobStatus.PENDING
    }
    assert payload["remaining"] == 0


async def test_without_a_status_filter_only_unfinished_jobs_match(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await jobs_in_each_status(idle_gateway, source)
    for filter in ({}, {"status": None}):
        payload = await cancel(idle_client, **filter)
        waiting = [ids["PENDING"]] if filter == {} else []
        assert [outcome["job"]["id"] for outcome in payload["outcomes"]] == [
            *waiting,
            ids["STARTED"],
        ]


async def test_repeated_calls_cancel_all_pending_jobs_even_if_other_jobs_match(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await queue_duplications(idle_gateway, source, 120)
    for _ in range(110):
        await fail_next(database)
    await queue_duplications(idle_gateway, source, 195)
    statuses = ["FAILED", "PENDING", "CANCELLED"]
    remaining, calls = None, 0
    while remaining != 0:
        payload = await cancel(idle_client, status=statuses)
        assert len(payload["outcomes"]) == 100
        assert payload["outcomes"][0]["cancelled"]
        remaining, calls = payload["remaining"], calls + 1
    assert calls == 3
    assert (await queued(idle_client)) == []


async def test_every_filter_field_selects_jobs_to_cancel(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    another = await factories.hierarchy(database, {})
    first, second = await queue_duplications(idle_gateway, source, 2)
    (third,) = await queue_duplications(idle_gateway, another, 1)
    export = str((await factories.pending_job(database, JobType.PRODUCT_EXPORT)).id)
    foreign_source = await factories.hierarchy(database, {}, store=OTHER)
    foreign = await factories.pending_duplication(database, foreign_source, store=OTHER)
    times = {id: (await job(idle_client, id))["createdAt"] for id in (first, third)}

    async def cancelled(**filter: Any) -> list[str]:
        payload = await cancel(idle_client, **filter)
        assert payload["errors"] == []
        return [outcome["job"]["id"] for outcome in payload["outcomes"] if outcome["cancelled"]]

    assert await cancelled(status=[]) == []
    assert await cancelled(status=["STARTED", "FAILED"]) == []
    assert await cancelled(hierarchyId=str(foreign_source)) == []
    assert await cancelled(hierarchyId="no id") == []
    assert await cancelled(createdBefore=times[first]) == []
    assert await cancelled(hierarchyId=str(source), type=["PRODUCT_EXPORT"]) == []
    assert await cancelled(type=["PRODUCT_EXPORT", "PRICE_IMPORT"]) == [export]
    assert await cancelled(hierarchyId=str(another), createdBefore=times[third]) == []
    assert await cancelled(hierarchyId=str(source), createdAfter=times[first]) == [second]
    assert await cancelled(hierarchyId=str(another)) == [third]
    assert await cancelled() == [first]
    (foreign_job,) = (await database.read(stored.by_ids, OTHER, [foreign.id])).values()
    assert foreign_job.status is JobStatus.PENDING


# moveJob.


async def test_a_moved_job_runs_next_and_keeps_its_creation_time(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    ids = await queue_duplications(idle_gateway, source, 4)
    before = await job(idle_client, ids[2])
    listed = "{ jobs(orderBy: CREATED_AT_ASC) { nodes { id createdAt } } jobQueue { pending } }"
    by_age = await idle_client.data(listed)
    payload = await move(idle_client, ids[2])
    assert payload["errors"] == []
    assert payload["job"]["queuePosition"] == 1
    assert payload["job"]["version"] == before["version"] + 1
    assert await queued(idle_client) == [ids[2], ids[0], ids[1], ids[3]]
    assert (await job(idle_client, ids[2]))["createdAt"] == before["createdAt"]
    assert await idle_client.data(listed) == by_age
    assert str((await factories.claimed_job(database)).id) == ids[2]
    assert await queued(idle_client) == [ids[0], ids[1], ids[3]]


async def test_the_last_moved_job_runs_next_and_new_jobs_run_last(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    a, b, c, d = await queue_duplications(idle_gateway, source, 4)
    for id in (c, d, b, c):
        await move(idle_client, id)
    (e,) = await queue_duplications(idle_gateway, source, 1)
    order = [c, b, d, a, e]
    assert await queued(idle_client) == order
    ran = [str(await factories.ran_job(idle_gateway.database)) for _ in order]
    assert ran == order


async def test_queued_jobs_are_paged_in_queue_order_in_both_directions(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await queue_duplications(idle_gateway, source, 7)
    for id in (ids[5], ids[3], ids[6]):
        await move(idle_client, id)
    order = [ids[6], ids[3], ids[5], ids[0], ids[1], ids[2], ids[4]]
    forward: list[str] = []
    page: dict[str, Any] = {"first": 2}
    while True:
        connection = (await idle_client.data(QUEUED, **page))["queuedJobs"]
        forward += [node["id"] for node in connection["nodes"]]
        assert connection["totalCount"] == 7
        if not connection["pageInfo"]["hasNextPage"]:
            break
        page["after"] = connection["pageInfo"]["endCursor"]
    assert forward == order
    backward: list[str] = []
    page = {"last": 3}
    while True:
        connection = (await idle_client.data(QUEUED, **page))["queuedJobs"]
        backward = [node["id"] for node in connection["nodes"]] + backward
        if not connection["pageInfo"]["hasPreviousPage"]:
            break
        page["before"] = connection["pageInfo"]["startCursor"]
    assert backward == order


async def test_only_a_pending_job_can_be_moved(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await jobs_in_each_status(idle_gateway, source)
    end = await newest_cursor(idle_client)
    for status, id in ids.items():
        payload = await move(idle_client, id)
        assert payload["job"]["id"] == id
        assert payload["job"]["status"] == status
        if status != "PENDING":
            assert refused(payload) == ("JobNotMovable", ["input", "jobId"])
            assert payload["errors"][0]["status"] == status
    # The only pending job is already first, so moving it adds no event.
    assert await newest_cursor(idle_client) == end


async def test_moving_the_first_job_changes_nothing(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    first, second = await queue_duplications(idle_gateway, source, 2)
    for id in (first, second):
        await move(idle_client, id)
        end, before = await newest_cursor(idle_client), await job(idle_client, id)
        payload = await move(idle_client, id)
        assert payload["errors"] == []
        assert payload["job"]["version"] == before["version"]
        assert await newest_cursor(idle_client) == end
        assert await job(idle_client, id) == before


async def test_live_and_resumed_subscriptions_deliver_moves(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    _, second = await queue_duplications(idle_gateway, source, 2)
    end = await newest_cursor(idle_client)
    async with subscriber(idle_gateway.url) as connected:
        live = await connected.subscribe(JOB_EVENTS)
        updates = await connected.subscribe(JOB_UPDATES, id=second)
        assert (await anext(updates))["type"] == "SNAPSHOT"
        # After this event the subscription is known to be live.
        (third,) = await queue_duplications(idle_gateway, source, 1)
        assert (await anext(live))["job"]["id"] == third
        await move(idle_client, second)
        moved = await anext(live)
        assert (moved["type"], moved["previousStatus"]) == ("MOVED", None)
        assert moved["job"]["id"] == second
        assert moved["job"]["status"] == "PENDING"
        assert moved["job"]["queuePosition"] == 1
        assert await anext(updates) == moved
        resumed = await connected.subscribe(JOB_EVENTS, after=end)
        created, again = await resumed.take(2)
        assert (created["type"], again) == ("CREATED", moved)
        # After the cursor of the move only later events are delivered.
        await factories.claimed_job(idle_gateway.database)
        later = await connected.subscribe(JOB_EVENTS, after=moved["cursor"])
        started = await anext(later)
        assert (started["type"], started["job"]["id"]) == ("STARTED", second)
        assert started["previousStatus"] == "PENDING"


async def test_rest_lists_jobs_by_creation_time_after_moves_too(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await queue_duplications(idle_gateway, source, 3)
    async with rest_of(idle_gateway) as rest:

        async def listed() -> list[tuple[str, str]]:
            jobs = (await rest.send("GET", "/jobs")).json()["data"]
            return [(job["id"], job["attributes"]["created_at"]) for job in jobs]

        before = await listed()
        assert [id for id, _ in before] == list(reversed(ids))
        await move(idle_client, ids[2])
        await move(idle_client, ids[1])
        assert await listed() == before


# pauseQueue and resumeQueue.


async def test_a_pause_has_a_time_and_a_reason_and_lasts_until_resumed(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await queue_duplications(idle_gateway, source, 2)
    read = "{ jobQueue { pending pause { reason at by } } }"
    assert (await idle_client.data(read))["jobQueue"] == {"pending": 2, "pause": None}
    began = datetime.now(UTC) - timedelta(seconds=1)
    payload = (await idle_client.data(PAUSE, input={"reason": " Stocktaking "}))["pauseQueue"]
    assert payload["errors"] == []
    pause = payload["queue"]["pause"]
    assert (pause["reason"], pause["by"]) == (" Stocktaking ", None)
    assert began <= datetime.fromisoformat(pause["at"]) <= datetime.now(UTC)
    assert (await idle_client.data(read))["jobQueue"] == {"pending": 2, "pause": pause}
    for input, reason in (
        ({"reason": "r" * 1000}, "r" * 1000),
        ({"reason": None}, None),
        ({"reason": "again"}, "again"),
        ({}, None),
        (None, None),
    ):
        payload = (await idle_client.data(PAUSE, input=input))["pauseQueue"]
        assert payload["queue"]["pause"] == {**pause, "reason": reason}
    payload = await idle_client.data("mutation { pauseQueue { queue { pause { at } } } }")
    assert payload["pauseQueue"]["queue"]["pause"] == {"at": pause["at"]}
    for _ in range(2):
        payload = (await idle_client.data(RESUME))["resumeQueue"]
        assert payload == {"queue": {"pending": 2, "pause": None, "running": None}, "errors": []}


@pytest.mark.parametrize("reason", ["", "  \t\u2003\u200b", "r" * 1001, "a\0b"])
async def test_a_blank_or_too_long_reason_is_refused(
    idle_client: GraphQLClient, reason: str
) -> None:
    payload = (await idle_client.data(PAUSE, input={"reason": reason}))["pauseQueue"]
    assert payload["queue"] is None
    assert refused(payload) == ("InvalidInput", ["input", "reason"])
    read = "{ jobQueue { pause { at } } }"
    assert (await idle_client.data(read))["jobQueue"]["pause"] is None


async def test_a_paused_queue_starts_no_job_and_has_no_estimates(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    first, *rest = await queue_duplications(idle_gateway, source, 4)
    assert str(await factories.ran_job(database)) == first
    estimates = "{ queuedJobs { nodes { estimatedStartAt } } }"

    async def start_times() -> list[Any]:
        data = await idle_client.data(estimates)
        return [node["estimatedStartAt"] for node in data["queuedJobs"]["nodes"]]

    assert None not in await start_times()
    await database.write(lanes.pause, REQUESTER, None)
    assert await start_times() == [None] * 3
    assert (await move(idle_client, rest[2]))["errors"] == []
    assert await database.write(attempts.claim, factories.STORE, uuid4(), factories.LEASE) is None
    assert await database.read(claimable_stores) == []
    # Jobs can still be created, moved and cancelled.
    (late,) = await queue_duplications(idle_gateway, source, 1)
    await database.write(jobs.cancel, factories.STORE, UUID(rest[0]))
    assert await queued(idle_client) == [rest[2], rest[1], late]
    await database.write(lanes.resume, factories.STORE)
    assert None not in await start_times()
    assert await database.read(claimable_stores) == [factories.STORE]
    assert str((await factories.claimed_job(database)).id) == rest[2]


async def test_a_running_job_continues_and_is_taken_over_while_paused(
    clocked_database: Database, clock: Clock
) -> None:
    database = clocked_database
    source = await factories.hierarchy(database, {"a": {}})
    running, waiting = [await factories.pending_duplication(database, source) for _ in range(2)]
    claimed = await factories.claimed_job(database)
    await database.write(lanes.pause, REQUESTER, "Stocktaking")
    claimed = await database.write(attempts.advance, claimed, lambda: Step({}, 1, 2))
    await database.write(attempts.heartbeat, claimed, factories.LEASE)
    # Its process dies.
    clock.advance(factories.LEASE)
    assert await database.read(claimable_stores) == [factories.STORE]
    taken_over = await factories.claimed_job(database)
    assert taken_over.id == running.id
    await database.write(attempts.release, taken_over)
    again = await factories.claimed_job(database)
    assert again.id == running.id
    await database.write(attempts.succeed, again, lambda: attempts.Completion(1))
    assert await database.read(claimable_stores) == []
    assert await database.write(attempts.claim, factories.STORE, uuid4(), factories.LEASE) is None
    await database.write(lanes.resume, factories.STORE)
    assert (await factories.claimed_job(database)).id == waiting.id


async def test_a_pause_affects_only_its_own_store(idle_gateway: Gateway) -> None:
    database = idle_gateway.database
    for store in (factories.STORE, OTHER):
        source = await factories.hierarchy(database, {}, store=store)
        await factories.pending_duplication(database, source, store=store)
    await database.write(lanes.pause, REQUESTER, None)
    await database.write(lanes.resume, OTHER)
    assert await database.read(claimable_stores) == [OTHER]
    await factories.claimed_job(database, store=OTHER)
    assert await database.read(claimable_stores) == []


@asynccontextmanager
async def dispatching(database: Database) -> AsyncIterator[None]:
    """Run the real dispatcher, polling once per hour, so that it only reacts to wake-ups."""
    dispatcher = Dispatcher(database, find_handlers(Dependencies(database)), poll=3600)
    database.on_commit(dispatcher.wake)
    running = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        await running


@asynccontextmanager
async def listening(url: str, notifier: Database) -> AsyncIterator[Database]:
    """The database of another process, once it receives the notifications of `notifier`."""
    other, connected = connect(url), asyncio.Event()
    other.on_commit(lambda stores: connected.set() if "hello" in stores else None)
    listener = asyncio.create_task(other.listen())
    try:
        while not connected.is_set():
            await notifier.write(lanes.resume, "hello")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await connected.wait()
        yield other
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        other.close()


@pytest.mark.timeout(60)
async def test_a_resumed_queue_starts_immediately(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await idle_client.data(PAUSE, input=None)
    async with dispatching(idle_gateway.database), subscriber(idle_gateway.url) as connected:
        (id,) = await queue_duplications(idle_gateway, source, 1)
        updates = await connected.subscribe(JOB_UPDATES, id=id)
        assert (await anext(updates))["type"] == "SNAPSHOT"
        await idle_client.data(RESUME)
        types = [event["type"] async for event in updates if event["type"] != "PROGRESS"]
    assert types == ["STARTED", "SUCCEEDED"]


@pytest.mark.timeout(60)
async def test_a_dispatcher_of_another_process_starts_a_resumed_queue_immediately(
    new_database: Any,
) -> None:
    settings = Settings(database_url=new_database("postgresql"), port=0, runner=False)
    async with (
        gateway_of(settings) as gateway,
        subscriber(gateway.url) as connected,
        http_client(gateway.url) as http,
        listening(settings.database_url, gateway.database) as other,
    ):
        client = GraphQLClient(http)
        source = await factories.hierarchy(gateway.database, {"a": {}})
        await client.data(PAUSE, input=None)
        (id,) = await queue_duplications(gateway, source, 1)
        async with dispatching(other):
            updates = await connected.subscribe(JOB_UPDATES, id=id)
            await anext(updates)
            await client.data(RESUME)
            types = [event["type"] async for event in updates if event["type"] != "PROGRESS"]
    assert types == ["STARTED", "SUCCEEDED"]


async def test_a_pause_survives_a_restart(settings: Settings) -> None:
    async with gateway_of(settings) as gateway:
        source = await factories.hierarchy(gateway.database, {"a": {}})
        await gateway.database.write(lanes.pause, REQUESTER, "Stocktaking")
        await queue_duplications(gateway, source, 1)
    async with (
        gateway_of(settings) as gateway,
        http_client(gateway.url) as http,
        subscriber(gateway.url) as connected,
    ):
        client = GraphQLClient(http)
        read = "{ jobQueue { cursor running { id } pause { reason by } } }"
        queue = (await client.data(read))["jobQueue"]
        assert queue["pause"] == {"reason": "Stocktaking", "by": "ada"}
        assert queue["running"] is None
        events = await connected.subscribe(JOB_EVENTS, after=queue["cursor"])
        # Had the job started, its STARTED event would come first.
        payload = await cancel(client)
        assert [outcome["cancelled"] for outcome in payload["outcomes"]] == [True]
        assert (await anext(events))["type"] == "CANCELLED"


# Scopes.


async def test_each_queue_mutation_requires_its_scopes(new_database: Any) -> None:
    settings = Settings(
        database_url=new_database("sqlite"), port=0, jwt_secret=SecretStr(SECRET), runner=False
    )
    async with gateway_of(settings) as gateway:
        source = await factories.hierarchy(gateway.database, {"a": {}})
        ids = await jobs_in_each_status(gateway, source)

        @asynccontextmanager
        async def client(*scopes: Scope) -> AsyncIterator[GraphQLClient]:
            token = mint(
                SECRET,
                issuer="jobs-gateway",
                audience="jobs-gateway",
                subject="ada",
                store=factories.STORE,
                organization=False,
                scopes=scopes,
                lifetime=timedelta(hours=1),
            )
            headers = {"Authorization": f"Bearer {token}"}
            async with http_client(gateway.url, headers=headers) as http:
                yield GraphQLClient(http)

        errors = "{ errors { __typename ... on UserError { message path } } }"
        mutations = {
            f'retryJob(input: {{jobId: "{ids["FAILED"]}"}})': "hierarchies:write",
            "cancelJobs(input: {filter: {}})": "jobs:write",
            f'moveJob(input: {{jobId: "{ids["PENDING"]}"}})': "jobs:write",
            'pauseQueue(input: {reason: "?"})': "jobs:write",
            "resumeQueue": "jobs:write",
        }
        before = await gateway.database.read(_rows)
        reader = [Scope.JOBS_READ, Scope.HIERARCHIES_WRITE]
        for scopes in ([Scope.JOBS_READ], reader, [Scope.JOBS_WRITE]):
            async with client(*scopes) as caller:
                for mutation, needed in mutations.items():
                    if scopes == [Scope.JOBS_WRITE] and needed != "hierarchies:write":
                        continue
                    data = await caller.data(f"mutation {{ done: {mutation} {errors} }}")
                    assert [e["__typename"] for e in data["done"]["errors"]] == ["Forbidden"]
                    # The scopes of its type are known once retryJob may read the job.
                    missing = needed if Scope.JOBS_WRITE in scopes else "jobs:write"
                    assert missing in data["done"]["errors"][0]["message"]
        assert await gateway.database.read(_rows) == before
        async with client(Scope.HIERARCHIES_WRITE) as caller:
            for query in ("{ queuedJobs { totalCount } }", "{ jobQueue { hours { pending } } }"):
                assert (await caller.refusal(query))["extensions"]["code"] == "FORBIDDEN"
        async with client(Scope.JOBS_WRITE) as caller:
            query = f'{{ duplicationDiff(jobId: "{ids["SUCCESS"]}") {{ changed }} }}'
            assert (await caller.refusal(query))["extensions"]["code"] == "FORBIDDEN"
            paused = await caller.data(f"mutation {{ pauseQueue {{ {QUEUE} }} }}")
            assert paused["pauseQueue"]["queue"]["pause"]["by"] == "ada"


def _rows(tx: Transaction) -> list[Any]:
    return [*tx.rows(sa.select(Job.__table__)), *tx.rows(sa.select(Lane.__table__))]  # type: ignore[attr-defined]


# jobQueue.hours.

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAST = timedelta(microseconds=1)


async def fill(
    database: Database, clock: Clock, *rows: tuple[datetime, JobStatus, float | None]
) -> None:
    """Insert jobs by creation time, status and run time in seconds (None: not started)."""
    for at, status, seconds in rows:
        clock.now = at
        job = await factories.pending_job(database, JobType.PRODUCT_EXPORT)
        values: dict[str, Any] = {"status": status}
        if seconds is not None:
            values["started_at"] = at + timedelta(seconds=1)
            values["completed_at"] = values["started_at"] + timedelta(seconds=seconds)
        await database.write(partial(stored.update, job=job, **values))


async def hours_of(database: Database, number: int, store: str = factories.STORE) -> list[JobHour]:
    return await database.read(job_stats.by_hour, store, number)


async def test_each_hour_counts_its_jobs_by_current_status(
    clocked_database: Database, clock: Clock
) -> None:
    database = clocked_database
    await fill(
        database,
        clock,
        (NOON - 4 * HOUR - LAST, JobStatus.SUCCESS, 999.0),
        (NOON - 3 * HOUR - LAST, JobStatus.FAILED, 10.0),
        (NOON - 3 * HOUR, JobStatus.SUCCESS, 0.25),
        (NOON - 3 * HOUR + timedelta(minutes=30), JobStatus.FAILED, 3600.75),
        (NOON - 2 * HOUR - LAST, JobStatus.CANCELLED, None),
        (NOON - HOUR, JobStatus.STARTED, None),
        (NOON, JobStatus.PENDING, None),
        (NOON + HOUR - LAST, JobStatus.PENDING, None),
    )
    source = await factories.hierarchy(database, {}, store=OTHER)
    await factories.pending_duplication(database, source, store=OTHER)
    expected = [
        (NOON - 4 * HOUR, {JobStatus.FAILED: 1}, 10.0, 10.0),
        (
            NOON - 3 * HOUR,
            {JobStatus.SUCCESS: 1, JobStatus.FAILED: 1, JobStatus.CANCELLED: 1},
            1800.5,
            3600.75,
        ),
        (NOON - 2 * HOUR, {}, None, None),
        (NOON - HOUR, {JobStatus.STARTED: 1}, None, None),
        (NOON, {JobStatus.PENDING: 2}, None, None),
    ]
    for clock.now in (NOON + HOUR - LAST, NOON + HOUR / 2, NOON + HOUR - LAST):
        hours = await hours_of(database, 5)
        assert [(hour.begins, hour.counts) for hour in hours] == [
            (begins, counts) for begins, counts, *_ in expected
        ]
        for hour, (_, _, average, longest) in zip(hours, expected, strict=True):
            assert hour.average_seconds == pytest.approx(average, abs=0.002)
            assert hour.longest_seconds == pytest.approx(longest, abs=0.002)
    assert [hour.counts for hour in await hours_of(database, 1)] == [{JobStatus.PENDING: 2}]
    # The next hour starts empty.
    clock.now = NOON + HOUR
    (*before, now) = await hours_of(database, 5)
    assert (now.begins, now.counts) == (NOON + HOUR, {})
    assert [hour.begins for hour in before] == [begins for begins, *_ in expected[1:]]
    assert [hour.counts for hour in before] == [counts for _, counts, *_ in expected[1:]]
    assert [hour.counts for hour in await hours_of(database, 3, OTHER)] == [
        {},
        {JobStatus.PENDING: 1},
        {},
    ]


async def test_jobs_created_at_the_first_or_last_millisecond_belong_to_the_hour(
    clocked_database: Database, clock: Clock
) -> None:
    begins = [NOON + HOUR * number for number in range(50)]
    for first in begins:
        ends = first + HOUR - timedelta(milliseconds=1)
        await fill(
            clocked_database,
            clock,
            (first, JobStatus.SUCCESS, 0.0),
            (ends, JobStatus.CANCELLED, None),
        )
    hours = await hours_of(clocked_database, 50)
    assert [hour.begins for hour in hours] == begins
    each = {JobStatus.SUCCESS: 1, JobStatus.CANCELLED: 1}
    assert [hour.counts for hour in hours] == [each] * 50


async def test_after_a_clock_reversal_later_jobs_are_not_counted(
    clocked_database: Database, clock: Clock
) -> None:
    await fill(clocked_database, clock, (NOON, JobStatus.SUCCESS, 1.0))
    clock.now = NOON - 2 * HOUR
    assert [hour.counts for hour in await hours_of(clocked_database, 2)] == [{}, {}]


@pytest.mark.parametrize("number", [1, 24, 168])
async def test_the_requested_number_of_hours_is_returned(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID, number: int
) -> None:
    database = idle_gateway.database
    await queue_duplications(idle_gateway, source, 3)
    await factories.ran_job(database)
    fields = "begins pending started success failed cancelled averageSeconds longestSeconds"
    query = f"query ($hours: Int!) {{ jobQueue {{ hours(hours: $hours) {{ {fields} }} }} }}"
    hours = (await idle_client.data(query, hours=number))["jobQueue"]["hours"]
    begins = [datetime.fromisoformat(hour["begins"]) for hour in hours]
    assert begins == [begins[-1] - HOUR * ago for ago in reversed(range(number))]
    assert begins[-1] <= datetime.now(UTC) < begins[-1] + 2 * HOUR
    if number > 1:
        # True even if the hour has ended since their creation.
        assert sum(hour["pending"] for hour in hours) == 2
        assert sum(hour["success"] for hour in hours) == 1
        assert len([hour for hour in hours if hour["longestSeconds"] is not None]) == 1
    if number == 24:
        default = (await idle_client.data(f"{{ jobQueue {{ hours {{ {fields} }} }} }}"))["jobQueue"]
        assert len(default["hours"]) == 24


@pytest.mark.parametrize("number", [0, -1, 169, 2**31 - 1])
async def test_fewer_than_1_or_more_than_168_hours_are_refused(
    idle_client: GraphQLClient, number: int
) -> None:
    refusal = await idle_client.refusal(f"{{ jobQueue {{ hours(hours: {number}) {{ begins }} }} }}")
    assert refusal["message"] == f"hours is {number}; 1 to 168 are allowed."
    assert refusal["extensions"]["code"] == "INVALID_INPUT"


async def test_a_store_without_jobs_has_empty_hours(idle_client: GraphQLClient) -> None:
    query = "{ jobQueue { pending pause { at } hours(hours: 2) { pending averageSeconds } } }"
    assert (await idle_client.data(query))["jobQueue"] == {
        "pending": 0,
        "pause": None,
        "hours": [{"pending": 0, "averageSeconds": None}] * 2,
    }
