"""The queue, steered: jobs retried, cancelled by the dozen and moved to the front, the queue paused
and resumed, and what is told of its last hours."""

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
from sqlmodel import Session

from app.api.auth.identity import mint
from app.domain.callers import Scope
from app.domain.jobs import JobStatus, JobType
from app.main import Gateway
from app.queue.dispatcher import Dispatcher
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
from app.storage.job_stats import JobHour
from app.storage.lanes import claimable_stores
from app.storage.sql.dialects import in_keys_values
from app.storage.tables import Job, Lane
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


async def asked(gateway: Gateway, source: UUID, number: int) -> list[str]:
    """The ids of so many pending jobs."""
    return [
        str((await factories.pending_duplication(gateway.database, source)).id)
        for _ in range(number)
    ]


async def failed(database: Database, *, store: str = factories.STORE) -> str:
    """The id of the next job, which failed."""
    claimed = await factories.claimed_job(database, store=store)
    await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
    return str(claimed.id)


async def succeeded(database: Database) -> str:
    """The id of the next job, which is done."""
    claimed = await factories.claimed_job(database)
    await database.write(attempts.succeed, claimed, lambda: attempts.JobResult(2))
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
    found: dict[str, Any] = (await client.data(OF, id=str(id)))["job"]
    return found


async def queued(client: GraphQLClient) -> list[str]:
    """The ids of what waits, in the order in which it will run, told once as a list and once by
    each one's place."""
    found = (await client.data(QUEUED, first=100))["queuedJobs"]
    assert found["totalCount"] == len(found["nodes"])
    assert [one["queuePosition"] for one in found["nodes"]] == list(
        range(1, 1 + len(found["nodes"]))
    )
    return [one["id"] for one in found["nodes"]]


async def head(client: GraphQLClient) -> str:
    """The end of the log."""
    cursor: str = (await client.data("{ jobQueue { cursor } }"))["jobQueue"]["cursor"]
    return cursor


def refused(payload: dict[str, Any]) -> tuple[str, list[str]]:
    """Why nothing was done."""
    (error,) = payload["errors"]
    assert error["message"].endswith(".")
    return error["__typename"], error["path"]


async def jobs_in_each_status(gateway: Gateway, source: UUID) -> dict[str, str]:
    """A job in each status."""
    database = gateway.database
    ids = await asked(gateway, source, 5)
    done, broken = await succeeded(database), await failed(database)
    running = await factories.claimed_job(database)
    await database.write(jobs.cancel, factories.STORE, UUID(ids[3]))
    assert ids[:3] == [done, broken, str(running.id)]
    statuses = ("SUCCESS", "FAILED", "STARTED", "CANCELLED", "PENDING")
    return dict(zip(statuses, ids, strict=True))


NOT_FOUND = ("NotFound", ["input", "jobId"])


@pytest.mark.parametrize("mutation", [retry, move])
async def test_what_is_not_the_stores_own_job_is_not_found(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID, mutation: Any
) -> None:
    theirs = await factories.hierarchy(idle_gateway.database, {}, store=OTHER)
    pending = [
        await factories.pending_duplication(idle_gateway.database, theirs, store=OTHER)
        for _ in range(3)
    ]
    broken = await failed(idle_gateway.database, store=OTHER)
    before = await head(idle_client)
    for id in (UNKNOWN, source, "no id", "", pending[2].id, broken):
        payload = await mutation(idle_client, id)
        assert payload["job"] is None
        assert refused(payload) == NOT_FOUND
    assert await head(idle_client) == before


# Retried.


