"""Job ends are delivered at least once, signed, to configured URLs only."""

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
    MAX_PAUSE,
    MAX_RETRY_DELAY,
    DeliveryStatus,
    checked_network,
    signing_keys,
)
from app.services import attempts, jobs, retention, webhooks
from app.settings import Settings, WrongSettings, read
from app.storage import webhooks as stored
from app.storage.admin.backlog import sweep_backlog
from app.storage.engine.database import Database
from app.storage.tables import JobRow, WebhookDelivery
from app.webhooks import dispatcher
from app.webhooks.dispatcher import LEASE, Dispatcher
from app.webhooks.sender import TIMEOUT_SECONDS, Sender
from app.wiring import open_database
from tests import factories
from tests.support.clients import client_of
from tests.support.clock import Clock
from tests.support.databases import NewDatabase
from tests.support.entities import session_of
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
"""For tests that do not depend on the kind of database."""

LATER = MAX_RETRY_DELAY * 1.1
"""By then the next attempt is due in every case."""


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
    """A running receiver of webhooks."""
    async with receiving() as started:
        yield started


class Outcomes(logging.Handler):
    """The outcomes that the dispatcher logs once they are stored."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = asyncio.Queue[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "webhook":
            fields = record.__dict__
            retry = f" in {timedelta(seconds=fields['pause'])}" if fields["pause"] else ""
            self.lines.put_nowait(
                f"{fields['webhook_id']} attempt {fields['attempt']}: {fields['status'] or ''} "
                f"{fields['reason']}; {fields['outcome']}{retry}"
            )

    async def next(self) -> str:
        """The outcome of the next attempt that ends."""
        async with asyncio.timeout(30):
            return await self.lines.get()


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
async def dispatching(
    database: Database, *urls: str, sender: Sender | None = None, **options: Any
) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher of `urls`, which are registered first."""
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


async def cancelled(database: Database, store: str = factories.STORE) -> JobRow:
    """Request a job and cancel it."""
    source = await factories.hierarchy(database, {"a": {}}, store=store)
    job = await factories.pending_duplication(database, source, store=store)
    return await database.write(jobs.cancel, store, job.id)


async def deliveries(database: Database) -> list[WebhookDelivery]:
    """All deliveries, the oldest first."""
    query = select(WebhookDelivery).order_by(col(WebhookDelivery.pk))
    return await database.read(lambda tx: list(session_of(tx).exec(query)))


def settings_with(settings: Settings, *urls: str, **more: Any) -> Settings:
    """Settings with the webhooks `urls`."""
    return settings.model_copy(
        update={
            "webhooks": frozenset(urls),
            "webhook_secret": SecretStr(SECRET),
            "webhook_networks": frozenset({"127.0.0.0/8"}),
            **more,
        }
    )


