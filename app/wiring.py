"""Turns settings into parts: database, GraphQL service, application, dispatchers, listener."""

import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from opentelemetry.trace import Tracer
from starlette.types import ASGIApp

from app import queue, webhooks
from app.api.app import Lifespan, create_app
from app.api.auth.access import Access
from app.api.auth.identity import Authentication, BearerTokens, ClaimNames, OpenAccess, mint
from app.api.auth.jwks import JwksKeys, SharedSecret, TokenKeys
from app.api.auth.login import ClientLogin, Login, NoLogin, OpenLogin
from app.api.auth.registered_clients import ClientRegistry, UnusableClients
from app.api.auth.throttle import Throttle
from app.api.graphql.admission.documents import Documents
from app.api.graphql.admission.trusted import UnusableDocuments, trusted_documents
from app.api.graphql.executor import Executor
from app.api.graphql.schema import graphql_schema
from app.api.graphql.service import GraphQLService
from app.api.http.readiness import UnhealthyReason
from app.domain.display import shown_url
from app.domain.jobs import JobType
from app.domain.proxies import is_loopback
from app.domain.webhooks import checked_network, signing_keys
from app.observability.tracing import start_tracing
from app.queue.handler import Dependencies, Handler
from app.queue.handlers import find_handlers
from app.services.feed import Feed
from app.settings import Mistake, Settings, WrongSettings
from app.storage.engine.connect import connect, parse_url
from app.storage.engine.database import Database, UnusableDatabase
from app.storage.migrations import check_known, newest_revision, revision_of, upgrade

T = TypeVar("T")

LOOPBACK_NAMES = "127.0.0.1", "localhost", "[::1]"
"""Host names accepted on loopback. Any other name that resolves to it is DNS rebinding."""


class StartError(Exception):
    """The process cannot start with these settings: one sentence on what to change."""


def open_database(settings: Settings) -> Database:
    """Connect to the database; create or migrate it first if it is embedded (SQLite).

    Raises UnusableDatabase, also for a PostgreSQL database at another revision.
    """
    database = connect(settings.database_url, listen_url=settings.listen_url)
    try:
        database.check_usable()
        if database.embedded:
            upgrade(database)
        elif (revision := revision_of(database)) != (newest := newest_revision()):
            check_known(database, revision)
            raise UnusableDatabase(
                f"The database {database.name} is at revision {revision or 'none'}, and this "
                f"version works with {newest}. Run `jobs-gateway migrate` first."
            )
    except UnusableDatabase:
        database.close()
        raise
    return database


def migrate(settings: Settings, *, check: bool) -> tuple[str | None, str]:
    """Bring the database to the newest revision. Return the previous and the newest revision.

    `check` changes nothing. Raises UnusableDatabase.
    """
    database = connect(settings.database_url)
    try:
        database.check_usable()
        before = revision_of(database)
        check_known(database, before)
        if not check:
            upgrade(database)
        return before, newest_revision()
    finally:
        database.close()


@contextmanager
def tracing(database: Database) -> Iterator[Tracer | None]:
    """Start OpenTelemetry, with spans of database statements. Yield None without an exporter."""
    tracing = start_tracing()
    if tracing is None:
        yield None
        return
    database.trace(tracing.tracer)
    try:
        yield tracing.tracer
    finally:
        tracing.stop()


def graphql_service(
    settings: Settings,
    authentication: Authentication,
    documents: Documents,
    database: Database,
    feed: Feed,
    tracer: Tracer | None,
) -> GraphQLService:
    """The GraphQL service, with the authentication and documents that `check` returned."""
    return GraphQLService(
        Access(authentication, Throttle(settings), settings),
        documents,
        Executor(database, feed, settings, tracer, plans=settings.plans),
    )


