"""Whoever is to be told of a job's end is told, at least once, by a message that proves where it
comes from; nobody else is."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import col, select
from standardwebhooks import Webhook
from typer.testing import CliRunner, Result

from app.cli import cli
from app.domain.webhooks import (
    MAX_ATTEMPTS,
    MAX_RETRY_DELAY,
    DeliveryStatus,
    checked_network,
    signing_keys,
)
from app.services import attempts, jobs, retention, webhooks
from app.settings import Settings, WrongSettings, read
from app.storage import webhooks as stored
from app.storage.engine.database import Database
from app.storage.tables import Job, WebhookDelivery
from app.webhooks import dispatcher
from app.webhooks.dispatcher import LEASE, Dispatcher
from app.webhooks.sender import TIMEOUT_SECONDS, Sender
from app.wiring import open_database
from tests import factories
from tests.support.clients import client_of
from tests.support.clock import Clock
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of
from tests.support.webhook_receiver import SECRET, Receiver, receiving

PENDING, DELIVERED, FAILED = (
    DeliveryStatus.PENDING,
    DeliveryStatus.DELIVERED,
    DeliveryStatus.FAILED,
)
LOOPBACK = [checked_network("127.0.0.0/8")]
KEEP = timedelta(days=30)
one_kind = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
"""For what does not depend on the kind of database."""

LATER = MAX_RETRY_DELAY * 1.1
"""By then the next attempt is due, whatever has happened."""


@pytest.fixture
def clock() -> Clock:
    """A clock that begins now: signatures have the time in them."""
    clock = Clock()
    clock.now = datetime.now(UTC)
    return clock


@pytest.fixture
def database(clocked_database: Database) -> Database:
    """A database on the injected clock."""
    return clocked_database


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Somebody to tell."""
    async with receiving() as started:
        yield started