async def test_a_gateway_sends_a_succeeded_job_as_its_rest_document(
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
    message = Webhook(SECRET).verify(received.body, received.headers)
    assert message == {
        "type": "job.succeeded",
        "timestamp": document["attributes"]["completed_at"],
        "data": {"store": factories.STORE, "seq": 3, "job": document},
    }
    assert document["meta"].keys() == {"x_request_id", "copied_from", "hierarchy_id"}
    assert received.target == "/hooks?key=value"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("jobs-gateway/")


async def test_failed_and_cancelled_jobs_are_sent_with_their_errors(
    database: Database, receiver: Receiver
) -> None:
    source = await factories.hierarchy(database, {"a": {}})
    async with dispatching(database, receiver.url):
        failed = await factories.pending_duplication(database, source)
        claimed = await factories.claimed_job(database)
        await database.write(attempts.fail, claimed, "BROKEN", "It broke.", lambda: None)
        failure = await receiver.next()
        stopped = await cancelled(database)
        cancellation = await receiver.next()
    assert (failure.message["type"], failure.job) == ("job.failed", str(failed.id))
    assert failure.message["data"]["errors"] == [{"code": "BROKEN", "message": "It broke."}]
    assert failure.message["data"]["job"]["attributes"]["status"] == "failed"
    assert (cancellation.message["type"], cancellation.job) == ("job.cancelled", str(stopped.id))
    assert "errors" not in cancellation.message["data"]
    assert cancellation.message["data"]["job"]["attributes"]["started_at"] is None
    assert cancellation.message["data"]["job"]["meta"].keys() == {"x_request_id"}
    assert receiver.received.empty()


async def test_a_failed_delivery_is_retried_under_the_same_id_until_it_succeeds(
    database: Database, clock: Clock, outcomes: Outcomes
) -> None:
    async with receiving() as first:
        first.will_answer(500)
        async with dispatching(database, first.url):
            await cancelled(database)
            received = [await first.next()]
            assert ": 500 Status; again in 0:00:0" in await outcomes.next()
    # The receiver has stopped.
    clock.advance(LATER)
    async with dispatching(database, first.url):
        assert "connect" in (await outcomes.next()).lower()
        async with receiving(port=first.port) as again:
            again.will_answer(302, head="location: /elsewhere\r\n")
            for _ in range(2):
                clock.advance(LATER)
                received.append(await again.next())
                outcome = await outcomes.next()
    assert "attempt 4: 204 Status; delivered" in outcome
    assert {request.target for request in received} == {"/hooks"}
    assert len({request.id for request in received}) == 1
    assert len({request.body for request in received}) == 1
    assert len({request.headers["webhook-signature"] for request in received}) == 3
    (delivery,) = await deliveries(database)
    assert str(delivery.id) == received[0].id
    assert (delivery.status, delivery.attempts, delivery.answer) == (DELIVERED, 4, 204)
    assert delivery.due_at is None


async def test_nothing_is_retried_before_its_pause_is_over(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(503, head="retry-after: 3600\r\n")
    async with dispatching(database, receiver.url):
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


async def test_a_delivery_fails_after_max_attempts_and_is_sent_again_only_on_request(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(*[500] * MAX_ATTEMPTS)
    async with dispatching(database, receiver.url):
        job = await cancelled(database)
        for number in range(1, MAX_ATTEMPTS + 1):
            assert (await receiver.next()).job == str(job.id)
            assert f"attempt {number}: 500" in (outcome := await outcomes.next())
            clock.advance(LATER)
        assert outcome.endswith("failed")
        (delivery,) = await deliveries(database)
        assert (delivery.status, delivery.attempts, delivery.due_at) == (FAILED, MAX_ATTEMPTS, None)

        next_job = await cancelled(database)
        assert (await receiver.next()).job == str(next_job.id)
        await outcomes.next()

        await database.write(webhooks.redeliver, delivery.id)
        assert (await receiver.next()).id == str(delivery.id)
        await outcomes.next()
    assert [delivery.status for delivery in await deliveries(database)] == [DELIVERED, DELIVERED]


@one_kind
async def test_a_receiver_that_responds_410_gets_one_attempt(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(410)
    async with dispatching(database, receiver.url):
        await cancelled(database)
        await receiver.next()
        assert "attempt 1: 410 Status; failed" in await outcomes.next()
    assert [delivery.status for delivery in await deliveries(database)] == [FAILED]


async def test_an_attempt_without_a_result_is_repeated_after_its_lease(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.open.clear()
    async with dispatching(database, receiver.url):
        await cancelled(database)
        lost = await receiver.next()
    (delivery,) = await deliveries(database)
    assert (delivery.status, delivery.attempts) == (PENDING, 1)
    receiver.open.set()
    async with dispatching(database, receiver.url):
        clock.advance(LEASE - timedelta(milliseconds=1))
        other = await cancelled(database)
        assert (await receiver.next()).job == str(other.id)
        await outcomes.next()
        clock.advance(timedelta(milliseconds=1))
        assert (await receiver.next()).id == lost.id
        await outcomes.next()
    # A late result of the lost attempt is refused.
    assert not await database.write(stored.conclude, delivery, {"status": FAILED})
    assert {delivery.status for delivery in await deliveries(database)} == {DELIVERED}


async def test_a_new_endpoint_gets_later_events_and_a_returning_one_those_it_missed(
    database: Database, receiver: Receiver, outcomes: Outcomes
) -> None:
    await cancelled(database)
    async with dispatching(database, receiver.url):
        ended = [await cancelled(database), await cancelled(database, store="new")]
        received = {(await receiver.next()).job for _ in ended}
        for _ in ended:
            await outcomes.next()
    assert received == {str(job.id) for job in ended}

    missed = [await cancelled(database), await cancelled(database, store="newer")]
    async with dispatching(database, f"{receiver.url}/other"):
        pass
    async with dispatching(database, receiver.url, f"{receiver.url}/other"):
        received = {(await receiver.next()).job for _ in missed}
        for _ in missed:
            await outcomes.next()
        both = await cancelled(database)
        targets = {
            (request.target, request.job)
            for request in [await receiver.next(), await receiver.next()]
        }
    assert received == {str(job.id) for job in missed}
    assert targets == {("/hooks", str(both.id)), ("/hooks/other", str(both.id))}


async def test_processes_that_register_the_same_urls_at_once_agree_on_them(
    database: Database,
) -> None:
    urls = [f"https://shop.example/{number}" for number in range(3)]
    await cancelled(database)
    known = await asyncio.gather(
        *(database.write(webhooks.register, urls[number % 2 :]) for number in range(8))
    )
    endpoints = await database.read(stored.known_endpoints, urls)
    assert sorted(endpoints.values()) == urls
    assert all(registered.items() <= endpoints.items() for registered in known)
    assert await database.read(stored.stores_to_record, endpoints.keys(), None) == []


async def test_processes_that_record_the_same_events_at_once_record_each_once(
    database: Database,
) -> None:
    known = await database.write(webhooks.register, ["https://shop.example/"])
    ended = [await cancelled(database) for _ in range(5)]
    for _ in ended:
        # Each process records events that the others have not recorded.
        await asyncio.gather(
            *(
                database.write_bulk(webhooks.create_deliveries, factories.STORE, known, 1)
                for _ in range(4)
            )
        )
    assert [delivery.seq for delivery in await deliveries(database)] == [2, 4, 6, 8, 10]


async def test_a_backlog_of_several_transactions_is_sent_completely(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "MAX_EVENTS", 2)
    monkeypatch.setattr(stored, "MAX_SKIPPED_EVENTS", 3)
    await database.write(webhooks.register, [receiver.url])
    source = await factories.hierarchy(database, {"a": {}})
    for _ in range(8):
        await factories.pending_duplication(database, source)
    ended = [await cancelled(database) for _ in range(5)]
    # The next poll is after the end of this test.
    async with dispatching(database, receiver.url, poll=600):
        received = [(await receiver.next()).job for _ in ended]
    assert Counter(received) == Counter(str(job.id) for job in ended)


async def test_two_processes_on_one_database_send_each_message_once(
    new_database: NewDatabase, receiver: Receiver, outcomes: Outcomes
) -> None:
    url = new_database("postgresql")
    settings = Settings(database_url=url)
    with closing(open_database(settings)) as first, closing(open_database(settings)) as second:
        async with dispatching(first, receiver.url), dispatching(second, receiver.url):
            ended = [await cancelled(first) for _ in range(30)]
            received = [await receiver.next() for _ in ended]
            for _ in ended:
                assert "attempt 1: 204" in await outcomes.next()
        assert receiver.received.empty()
        assert {delivery.attempts for delivery in await deliveries(first)} == {1}
    assert Counter(message.job for message in received) == Counter(str(job.id) for job in ended)
    assert len({message.id for message in received}) == len(ended)


@one_kind
async def test_an_unresponsive_endpoint_does_not_delay_others(
    database: Database, receiver: Receiver
) -> None:
    async with receiving() as stuck:
        stuck.open.clear()
        async with dispatching(database, receiver.url, stuck.url, concurrency=2) as running:
            ended = [await cancelled(database) for _ in range(6)]
            received = [(await receiver.next()).job for _ in ended]
            assert set(received) == {str(job.id) for job in ended}
            assert stuck.connections == 2
            running.stop()


async def test_a_process_sends_only_events_of_the_stores_that_it_runs(
    database: Database, clock: Clock, receiver: Receiver, outcomes: Outcomes
) -> None:
    receiver.will_answer(500)
    async with dispatching(database, receiver.url):
        await cancelled(database, store="theirs")
        await receiver.next()
        await outcomes.next()
    clock.advance(LATER)
    async with dispatching(database, receiver.url, stores=frozenset({"ours"})):
        await cancelled(database, store="theirs")
        ours = await cancelled(database, store="ours")
        assert (await receiver.next()).job == str(ours.id)
        await outcomes.next()
    async with dispatching(database, receiver.url):
        stores = {(await receiver.next()).message["data"]["store"] for _ in range(2)}
        assert stores == {"theirs"}


async def test_deliveries_are_pruned_with_their_events_and_unsent_events_are_logged(
    database: Database,
    clock: Clock,
    receiver: Receiver,
    outcomes: Outcomes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.will_answer(500)
    async with dispatching(database, receiver.url):
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
        async with dispatching(database, receiver.url):
            assert (await receiver.next()).job == str(newer.id)
            await outcomes.next()
    assert "up to 2 events of store default were pruned" in caplog.text


@one_kind
async def test_secrets_stay_out_of_the_log(
    database: Database, receiver: Receiver, outcomes: Outcomes, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.will_answer(500)
    reachable = f"{receiver.url}/PATH-SECRET?token=QUERY-SECRET"
    refused = f"http://127.0.0.3:{receiver.port}/PATH-SECRET"
    with caplog.at_level(logging.DEBUG):
        async with dispatching(database, reachable, refused):
            await cancelled(database)
            lines = await outcomes.next() + await outcomes.next()
    assert ": 500 Status; again" in lines
    assert "connect" in lines
    logged = " ".join(str(vars(record)) for record in caplog.records)
    assert f"http://127.0.0.1:{receiver.port}" in logged
    signature = (await receiver.next()).headers["webhook-signature"]
    for secret in ("PATH-SECRET", "QUERY-SECRET", SECRET, SECRET[6:], signature):
        assert secret not in logged


def bad(**values: str) -> str:
    """The error message of these settings, which hides their values."""
    with pytest.raises(WrongSettings) as wrong:
        read(values)
    assert "HIDDEN" not in str(wrong.value)
    return str(wrong.value)


def test_every_mistake_in_the_settings_is_reported_at_startup() -> None:
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


def test_valid_settings_are_accepted() -> None:
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
async def test_without_webhooks_no_statement_is_about_them(
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
    """Run `jobs-gateway webhooks` on the database of `settings`."""
    options = [*arguments, "--database-url", settings.database_url]
    return await asyncio.to_thread(CliRunner().invoke, cli, ["webhooks", *options])


async def test_the_command_lists_deliveries_and_sends_one_again(
    settings: Settings,
    database: Database,
    clock: Clock,
    receiver: Receiver,
    outcomes: Outcomes,
) -> None:
    receiver.will_answer(410)
    async with dispatching(database, f"{receiver.url}/SECRET"):
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
        redelivered = await command(settings, "--redeliver", gone["id"])
        assert redelivered.exit_code == 0
        # The command uses the real clock.
        clock.advance(LATER)
        assert (await receiver.next()).id == gone["id"]
        assert gone["id"] in await outcomes.next()
    unknown = await command(settings, "--redeliver", str(UUID(int=1)))
    assert (unknown.exit_code, first.target) == (1, "/hooks/SECRET")
    assert unknown.stderr == f"No delivery has the id {UUID(int=1)}.\n"


@one_kind
async def test_a_stopped_gateway_does_not_wait_for_unresponsive_receivers(
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


@one_kind
@pytest.mark.parametrize(
    ("ahead", "claimed"), [(MAX_PAUSE, 0), (MAX_PAUSE + timedelta(minutes=1), 1)]
)
async def test_a_delivery_from_before_the_clock_was_set_back_is_due(
    clocked_database: Database, clock: Clock, ahead: timedelta, claimed: int
) -> None:
    [endpoint] = await clocked_database.write(webhooks.register, ["http://127.0.0.1:9/hooks"])
    source = await factories.hierarchy(clocked_database, {})
    job = await factories.pending_duplication(clocked_database, source)
    await clocked_database.write(jobs.cancel, factories.STORE, job.id)
    clock.advance(ahead)
    await clocked_database.write(webhooks.create_deliveries, factories.STORE, [endpoint], 10)
    clock.advance(-ahead)
    assert len(await clocked_database.read(stored.endpoints_due, [endpoint], None)) == claimed
    assert (await clocked_database.read(sweep_backlog, None)).deliveries == claimed
    attempts = await clocked_database.write(webhooks.claim, endpoint, None, LEASE, 10)
    assert len(attempts) == claimed


@one_kind
async def test_deliveries_are_claimed_in_the_order_in_which_they_became_due(
    database: Database,
) -> None:
    url = "http://127.0.0.1:9/hooks"
    [endpoint] = await database.write(webhooks.register, [url])
    source = await factories.hierarchy(database, {})
    for _ in range(3):
        job = await factories.pending_duplication(database, source)
        await database.write(jobs.cancel, factories.STORE, job.id)
    await database.write(webhooks.create_deliveries, factories.STORE, [endpoint], 10)
    claimed = await database.write(webhooks.claim, endpoint, None, LEASE, 10)
    seqs = [attempt.delivery.seq for attempt in claimed]
    assert len(seqs) == 3
    assert seqs == sorted(seqs)