def gateway_app(
    settings: Settings,
    database: Database,
    service: GraphQLService,
    lifespan: Lifespan,
    *,
    login: Login,
    hosts: Collection[str] | None,
    runner: UnhealthyReason | None,
    tracer: Tracer | None,
) -> ASGIApp:
    """The gateway's ASGI application. `runner` reports on the queue if it runs in this process."""
    return create_app(
        database,
        service,
        lifespan,
        login=login,
        hosts=hosts,
        origins=sorted(settings.origins),
        cors_headers=sorted(settings.cors_headers),
        playground=settings.shows_playground,
        console=settings.shows_console,
        openapi=settings.introspection,
        metrics=settings.shows_metrics,
        runner=runner,
        tracer=tracer,
    )


def allowed_hosts(settings: Settings, listener: socket.socket) -> Collection[str] | None:
    """The host names of this machine if it is the only one to serve, else None."""
    if is_loopback(settings.host) and not settings.authenticated and not settings.insecure:
        return [*LOOPBACK_NAMES, listener.getsockname()[0]]
    # With authentication a rebound page has no token; without it, --insecure accepts every client.
    return None


def job_dispatcher(
    settings: Settings,
    database: Database,
    tracer: Tracer | None,
    handlers: Mapping[JobType, Handler] | None = None,
) -> queue.Dispatcher:
    """The dispatcher of jobs, with the handlers of this package unless others are passed."""
    return queue.Dispatcher(
        database,
        find_handlers(Dependencies(database)) if handlers is None else handlers,
        stores=settings.stores or None,
        lease=timedelta(seconds=settings.lease_seconds),
        time_limit=timedelta(seconds=settings.time_limit_seconds),
        retention=timedelta(days=settings.retention_days) if settings.retention_days else None,
        concurrency=settings.concurrency,
        tracer=tracer,
    )


def webhook_dispatcher(settings: Settings, database: Database) -> webhooks.Dispatcher:
    """The dispatcher of webhooks. `settings.webhook_secret` must be set."""
    assert settings.webhook_secret
    return webhooks.Dispatcher(
        database,
        settings.webhooks,
        signing_keys(settings.webhook_secret.get_secret_value()),
        webhooks.Sender([checked_network(network) for network in settings.webhook_networks]),
        stores=settings.stores or None,
    )


def check(settings: Settings) -> tuple[Authentication, Login, Documents]:
    """Build the parts that can reveal mistakes in settings, before anything is opened.

    Raises WrongSettings with all mistakes.
    """
    mistakes: list[Mistake] = []

    def collect(build: Callable[[Settings], T]) -> T | None:
        try:
            return build(settings)
        except WrongSettings as error:
            mistakes.extend(error.mistakes)
            return None

    authentication, login = collect(_authentication), collect(_login)
    documents = collect(_documents)
    collect(_check_exposure)
    collect(_check_database_urls)
    if authentication is None or login is None or documents is None or mistakes:
        raise WrongSettings(mistakes)
    return authentication, login, documents


def _authentication(settings: Settings) -> Authentication:
    secret, locations, issuers = settings.jwt_secret, settings.jwks, settings.jwt_issuer
    keys: list[TokenKeys] = []
    mistakes: list[Mistake] = []
    try:
        keys += [] if secret is None else [SharedSecret(secret.get_secret_value())]
    except ValueError as error:
        mistakes.append(Mistake(("jwt_secret",), str(error)))
    for location in locations:
        try:
            keys.append(JwksKeys(location, max_age_seconds=settings.jwks_max_age_seconds))
        except ValueError as error:
            mistakes.append(Mistake(("jwks",), str(error)))
    if secret is not None and locations:
        both = "Tokens are signed in one of two ways: set one, not both."
        mistakes.append(Mistake(("jwt_secret", "jwks"), both))
    if len(locations) > 1 and len(locations) != len(issuers):
        uneven = (
            f"There are {len(locations)} key sets for {len(issuers)} issuers: name one for all of "
            "them, or one for each in the same order."
        )
        mistakes.append(Mistake(("jwks", "jwt_issuer"), uneven))
    if mistakes:
        raise WrongSettings(mistakes)
    if not keys:
        return OpenAccess(settings.store)
    return BearerTokens(
        dict(zip(issuers, keys if len(keys) > 1 else keys * len(issuers), strict=True)),
        audiences=settings.jwt_audience,
        names=claim_names(settings),
    )


