"""PostgreSQL as people have it: settings of databases and roles, options of URLs, odd names."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from app.cli.doctor import Verdict, _findings
from app.domain.jobs import JobStatus
from app.main import Gateway
from app.settings import Settings, WrongSettings
from app.storage import jobs
from app.storage.admin.diagnosis import read_only_transaction
from app.storage.engine.connect import connect, parse_url
from app.storage.engine.database import Database, DatabaseReadOnly, UnusableDatabase
from app.storage.engine.postgresql_listener import NOT_LISTENING
from app.storage.engine.postgresql_sessions import SETTINGS, parameters_of, shown_database_url
from app.wiring import check, migrate, open_database
from tests import factories
from tests.support import postgres
from tests.support.clients import GraphQLClient, client_of
from tests.support.databases import NewDatabase
from tests.support.gateway import gateway_of

QUEUE = "{ jobQueue { pending } }"
RESUME = "mutation { resumeQueue { queue { pending } } }"
PAUSE = "mutation { pauseQueue(input: {}) { queue { pending } errors { __typename } } }"

HOSTILE = {
    "datestyle": "SQL, DMY",
    "client_encoding": "LATIN1",
    "timezone": "Asia/Kathmandu",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "transform_null_equals": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "59s",
    "lock_timeout": "59s",
    "idle_session_timeout": "59s",
    "transaction_timeout": "59s",
    "idle_in_transaction_session_timeout": "1h",
}
"""Settings of a database, each of which broke something or could."""


@pytest.fixture
def administer(postgresql_server: str) -> Iterator[Callable[..., None]]:
    """Return a function that executes statements with identifiers on the server."""
    with psycopg.connect(postgres.plain(postgresql_server), autocommit=True) as connection:

        def execute(statement: str, *names: str) -> None:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

        yield execute


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    """A migrated PostgreSQL database of this test."""
    return new_database("postgresql")


def name_of(url: str) -> str:
    name = sa.make_url(url).database
    assert name
    return name


def with_query(url: str, **query: str) -> str:
    changed = sa.make_url(url).update_query_dict(query)
    return changed.render_as_string(hide_password=False)


async def ran_copy(database: Database) -> JobStatus:
    """Copy a small hierarchy, and return the status of its job."""
    source = await factories.hierarchy(database, {"Äpfel": {"b": {}}}, products={"b": ["1"]})
    await factories.pending_duplication(database, source, include_products=True)
    id = await factories.ran_job(database)
    job = await database.read(jobs.by_id, factories.STORE, id)
    assert job
    assert job.completed_at
    assert job.created_at <= job.completed_at
    return job.status


@asynccontextmanager
async def served(url: str, **settings: Any) -> AsyncIterator[tuple[Gateway, GraphQLClient]]:
    async with (
        gateway_of(Settings(database_url=url, port=0, **settings)) as gateway,
        client_of(gateway) as client,
    ):
        yield gateway, client


async def test_settings_of_the_database_do_not_change_what_statements_return(
    url: str, administer: Callable[..., None]
) -> None:
    for name, value in HOSTILE.items():
        administer(f"ALTER DATABASE {{}} SET {name} = '{value}'", name_of(url))
    migrate(Settings(database_url=url), check=False)
    with closing(open_database(Settings(database_url=url))) as database:
        assert await ran_copy(database) is JobStatus.SUCCESS
        with database.write_engine.begin() as connection:
            for name, value, _ in SETTINGS:
                [(present,)] = connection.exec_driver_sql(f"SHOW {name}")
                assert present == value, name
            [(isolation,)] = connection.exec_driver_sql("SHOW transaction_isolation")
            assert isolation == "read committed"
    with read_only_transaction(url) as tx:
        assert tx.now().tzinfo


async def test_a_gateway_works_and_listens_in_spite_of_the_settings_of_its_role(
    url: str, administer: Callable[..., None]
) -> None:
    administer("CREATE ROLE {} LOGIN SUPERUSER", name_of(url))
    for name, value in HOSTILE.items():
        administer(f"ALTER ROLE {{}} SET {name} = '{value}'", name_of(url))
    own = sa.make_url(url).set(username=name_of(url)).render_as_string(hide_password=False)
    async with served(own, runner=False) as (gateway, client), served(own) as (other, _):
        source = await factories.hierarchy(gateway.database, {"a": {}})
        # The other gateway's runner is notified of the job.
        await factories.pending_duplication(gateway.database, source)
        async with asyncio.timeout(60):
            while (await client.data("{ jobs { nodes { status } } }"))["jobs"]["nodes"] != [
                {"status": "SUCCESS"}
            ]:
                pass
        assert other.database.polling_reason is None


@pytest.mark.parametrize("option", ["-csearch_path=mine", "-c search_path=mine -c work_mem=1MB"])
async def test_the_options_of_a_url_are_kept_and_tables_land_in_its_schema(
    option: str, postgresql_server: str
) -> None:
    url = postgres.new_database(postgresql_server)
    with psycopg.connect(postgres.plain(url), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA mine")
    own = with_query(url, options=option, application_name="mine too")
    migrate(Settings(database_url=own), check=False)
    with closing(open_database(Settings(database_url=own))) as database:
        assert await ran_copy(database) is JobStatus.SUCCESS
        with database.read_engine.connect() as connection:
            tables = "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname !~ '^(pg|info)'"
            assert list(connection.exec_driver_sql(tables)) == [("mine",)]
            [(name,)] = connection.exec_driver_sql("SHOW application_name")
            assert name == "mine too"
    with pytest.raises(UnusableDatabase, match="revision none"):
        open_database(Settings(database_url=url))


async def test_blanks_and_punctuation_in_names_and_passwords_do_not_stop_notifications(
    url: str, administer: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    odd = f'it\'s a {name_of(url)} = "100%" \\ &?'
    administer("ALTER DATABASE {} RENAME TO {}", name_of(url), odd)
    parsed = sa.make_url(url).set(database=odd, password=" p a's =\\ %&")
    own = parsed.render_as_string(hide_password=False)
    async with served(own, runner=False) as (one, _), served(own, runner=False) as (other, client):
        notified = asyncio.Event()
        one.database.on_commit(lambda _: notified.set())
        async with asyncio.timeout(30):
            # Until the other gateway listens, notifications are lost.
            while not notified.is_set():
                await client.data(RESUME)
                await asyncio.wait([asyncio.create_task(notified.wait())], timeout=0.05)
        assert (one.database.polling_reason, other.database.polling_reason) == (None, None)
    assert "p a's" not in caplog.text


async def test_a_listener_without_a_connection_is_reported_once_and_without_secrets(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    listen_url = "postgresql://me:s3cret@127.0.0.1:1/none?sslpassword=h1dden"
    caplog.set_level(logging.INFO)
    async with served(url, runner=False, listen_url=listen_url) as (_, client):
        async with asyncio.timeout(30):
            while "notifications" not in (ready := await client.http.get("/readyz")).json():
                pass
        assert ready.status_code == 200
        assert ready.json()["notifications"] == {"status": "polling", "reason": NOT_LISTENING}
    lines = [record.getMessage() for record in caplog.records if NOT_LISTENING in record.message]
    assert len(lines) == 1
    assert "me:***@127.0.0.1:1/none" in lines[0]
    assert "s3cret" not in caplog.text
    assert "h1dden" not in caplog.text


@pytest.mark.parametrize(
    ("database_url", "listen_url"),
    [
        ("sqlite:///some.db", "postgresql://db.example/catalogue"),
        ("postgresql://db.example/catalogue", "sqlite:///some.db"),
        ("postgresql://db.example/catalogue", "http://db.example"),
    ],
)
def test_only_postgresql_has_a_listen_url(database_url: str, listen_url: str) -> None:
    with pytest.raises(WrongSettings) as wrong:
        check(Settings(database_url=database_url, listen_url=listen_url))
    assert [mistake.settings for mistake in wrong.value.mistakes] == [("listen_url",)]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_an_encoding_without_all_characters_is_refused_in_one_line(
    encoding: str, postgresql_server: str, administer: Callable[..., None]
) -> None:
    name = f"encoded_{encoding}".lower()
    administer(f"CREATE DATABASE {{}} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'", name)
    url = postgres.renamed(postgresql_server, name)
    settings = Settings(database_url=url)
    for use in (lambda: migrate(settings, check=False), lambda: open_database(settings)):
        with pytest.raises(UnusableDatabase) as refused:
            use()
        assert f"has the encoding {encoding}" in str(refused.value)
        assert "\n" not in str(refused.value)
    problems = [str(found) for found in _findings({"database_url": url})]
    assert any("cannot store every character" in problem for problem in problems)


async def test_a_read_only_database_serves_reads_and_refuses_changes_with_its_own_code(
    url: str, administer: Callable[..., None]
) -> None:
    administer("ALTER DATABASE {} SET default_transaction_read_only = on", name_of(url))
    async with served(url) as (gateway, client):
        ready = await client.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["database"] == {
            "status": "unavailable",
            "reason": "It is set read-only.",
        }
        assert (await client.data(QUEUE))["jobQueue"] == {"pending": 0}
        refusal = await client.refusal(PAUSE)
        assert refusal["extensions"]["code"] == "DATABASE_READ_ONLY"
        assert refusal["message"].startswith("The database is set read-only now.")
        rest = await client.http.post(
            "/pcm/hierarchies", json={"data": {"type": "hierarchy", "attributes": {"name": "a"}}}
        )
        assert rest.status_code == 503, rest.text
        with pytest.raises(DatabaseReadOnly):
            await factories.hierarchy(gateway.database, {})
    findings = [found for found in _findings({"database_url": url}) if found.about == "database"]
    assert [found.text for found in findings if found.verdict is Verdict.PROBLEM] == [
        "The database is set read-only."
    ]


def test_a_migration_of_a_read_only_database_is_refused_in_one_line(
    postgresql_server: str, administer: Callable[..., None]
) -> None:
    url = postgres.new_database(postgresql_server)
    administer("ALTER DATABASE {} SET default_transaction_read_only = on", name_of(url))
    with pytest.raises(UnusableDatabase, match="read-only transaction") as refused:
        migrate(Settings(database_url=url), check=False)
    assert "\n" not in str(refused.value)


def test_secrets_of_a_url_are_not_shown() -> None:
    url = parse_url("postgresql://me:s3cret@host/db?password=s3cret&sslpassword=s3cret&sslmode=no")
    assert shown_database_url(url) == (
        "postgresql+psycopg://me:***@host/db?sslmode=no&sslpassword=***"
    )
    with closing(connect("postgresql://me:s3cret@host/db?password=s3cret")) as database:
        assert "s3cret" not in database.name


def test_parameters_of_a_url_replace_the_gateways_but_not_the_encoding() -> None:
    parameters = parameters_of(
        parse_url(
            "postgresql://me@a:1/db?host=b:2&host=c&connect_timeout=9&client_encoding=latin1"
            "&application_name=mine&options=-csearch_path%3Dmine"
        )
    )
    assert parameters["connect_timeout"] == "9"
    assert parameters["application_name"] == "mine"
    assert parameters["options"] == "-csearch_path=mine"
    assert parameters["client_encoding"] == "UTF8"
    assert parameters["keepalives_idle"] == 10