async def test_only_a_failed_job_is_tried_again(
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


async def test_a_retry_is_a_job_of_its_own_behind_all_others_that_asks_for_the_same(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await factories.pending_duplication(
        database, source, name="Copy", description="", include_products=True
    )
    broken = await failed(database)
    (other,) = await asked(idle_gateway, source, 1)
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

    def rows(session: Session) -> list[Job]:
        found = stored.by_ids(session, factories.STORE, [UUID(broken), UUID(again["id"])])
        return [found[UUID(broken)], found[UUID(again["id"])]]

    first, second = await database.read(rows)
    for name in ("type", "source_id", "name", "description", "include_products", "items"):
        assert getattr(first, name) == getattr(second, name), name
    assert second.created_at >= first.created_at
    assert second.request_id != first.request_id


async def test_a_retry_is_given_while_it_waits_runs_or_is_done_and_anew_once_it_is_not(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await asked(idle_gateway, source, 1)
    broken = await failed(database)

    async def the_retry(*, replayed: bool) -> str:
        payload = await retry(idle_client, broken)
        assert payload["errors"] == []
        assert payload["replayed"] is replayed
        id: str = payload["job"]["id"]
        assert (await job(idle_client, broken))["retriedBy"] == {"id": id}
        return id

    first = await the_retry(replayed=False)
    end = await head(idle_client)
    assert await the_retry(replayed=True) == first
    assert await head(idle_client) == end
    claimed = await factories.claimed_job(database)
    assert await the_retry(replayed=True) == first
    await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
    second = await the_retry(replayed=False)
    await database.write(jobs.cancel, factories.STORE, UUID(second))
    third = await the_retry(replayed=False)
    assert await succeeded(database) == third
    assert await the_retry(replayed=True) == third
    assert len({first, second, third}) == 3
    # The first retry failed itself: its own retry is another one's.
    assert (await job(idle_client, first))["retriedBy"] is None


async def test_a_job_whose_retry_is_itself_tried_again_is_not_tried_again_beside_that(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await asked(idle_gateway, source, 1)
    broken = await failed(database)
    await retry(idle_client, broken)
    last = await retry(idle_client, await failed(database))

    again = await retry(idle_client, broken)

    assert again["replayed"]
    assert again["job"]["id"] == last["job"]["id"]


async def test_two_who_try_a_job_again_at_once_make_one_retry(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await asked(idle_gateway, source, 1)
    broken = await failed(idle_gateway.database)
    payloads = await asyncio.gather(*(retry(idle_client, broken) for _ in range(8)))
    assert len({payload["job"]["id"] for payload in payloads}) == 1
    assert sorted(payload["replayed"] for payload in payloads) == [False] + 7 * [True]


async def test_a_job_whose_source_is_gone_is_not_tried_again(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await asked(idle_gateway, source, 1)
    broken = await failed(idle_gateway.database)
    await idle_gateway.database.write(hierarchies.delete, factories.STORE, source)
    payload = await retry(idle_client, broken)
    assert payload["job"] is None
    assert refused(payload) == NOT_FOUND
    assert str(source) in payload["errors"][0]["message"]
    assert await queued(idle_client) == []


async def test_a_job_of_a_type_without_a_source_is_tried_again(
    idle_gateway: Gateway, idle_client: GraphQLClient
) -> None:
    await factories.pending_job(idle_gateway.database, JobType.PRODUCT_EXPORT)
    payload = await retry(idle_client, await failed(idle_gateway.database))
    assert payload["errors"] == []
    assert await queued(idle_client) == [payload["job"]["id"]]


async def test_of_many_retries_no_more_is_read_than_the_newest(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await asked(idle_gateway, source, 1)
    broken = await failed(idle_gateway.database)
    for _ in range(5):
        newest = (await retry(idle_client, broken))["job"]["id"]
        await failed(idle_gateway.database)
    database = idle_gateway.database
    (found,) = (
        await database.read(stored.newest_retries, factories.STORE, [UUID(broken)])
    ).values()
    assert str(found.id) == newest
    asked_for = in_keys_values(database.url.get_backend_name(), [UUID(broken)])
    assert await database.read(stored._RETRIES.rows, asked_for) == [found]


async def test_a_retry_outlives_what_it_tries_again(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await asked(idle_gateway, source, 1)
    broken = await failed(idle_gateway.database)
    again = (await retry(idle_client, broken))["job"]["id"]

    def forget(session: Session) -> None:
        row = stored.by_id(session, factories.STORE, UUID(broken))
        assert row
        assert row.pk
        stored.delete(session, [row.pk])

    await idle_gateway.database.write(forget)
    assert (await job(idle_client, again))["retryOf"] is None


# Cancelled by the dozen.


async def test_more_than_a_hundred_are_cancelled_a_hundred_at_a_time_in_their_order(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await asked(idle_gateway, source, 205)
    # The order is that of creation, also of one that was moved to the front.
    await move(idle_client, ids[150])
    end = await head(idle_client)
    found: list[str] = []
    left = []
    for _ in range(3):
        payload = await cancel(idle_client, status=["PENDING"])
        assert all(outcome["cancelled"] for outcome in payload["outcomes"])
        assert {outcome["job"]["status"] for outcome in payload["outcomes"]} == {"CANCELLED"}
        assert {outcome["error"] is None for outcome in payload["outcomes"]} == {True}
        found += [outcome["job"]["id"] for outcome in payload["outcomes"]]
        left.append(payload["remaining"])
    assert found == ids
    assert left == [105, 5, 0]
    async with subscriber(idle_gateway.url) as connected:
        told = await (await connected.subscribe(JOB_EVENTS, after=end)).take(205)
    assert [(event["type"], event["job"]["id"]) for event in told] == [
        ("CANCELLED", id) for id in ids
    ]
    assert (await cancel(idle_client, status=["PENDING"])) == {
        "outcomes": [],
        "remaining": 0,
        "errors": [],
    }


async def test_what_can_not_be_cancelled_is_told_of_behind_what_can(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await jobs_in_each_status(idle_gateway, source)
    payload = await cancel(idle_client, status=list(ids))
    told = [
        (one["job"]["id"], one["cancelled"], one["error"] and one["error"]["status"])
        for one in payload["outcomes"]
    ]
    assert told == [
        (ids["PENDING"], True, None),
        *((id, False, status) for status, id in ids.items() if status != "PENDING"),
    ]
    assert {one["error"]["message"] for one in payload["outcomes"][1:]} == {
        f"Only a pending job can be cancelled; this one is {status.value}."
        for status in JobStatus
        if status is not JobStatus.PENDING
    }
    assert payload["remaining"] == 0


async def test_without_a_status_it_is_those_that_have_not_ended(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await jobs_in_each_status(idle_gateway, source)
    for filter in ({}, {"status": None}):
        payload = await cancel(idle_client, **filter)
        waiting = [ids["PENDING"]] if filter == {} else []
        assert [one["job"]["id"] for one in payload["outcomes"]] == [*waiting, ids["STARTED"]]


async def test_asked_again_until_none_remain_all_that_wait_are_cancelled_whatever_else_matches(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    await asked(idle_gateway, source, 120)
    for _ in range(110):
        await failed(database)
    await asked(idle_gateway, source, 195)
    statuses = ["FAILED", "PENDING", "CANCELLED"]
    remaining, calls = None, 0
    while remaining != 0:
        payload = await cancel(idle_client, status=statuses)
        assert len(payload["outcomes"]) == 100
        assert payload["outcomes"][0]["cancelled"]
        remaining, calls = payload["remaining"], calls + 1
    assert calls == 3
    assert (await queued(idle_client)) == []


async def test_every_kind_of_filter_says_what_is_cancelled(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    another = await factories.hierarchy(database, {})
    first, second = await asked(idle_gateway, source, 2)
    (third,) = await asked(idle_gateway, another, 1)
    export = str((await factories.pending_job(database, JobType.PRODUCT_EXPORT)).id)
    theirs = await factories.hierarchy(database, {}, store=OTHER)
    stranger = await factories.pending_duplication(database, theirs, store=OTHER)
    times = {id: (await job(idle_client, id))["createdAt"] for id in (first, third)}

    async def cancelled(**filter: Any) -> list[str]:
        payload = await cancel(idle_client, **filter)
        assert payload["errors"] == []
        return [one["job"]["id"] for one in payload["outcomes"] if one["cancelled"]]

    assert await cancelled(status=[]) == []
    assert await cancelled(status=["STARTED", "FAILED"]) == []
    assert await cancelled(hierarchyId=str(theirs)) == []
    assert await cancelled(hierarchyId="no id") == []
    assert await cancelled(createdBefore=times[first]) == []
    assert await cancelled(hierarchyId=str(source), type=["PRODUCT_EXPORT"]) == []
    assert await cancelled(type=["PRODUCT_EXPORT", "PRICE_IMPORT"]) == [export]
    assert await cancelled(hierarchyId=str(another), createdBefore=times[third]) == []
    assert await cancelled(hierarchyId=str(source), createdAfter=times[first]) == [second]
    assert await cancelled(hierarchyId=str(another)) == [third]
    assert await cancelled() == [first]
    (kept,) = (await database.read(stored.by_ids, OTHER, [stranger.id])).values()
    assert kept.status is JobStatus.PENDING


# Moved.


async def test_a_job_that_is_moved_is_the_next_to_run_and_was_asked_for_when_it_was(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    ids = await asked(idle_gateway, source, 4)
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


async def test_of_several_that_are_moved_the_last_one_is_the_next_and_new_ones_come_behind_all(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    a, b, c, d = await asked(idle_gateway, source, 4)
    for id in (c, d, b, c):
        await move(idle_client, id)
    (e,) = await asked(idle_gateway, source, 1)
    order = [c, b, d, a, e]
    assert await queued(idle_client) == order
    ran = [str(await factories.ran_job(idle_gateway.database)) for _ in order]
    assert ran == order


async def test_moved_jobs_are_paged_through_in_their_order_both_ways(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await asked(idle_gateway, source, 7)
    for id in (ids[5], ids[3], ids[6]):
        await move(idle_client, id)
    order = [ids[6], ids[3], ids[5], ids[0], ids[1], ids[2], ids[4]]
    there: list[str] = []
    page: dict[str, Any] = {"first": 2}
    while True:
        found = (await idle_client.data(QUEUED, **page))["queuedJobs"]
        there += [one["id"] for one in found["nodes"]]
        assert found["totalCount"] == 7
        if not found["pageInfo"]["hasNextPage"]:
            break
        page["after"] = found["pageInfo"]["endCursor"]
    assert there == order
    back: list[str] = []
    page = {"last": 3}
    while True:
        found = (await idle_client.data(QUEUED, **page))["queuedJobs"]
        back = [one["id"] for one in found["nodes"]] + back
        if not found["pageInfo"]["hasPreviousPage"]:
            break
        page["before"] = found["pageInfo"]["startCursor"]
    assert back == order


async def test_only_a_pending_job_is_moved(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await jobs_in_each_status(idle_gateway, source)
    end = await head(idle_client)
    for status, id in ids.items():
        payload = await move(idle_client, id)
        assert payload["job"]["id"] == id
        assert payload["job"]["status"] == status
        if status != "PENDING":
            assert refused(payload) == ("JobNotMovable", ["input", "jobId"])
            assert payload["errors"][0]["status"] == status
    # The pending one is the only one, and so the first already.
    assert await head(idle_client) == end


async def test_to_move_the_first_one_changes_nothing(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    first, second = await asked(idle_gateway, source, 2)
    for id in (first, second):
        await move(idle_client, id)
        end, before = await head(idle_client), await job(idle_client, id)
        payload = await move(idle_client, id)
        assert payload["errors"] == []
        assert payload["job"]["version"] == before["version"]
        assert await head(idle_client) == end
        assert await job(idle_client, id) == before


async def test_subscribers_hear_of_a_move_and_those_who_resume_too(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    _, second = await asked(idle_gateway, source, 2)
    end = await head(idle_client)
    async with subscriber(idle_gateway.url) as connected:
        live = await connected.subscribe(JOB_EVENTS)
        updates = await connected.subscribe(JOB_UPDATES, id=second)
        assert (await anext(updates))["type"] == "SNAPSHOT"
        # Whoever hears this was there before what follows.
        (third,) = await asked(idle_gateway, source, 1)
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
        # Behind its cursor there is nothing but what came later.
        await factories.claimed_job(idle_gateway.database)
        behind = await connected.subscribe(JOB_EVENTS, after=moved["cursor"])
        started = await anext(behind)
        assert (started["type"], started["job"]["id"]) == ("STARTED", second)
        assert started["previousStatus"] == "PENDING"


async def test_rest_lists_jobs_by_their_creation_whoever_was_moved(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    ids = await asked(idle_gateway, source, 3)
    async with rest_of(idle_gateway) as rest:

        async def listed() -> list[tuple[str, str]]:
            found = (await rest.send("GET", "/jobs")).json()["data"]
            return [(one["id"], one["attributes"]["created_at"]) for one in found]

        before = await listed()
        assert [id for id, _ in before] == list(reversed(ids))
        await move(idle_client, ids[2])
        await move(idle_client, ids[1])
        assert await listed() == before


# Paused.


async def test_a_pause_says_since_when_why_and_stays_until_the_queue_is_resumed(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await asked(idle_gateway, source, 2)
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
async def test_a_reason_that_says_nothing_or_too_much_is_refused(
    idle_client: GraphQLClient, reason: str
) -> None:
    payload = (await idle_client.data(PAUSE, input={"reason": reason}))["pauseQueue"]
    assert payload["queue"] is None
    assert refused(payload) == ("InvalidInput", ["input", "reason"])
    read = "{ jobQueue { pause { at } } }"
    assert (await idle_client.data(read))["jobQueue"]["pause"] is None


async def test_a_paused_queue_starts_nothing_and_tells_no_estimates(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    database = idle_gateway.database
    first, *rest = await asked(idle_gateway, source, 4)
    assert str(await factories.ran_job(database)) == first
    estimates = "{ queuedJobs { nodes { estimatedStartAt } } }"

    async def told() -> list[Any]:
        data = await idle_client.data(estimates)
        return [node["estimatedStartAt"] for node in data["queuedJobs"]["nodes"]]

    assert None not in await told()
    await database.write(lanes.pause, REQUESTER, None)
    assert await told() == [None] * 3
    assert (await move(idle_client, rest[2]))["errors"] == []
    assert await database.write(attempts.claim, factories.STORE, uuid4(), factories.LEASE) is None
    assert await database.read(claimable_stores) == []
    # It can still be asked for, moved and cancelled.
    (late,) = await asked(idle_gateway, source, 1)
    await database.write(jobs.cancel, factories.STORE, UUID(rest[0]))
    assert await queued(idle_client) == [rest[2], rest[1], late]
    await database.write(lanes.resume, factories.STORE)
    assert None not in await told()
    assert await database.read(claimable_stores) == [factories.STORE]
    assert str((await factories.claimed_job(database)).id) == rest[2]


async def test_what_runs_goes_on_and_is_taken_over_while_the_queue_is_paused(
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
    await database.write(attempts.succeed, again, lambda: attempts.JobResult(1))
    assert await database.read(claimable_stores) == []
    assert await database.write(attempts.claim, factories.STORE, uuid4(), factories.LEASE) is None
    await database.write(lanes.resume, factories.STORE)
    assert (await factories.claimed_job(database)).id == waiting.id


async def test_a_pause_of_one_store_does_not_touch_another(idle_gateway: Gateway) -> None:
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
    """The real queue, which looks by itself so seldom that a test would not live to see it."""
    dispatcher = Dispatcher(database, find_handlers(), poll=3600)
    database.on_commit(dispatcher.wake)
    running = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        await running


@asynccontextmanager
async def listening(url: str, speaking: Database) -> AsyncIterator[Database]:
    """The database as another process has it, once that hears what this one says."""
    other, heard = connect(url), asyncio.Event()
    other.on_commit(lambda stores: heard.set() if "hello" in stores else None)
    hearing = asyncio.create_task(other.listen())
    try:
        while not heard.is_set():
            await speaking.write(lanes.resume, "hello")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await heard.wait()
        yield other
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        other.close()


@pytest.mark.timeout(60)
async def test_a_queue_that_is_resumed_starts_at_once(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID
) -> None:
    await idle_client.data(PAUSE, input=None)
    async with dispatching(idle_gateway.database), subscriber(idle_gateway.url) as connected:
        (id,) = await asked(idle_gateway, source, 1)
        updates = await connected.subscribe(JOB_UPDATES, id=id)
        assert (await anext(updates))["type"] == "SNAPSHOT"
        await idle_client.data(RESUME)
        told = [event["type"] async for event in updates if event["type"] != "PROGRESS"]
    assert told == ["STARTED", "SUCCEEDED"]


@pytest.mark.timeout(60)
async def test_a_dispatcher_of_another_process_starts_at_once_what_is_resumed(
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
        (id,) = await asked(gateway, source, 1)
        async with dispatching(other):
            updates = await connected.subscribe(JOB_UPDATES, id=id)
            await anext(updates)
            await client.data(RESUME)
            told = [one["type"] async for one in updates if one["type"] != "PROGRESS"]
    assert told == ["STARTED", "SUCCEEDED"]


async def test_a_pause_survives_a_restart(settings: Settings) -> None:
    async with gateway_of(settings) as gateway:
        source = await factories.hierarchy(gateway.database, {"a": {}})
        await gateway.database.write(lanes.pause, REQUESTER, "Stocktaking")
        await asked(gateway, source, 1)
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
        # A job that is cancelled was not running; had it started, that would be told first.
        payload = await cancel(client)
        assert [one["cancelled"] for one in payload["outcomes"]] == [True]
        assert (await anext(events))["type"] == "CANCELLED"


# What is needed for it.


async def test_each_needs_its_scopes(new_database: Any) -> None:
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
        acts = {
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
                for act, needed in acts.items():
                    if scopes == [Scope.JOBS_WRITE] and needed != "hierarchies:write":
                        continue
                    data = await caller.data(f"mutation {{ done: {act} {errors} }}")
                    assert [e["__typename"] for e in data["done"]["errors"]] == ["Forbidden"]
                    missing = "jobs:write" if scopes == reader else needed
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


def _rows(session: Session) -> list[Any]:
    return [*session.execute(sa.select(Job.__table__)), *session.execute(sa.select(Lane.__table__))]  # type: ignore[attr-defined]


# Its last hours.

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAST = timedelta(microseconds=1)


async def fill(
    database: Database, clock: Clock, *rows: tuple[datetime, JobStatus, float | None]
) -> None:
    """Jobs that were asked for then and have that status; some ran for so many seconds."""
    for at, status, seconds in rows:
        clock.now = at
        made = await factories.pending_job(database, JobType.PRODUCT_EXPORT)
        values: dict[str, Any] = {"status": status}
        if seconds is not None:
            values["started_at"] = at + timedelta(seconds=1)
            values["completed_at"] = values["started_at"] + timedelta(seconds=seconds)
        await database.write(partial(stored.update, job=made, **values))


async def hours_of(database: Database, number: int, store: str = factories.STORE) -> list[JobHour]:
    return await database.read(job_stats.by_hour, store, number)


async def test_each_hour_has_its_jobs_by_the_status_they_have_now(
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
        found = await hours_of(database, 5)
        assert [(hour.begins, hour.counts) for hour in found] == [
            (begins, counts) for begins, counts, *_ in expected
        ]
        for hour, (_, _, average, longest) in zip(found, expected, strict=True):
            assert hour.average_seconds == pytest.approx(average, abs=0.002)
            assert hour.longest_seconds == pytest.approx(longest, abs=0.002)
    assert [hour.counts for hour in await hours_of(database, 1)] == [{JobStatus.PENDING: 2}]
    # The next hour begins without any.
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


async def test_what_is_asked_for_as_an_hour_begins_or_ends_is_of_that_hour(
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
    found = await hours_of(clocked_database, 50)
    assert [hour.begins for hour in found] == begins
    each = {JobStatus.SUCCESS: 1, JobStatus.CANCELLED: 1}
    assert [hour.counts for hour in found] == [each] * 50


async def test_a_clock_that_is_set_back_leaves_out_what_was_asked_for_later(
    clocked_database: Database, clock: Clock
) -> None:
    await fill(clocked_database, clock, (NOON, JobStatus.SUCCESS, 1.0))
    clock.now = NOON - 2 * HOUR
    assert [hour.counts for hour in await hours_of(clocked_database, 2)] == [{}, {}]


@pytest.mark.parametrize("number", [1, 24, 168])
async def test_as_many_hours_are_told_of_as_are_asked_for(
    idle_gateway: Gateway, idle_client: GraphQLClient, source: UUID, number: int
) -> None:
    database = idle_gateway.database
    await asked(idle_gateway, source, 3)
    await factories.ran_job(database)
    fields = "begins pending started success failed cancelled averageSeconds longestSeconds"
    query = f"query ($hours: Int!) {{ jobQueue {{ hours(hours: $hours) {{ {fields} }} }} }}"
    hours = (await idle_client.data(query, hours=number))["jobQueue"]["hours"]
    begins = [datetime.fromisoformat(hour["begins"]) for hour in hours]
    assert begins == [begins[-1] - HOUR * ago for ago in reversed(range(number))]
    assert begins[-1] <= datetime.now(UTC) < begins[-1] + 2 * HOUR
    if number > 1:
        # Also where the hour has ended since they were asked for.
        assert sum(hour["pending"] for hour in hours) == 2
        assert sum(hour["success"] for hour in hours) == 1
        assert len([hour for hour in hours if hour["longestSeconds"] is not None]) == 1
    if number == 24:
        unsaid = (await idle_client.data(f"{{ jobQueue {{ hours {{ {fields} }} }} }}"))["jobQueue"]
        assert len(unsaid["hours"]) == 24


@pytest.mark.parametrize("number", [0, -1, 169, 2**31 - 1])
async def test_no_more_hours_are_told_of_than_a_week_has(
    idle_client: GraphQLClient, number: int
) -> None:
    refusal = await idle_client.refusal(f"{{ jobQueue {{ hours(hours: {number}) {{ begins }} }} }}")
    assert refusal["message"] == f"hours is {number}; 1 to 168 are allowed."
    assert refusal["extensions"]["code"] == "INVALID_INPUT"


async def test_a_store_without_jobs_has_hours_without_jobs(idle_client: GraphQLClient) -> None:
    query = "{ jobQueue { pending pause { at } hours(hours: 2) { pending averageSeconds } } }"
    assert (await idle_client.data(query))["jobQueue"] == {
        "pending": 0,
        "pause": None,
        "hours": [{"pending": 0, "averageSeconds": None}] * 2,
    }