def claim_names(settings: Settings) -> ClaimNames:
    """The names of claims that issuers call differently."""
    return ClaimNames(settings.jwt_scope_claim, settings.jwt_store_claim)


def _login(settings: Settings) -> Login:
    secret, path = settings.jwt_secret, settings.clients
    if path is None:
        if not settings.authenticated:
            return OpenLogin(settings.store)
        return NoLogin(
            "The issuer of the tokens for this gateway is another server: log in there."
            if secret is None
            else "This gateway has no list of clients: its operator sets JOBS_GATEWAY_CLIENTS."
        )
    if secret is None:
        message = (
            "The tokens of these clients are signed with JOBS_GATEWAY_JWT_SECRET: set it, to a "
            "secret from `openssl rand -hex 32`."
        )
        raise WrongSettings([Mistake(("clients",), message, depends_on=("jwt_secret", "jwks"))])
    try:
        sign = partial(
            mint,
            secret.get_secret_value(),
            issuer=settings.jwt_issuer[0],
            audience=settings.jwt_audience[0],
            names=claim_names(settings),
        )
        return ClientLogin(ClientRegistry(path), sign)
    except UnusableClients as error:
        raise WrongSettings([Mistake(("clients",), _with_shown_path(error, path))]) from None


def _documents(settings: Settings) -> Documents:
    path = settings.trusted_documents
    if settings.only_trusted and path is None:
        raise WrongSettings(
            [Mistake(("only_trusted",), "Without trusted documents nothing could be run.")]
        )
    try:
        return Documents(
            graphql_schema,
            settings,
            introspection=settings.introspection,
            suggestions=settings.suggestions,
            trusted=trusted_documents(path) if path else None,
            only_trusted=settings.only_trusted,
        )
    except UnusableDocuments as error:
        message = _with_shown_path(error, path) if path else str(error)
        raise WrongSettings([Mistake(("trusted_documents",), message)]) from None


def _with_shown_path(error: Exception, path: Path) -> str:
    """Return the message of an error. The path may be a URL by mistake, with a password in it."""
    return str(error).replace(str(path), shown_url(str(path)))


def _check_exposure(settings: Settings) -> None:
    """Refuse to listen beyond this machine without authentication, unless `insecure` is set."""
    if not (is_loopback(settings.host) or settings.authenticated or settings.insecure):
        raise WrongSettings(
            [
                Mistake(
                    ("host",),
                    f"{shown_url(settings.host)} can be reached from other machines, and no "
                    "authentication is set up: anyone there could read and change everything. Set "
                    "JOBS_GATEWAY_JWT_SECRET or JOBS_GATEWAY_JWKS, or listen on 127.0.0.1, or take "
                    "the risk with --insecure.",
                    depends_on=("insecure", "jwt_secret", "jwks"),
                )
            ]
        )


def _check_database_urls(settings: Settings) -> None:
    names = ("database_url", *(["listen_url"] if settings.listen_url else []))
    mistakes = []
    parsed = []
    for name in names:
        try:
            parsed.append(parse_url(getattr(settings, name)))
        except UnusableDatabase as error:
            mistakes.append(Mistake((name,), str(error)))
    if len(parsed) == 2 and any(url.get_backend_name() != "postgresql" for url in parsed):
        message = "Only processes on a PostgreSQL database listen, at a URL of that database."
        mistakes.append(Mistake(("listen_url",), message, depends_on=("database_url",)))
    if mistakes:
        raise WrongSettings(mistakes)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 picks a free one. Raises StartError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        # Python adds the address, which may be a URL by mistake, with a password in it.
        reason = str(error.strerror).partition(" (while attempting")[0]
        raise StartError(
            f"Cannot listen on {shown_url(host)}:{port}: {reason}. Choose another host or port."
        ) from error
    listener.set_inheritable(False)
    return listener


def listener_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