class Outcomes(logging.Handler):
    """What the courier says of each attempt, once that is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.said = asyncio.Queue[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "webhook":
            told = record.__dict__
            again = f" in {timedelta(seconds=told['pause'])}" if told["pause"] else ""
            self.said.put_nowait(
                f"{told['webhook_id']} attempt {told['attempt']}: {told['status'] or ''} "
                f"{told['reason']}; {told['outcome']}{again}"
            )

    async def next(self) -> str:
        """The next attempt that has ended."""
        async with asyncio.timeout(30):
            return await self.said.get()


@pytest.fixture
async def outcomes() -> AsyncIterator[Outcomes]:
    """The outcomes of attempts in this process."""
    handler = Outcomes()
    level = dispatcher.log.level
    dispatcher.log.setLevel(logging.INFO)
    dispatcher.log.addHandler(handler)
    yield handler
    dispatcher.log.removeHandler(handler)
    dispatcher.log.setLevel(level)


@asynccontextmanager
async def telling(
    database: Database, *urls: str, sender: Sender | None = None, **options: Any
) -> AsyncIterator[Dispatcher]:
    """A courier that tells these URLs, and knows them before anything more happens."""
    await database.write(webhooks.register, urls)
    started = Dispatcher(
        database,
        urls,
        signing_keys(SECRET),
        sender or Sender(LOOPBACK),
        **{"poll": 0.02, **options},
    )
    database.on_commit(started.wake)
    running = asyncio.create_task(started.run())
    try:
        yield started
    finally:
        started.stop()
        await running


async def cancelled(database: Database, store: str = factories.STORE) -> Job:
    """A job that ends as soon as it is there."""
    source = await factories.hierarchy(database, {"a": {}}, store=store)
    job = await factories.pending_duplication(database, source, store=store)
    return await database.write(jobs.cancel, store, job.id)


async def deliveries(database: Database) -> list[WebhookDelivery]:
    """All there are, the oldest first."""
    wanted = select(WebhookDelivery).order_by(col(WebhookDelivery.pk))
    return await database.read(lambda session: list(session.exec(wanted)))


def settings_with(settings: Settings, *urls: str, **more: Any) -> Settings:
    """Settings that have these told."""
    return settings.model_copy(
        update={
            "webhooks": frozenset(urls),
            "webhook_secret": SecretStr(SECRET),
            "webhook_networks": frozenset({"127.0.0.0/8"}),
            **more,
        }
    )


async def test_a_gateway_tells_of_a_job_that_succeeded_as_its_rest_document_has_it(
    settings: Settings, receiver: Receiver
) -> None:
    async with (
        gateway_of(settings_with(settings, f"{receiver.url}?key=value")) as gateway,
        client_of(gateway) as client,
    ):
        await gateway.database.write(webhooks.register, [f"{receiver.url}?key=value"])
        source = await factories.hierarchy(gateway.database, {"a": {}})
        job = await factories.pending_duplication(gateway.database, source)
        received = await receiver.next()
        document = (await client.http.get(f"/pcm/jobs/{job.id}")).json()["data"]
    told = Webhook(SECRET).verify(received.body, received.headers)
    assert told == {
        "type": "job.succeeded",
        "timestamp": document["attributes"]["completed_at"],
        "data": {"store": factories.STORE, "seq": 3, "job": document},
    }
    assert document["meta"].keys() == {"x_request_id", "copied_from", "hierarchy_id"}
    assert received.target == "/hooks?key=value"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("jobs-gateway/")


async def test_failed_and_cancelled_jobs_are_told_of_and_why_they_failed(
    database: Database, receiver: Receiver
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    async with telling(database, receiver.url):
        failed = await factories.pending_duplication(database, source)
        claimed = await factories.claimed_job(database)
        await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
        one = await receiver.next()
        stopped = await cancelled(database)
        other = await receiver.next()
    assert (one.message["type"], one.job) == ("job.failed", str(failed.id))
    assert one.message["data"]["errors"] == [{"code": "BROKEN", "message": "It broke."}]
    assert one.message["data"]["job"]["attributes"]["status"] == "failed"
    assert (other.message["type"], other.job) == ("job.cancelled", str(stopped.id))
    assert "errors" not in other.message["data"]
    assert other.message["data"]["job"]["attributes"]["started_at"] is None
    assert other.message["data"]["job"]["meta"].keys() == {"x_request_id"}
    assert receiver.received.empty()


async def test_what_fails_is_sent_again_later_under_the_same_id_until_it_is_taken(
    database: Database, clock: Clock, outcomes: Outcomes
) -> None:
    async with receiving() as first:
        first.will_answer(500)
        async with telling(database, first.url):
            await cancelled(database)
            received = [await first.next()]
            assert ": 500 Told; again in 0:00:0" in await outcomes.next()
    # Nobody listens there any more.
    clock.advance(LATER)
    async with telling(database, first.url):
        assert "connect" in (await outcomes.next()).lower()
        async with receiving(port=first.port) as again:
            again.will_answer(302, head="location: /elsewhere\r\n")
            for _ in range(2):
                clock.advance(LATER)
                received.append(await again.next())
                said = await outcomes.next()
    assert "attempt 4: 204 Told; delivered" in said
    assert {one.target for one in received} == {"/hooks"}
    assert len({one.id for one in received}) == 1
    assert len({one.body for one in received}) == 1
    assert len({one.headers["webhook-signature"] for one in received}) == 3
    (delivery,) = await deliveries(database)
    assert str(delivery.id) == received[0].id
    assert (delivery.status, delivery.attempts, delivery.answer) == (DELIVERED, 4, 204)
    assert delivery.due_at is None


async def test_nothing_is_sent_again_before_its_pause_is_over(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(503, head="retry-after: 3600\r\n")
    async with telling(database, receiver.url):
        first = await cancelled(database)
        assert (await receiver.next()).job == str(first.id)
        assert "again in 1:00:00" in await outcomes.next()
        clock.advance(timedelta(hours=1) - timedelta(milliseconds=1))
        second = await cancelled(database)
        assert (await receiver.next()).job == str(second.id)
        await outcomes.next()
        clock.advance(timedelta(milliseconds=1))
        assert (await receiver.next()).job == str(first.id)
        await outcomes.next()


async def test_what_is_never_taken_is_given_up_and_sent_anew_only_when_somebody_says_so(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(*[500] * MAX_ATTEMPTS)
    async with telling(database, receiver.url):
        job = await cancelled(database)
        for number in range(1, MAX_ATTEMPTS + 1):
            assert (await receiver.next()).job == str(job.id)
            assert f"attempt {number}: 500" in (said := await outcomes.next())
            clock.advance(LATER)
        assert said.endswith("failed")
        (delivery,) = await deliveries(database)
        assert (delivery.status, delivery.attempts, delivery.due_at) == (FAILED, MAX_ATTEMPTS, None)

        next_job = await cancelled(database)
        assert (await receiver.next()).job == str(next_job.id)
        await outcomes.next()

        await database.write(webhooks.redeliver, delivery.id)
        assert (await receiver.next()).id == str(delivery.id)
        await outcomes.next()
    assert [one.status for one in await deliveries(database)] == [DELIVERED, DELIVERED]


@one_kind
async def test_a_receiver_that_is_gone_is_told_once(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(410)
    async with telling(database, receiver.url):
        await cancelled(database)
        await receiver.next()
        assert "attempt 1: 410 Told; failed" in await outcomes.next()
    assert [one.status for one in await deliveries(database)] == [FAILED]


async def test_an_attempt_without_a_result_is_made_again_once_its_lease_is_over(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.open.clear()
    async with telling(database, receiver.url):
        await cancelled(database)
        lost = await receiver.next()
    (delivery,) = await deliveries(database)
    assert (delivery.status, delivery.attempts) == (PENDING, 1)
    receiver.open.set()
    async with telling(database, receiver.url):
        clock.advance(LEASE - timedelta(milliseconds=1))
        other = await cancelled(database)
        assert (await receiver.next()).job == str(other.id)
        await outcomes.next()
        clock.advance(timedelta(milliseconds=1))
        assert (await receiver.next()).id == lost.id
        await outcomes.next()
    # The result of the attempt that was lost would come too late.
    assert not await database.write(stored.conclude, delivery, {"status": FAILED})
    assert {one.status for one in await deliveries(database)} == {DELIVERED}


async def test_a_new_endpoint_hears_what_follows_and_one_that_comes_back_what_it_missed(
    database: Database, receiver: Receiver, outcomes: Outcomes
) -> None:
    await cancelled(database)
    async with telling(database, receiver.url):
        told = [await cancelled(database), await cancelled(database, store="new")]
        received = {(await receiver.next()).job for _ in told}
        for _ in told:
            await outcomes.next()
    assert received == {str(job.id) for job in told}

    missed = [await cancelled(database), await cancelled(database, store="newer")]
    async with telling(database, f"{receiver.url}/other"):
        pass
    async with telling(database, receiver.url, f"{receiver.url}/other"):
        received = {(await receiver.next()).job for _ in missed}
        for _ in missed:
            await outcomes.next()
        both = await cancelled(database)
        targets = {(one.target, one.job) for one in [await receiver.next(), await receiver.next()]}
    assert received == {str(job.id) for job in missed}
    assert targets == {("/hooks", str(both.id)), ("/hooks/other", str(both.id))}


async def test_processes_that_begin_with_the_same_urls_at_once_agree_on_them(
    database: Database,
) -> None:
    urls = [f"https://shop.example/{number}" for number in range(3)]
    await cancelled(database)
    known = await asyncio.gather(
        *(database.write(webhooks.register, urls[number % 2 :]) for number in range(8))
    )
    everything = await database.read(stored.known_endpoints, urls)
    assert sorted(everything.values()) == urls
    assert all(some.items() <= everything.items() for some in known)
    assert await database.read(stored.stores_to_record, everything.keys(), None) == []


async def test_processes_that_record_the_same_events_at_once_record_each_of_them_once(
    database: Database,
) -> None:
    known = await database.write(webhooks.register, ["https://shop.example/"])
    ended = [await cancelled(database) for _ in range(5)]
    for _ in ended:
        # Each takes what the others have left, if they have.
        await asyncio.gather(
            *(
                database.write_bulk(webhooks.create_deliveries, factories.STORE, known, 1)
                for _ in range(4)
            )
        )
    assert [one.seq for one in await deliveries(database)] == [2, 4, 6, 8, 10]


async def test_a_backlog_longer_than_a_transaction_takes_is_told_whole(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "MAX_EVENTS", 2)
    monkeypatch.setattr(stored, "MAX_SKIPPED_EVENTS", 3)
    await database.write(webhooks.register, [receiver.url])
    source = await factories.hierarchy(database, {"a": {}})
    for _ in range(8):
        await factories.pending_duplication(database, source)
    ended = [await cancelled(database) for _ in range(5)]
    # It does not look by itself before this test is over.
    async with telling(database, receiver.url, poll=600):
        received = [(await receiver.next()).job for _ in ended]
    assert Counter(received) == Counter(str(job.id) for job in ended)


async def test_two_processes_on_one_database_send_each_message_once(
    new_database: NewDatabase, receiver: Receiver, outcomes: Outcomes
) -> None:
    url = new_database("postgresql")
    settings = Settings(database_url=url)
    with closing(open_database(settings)) as one, closing(open_database(settings)) as other:
        async with telling(one, receiver.url), telling(other, receiver.url):
            ended = [await cancelled(one) for _ in range(30)]
            received = [await receiver.next() for _ in ended]
            for _ in ended:
                assert "attempt 1: 204" in await outcomes.next()
        assert receiver.received.empty()
        assert {delivery.attempts for delivery in await deliveries(one)} == {1}
    assert Counter(one.job for one in received) == Counter(str(job.id) for job in ended)
    assert len({one.id for one in received}) == len(ended)


@one_kind
async def test_an_endpoint_that_does_not_answer_holds_no_other_back(
    database: Database, receiver: Receiver
) -> None:
    async with receiving() as stuck:
        stuck.open.clear()
        async with telling(database, receiver.url, stuck.url, concurrency=2) as running:
            ended = [await cancelled(database) for _ in range(6)]
            received = [(await receiver.next()).job for _ in ended]
            assert set(received) == {str(job.id) for job in ended}
            assert stuck.connections == 2
            running.stop()


async def test_a_process_tells_of_the_stores_whose_jobs_it_runs(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(500)
    async with telling(database, receiver.url):
        await cancelled(database, store="theirs")
        await receiver.next()
        await outcomes.next()
    clock.advance(LATER)
    async with telling(database, receiver.url, stores=frozenset({"ours"})):
        await cancelled(database, store="theirs")
        ours = await cancelled(database, store="ours")
        assert (await receiver.next()).job == str(ours.id)
        await outcomes.next()
    async with telling(database, receiver.url):
        stores = {(await receiver.next()).message["data"]["store"] for _ in range(2)}
        assert stores == {"theirs"}


async def test_deliveries_go_with_their_events_and_what_went_untold_is_told_of(
    database: Database,
    clock: Clock,
    receiver: Receiver,
    outcomes: Outcomes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.will_answer(500)
    async with telling(database, receiver.url):
        await cancelled(database)
        await receiver.next()
        await outcomes.next()
    await cancelled(database)
    clock.advance(KEEP + timedelta(milliseconds=1))
    newer = await cancelled(database)

    assert len(await deliveries(database)) == 1
    while await database.write(retention.prune, KEEP, 500):
        pass
    assert await deliveries(database) == []

    with caplog.at_level(logging.WARNING):
        async with telling(database, receiver.url):
            assert (await receiver.next()).job == str(newer.id)
            await outcomes.next()
    assert "up to 2 events of store default were pruned" in caplog.text


@one_kind
async def test_what_is_secret_stays_out_of_the_log(
    database: Database, receiver: Receiver, outcomes: Outcomes, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.will_answer(500)
    taken = f"{receiver.url}/PATH-SECRET?token=QUERY-SECRET"
    refused = f"http://127.0.0.3:{receiver.port}/PATH-SECRET"
    with caplog.at_level(logging.DEBUG):
        async with telling(database, taken, refused):
            await cancelled(database)
            said = await outcomes.next() + await outcomes.next()
    assert ": 500 Told; again" in said
    assert "connect" in said
    logged = " ".join(str(vars(record)) for record in caplog.records)
    assert f"http://127.0.0.1:{receiver.port}" in logged
    signature = (await receiver.next()).headers["webhook-signature"]
    for secret in ("PATH-SECRET", "QUERY-SECRET", SECRET, SECRET[6:], signature):
        assert secret not in logged


def bad(**values: str) -> str:
    """What is said of such settings, line by line."""
    with pytest.raises(WrongSettings) as wrong:
        read(values)
    assert "HIDDEN" not in str(wrong.value)
    return str(wrong.value)


def test_every_mistake_in_the_settings_is_told_at_the_start() -> None:
    assert "set JOBS_GATEWAY_WEBHOOK_SECRET" in bad(webhooks="https://shop.example/")
    several = bad(
        webhooks="https://user:HIDDEN@shop.example/,http://shop.example/HIDDEN",
        webhook_secret=SECRET,
    )
    assert "a user or password" in several
    assert "not https" in several
    both = bad(webhooks="https://shop.example", webhook_secret="HIDDEN", webhook_networks="home")
    assert "openssl rand" in both
    assert "'home' is no network" in both
    many = ",".join(f"https://shop.example/{number}" for number in range(17))
    assert "at most 16" in bad(webhooks=many, webhook_secret=SECRET)


def test_settings_without_a_mistake_are_taken() -> None:
    settings = read(
        {
            "webhooks": "https://shop.example/hooks, http://127.0.0.1:9000/",
            "webhook_secret": SECRET,
            "webhook_networks": "127.0.0.0/8, ::1",
        }
    )
    assert settings.webhooks == {"https://shop.example/hooks", "http://127.0.0.1:9000/"}
    assert SECRET not in repr(settings)


@pytest.fixture
def statements(settings: Settings) -> Iterator[list[str]]:
    """Every statement of this process."""
    noted: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        noted.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield noted
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


@one_kind
async def test_where_nobody_is_to_be_told_nothing_is_asked(
    settings: Settings, statements: list[str]
) -> None:
    async with gateway_of(settings) as gateway:
        statements.clear()
        source = await factories.hierarchy(gateway.database, {"a": {}})
        job = await factories.pending_duplication(gateway.database, source)
        async for _ in await gateway.feed.job_updates(factories.STORE, job.id, None):
            pass
        assert statements
        assert not [statement for statement in statements if "webhook" in statement]


async def command(settings: Settings, *arguments: str) -> Result:
    """What `jobs-gateway webhooks` does on that database."""
    options = [*arguments, "--database-url", settings.database_url]
    return await asyncio.to_thread(CliRunner().invoke, cli, ["webhooks", *options])


async def test_the_command_lists_what_was_sent_and_sends_it_anew(
    settings: Settings,
    database: Database,
    clock: Clock,
    receiver: Receiver,
    outcomes: Outcomes,
) -> None:
    receiver.will_answer(410)
    async with telling(database, f"{receiver.url}/SECRET"):
        failed, delivered = [await cancelled(database) for _ in range(2)]
        first = await receiver.next()
        await outcomes.next()
        await outcomes.next()
        listed = await command(settings, "--json")
        lines = {line["job"]: line for line in map(json.loads, listed.stdout.splitlines())}
        gone = next(line for line in lines.values() if line["status"] == "failed")
        assert lines.keys() == {str(failed.id), str(delivered.id)}
        assert gone["answer"] == 410
        assert gone["to"] == f"http://127.0.0.1:{receiver.port}"
        plain = (await command(settings, "--status", "failed")).stdout
        assert plain.startswith(f"{gone['id']} FAILED job.cancelled to=http://127.0.0.1:")
        assert plain.count("\n") == 1
        assert "SECRET" not in listed.stdout + plain

        await receiver.next()
        anew = await command(settings, "--redeliver", gone["id"])
        assert anew.exit_code == 0
        # The command goes by the real clock.
        clock.advance(LATER)
        assert (await receiver.next()).id == gone["id"]
        assert gone["id"] in await outcomes.next()
    unknown = await command(settings, "--redeliver", str(UUID(int=1)))
    assert (unknown.exit_code, first.target) == (1, "/hooks/SECRET")
    assert unknown.stderr == f"No delivery has the id {UUID(int=1)}.\n"


@one_kind
async def test_a_stopped_gateway_does_not_wait_for_receivers_that_do_not_answer(
    settings: Settings, receiver: Receiver, report: Callable[[str], None]
) -> None:
    receiver.open.clear()
    async with gateway_of(settings_with(settings, receiver.url)) as gateway:
        await gateway.database.write(webhooks.register, [receiver.url])
        source = await factories.hierarchy(gateway.database, {"a": {}})
        await factories.pending_duplication(gateway.database, source)
        await receiver.next()
        stopped = asyncio.get_running_loop().time()
    took = asyncio.get_running_loop().time() - stopped
    assert took < TIMEOUT_SECONDS
    report(f"stopped within {took:.2f} s")
