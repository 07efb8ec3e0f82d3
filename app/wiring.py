"""From settings to parts: database, authentication, documents, dispatchers."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import (
    contextmanager,
)
from datetime import timedelta
from typing import TypeVar

from opentelemetry.trace import Tracer

from app.api.auth.identity import Authentication, BearerTokens, OpenAccess
from app.api.auth.jwks import JwksKeys, SharedSecret, TokenKeys
from app.api.graphql.admission.documents import Documents
from app.api.graphql.admission.trusted import UnusableDocuments, trusted_documents
from app.api.graphql.schema import graphql_schema
from app.api.http.origins import is_loopback
from app.domain.jobs import JobType
from app.domain.webhooks import checked_network, signing_keys
from app.observability.tracing import start_tracing
from app.queue.dispatcher import Dispatcher
from app.queue.handlers import Handler, find_handlers
from app.settings import Mistake, Settings, WrongSettings
from app.storage.engine.connect import checked_url, connect
from app.storage.engine.database import Database, UnusableDatabase
from app.storage.migrations import newest_revision, revision_of, upgrade
from app.webhooks import dispatcher as webhooks
from app.webhooks.sender import Sender

T = TypeVar("T")


class StartError(Exception):
    """The server can't be started as it was told to: one sentence on what to change."""


def open_database(settings: Settings) -> Database:
    """The database, made and migrated to the newest revision where it is the embedded one.

    Raises UnusableDatabase, also for one that somebody has yet to migrate.
    """
    database = connect(settings.database_url)
    try:
        if database.embedded:
            upgrade(database)
        elif (revision := revision_of(database)) != (newest := newest_revision()):
            raise UnusableDatabase(
                f"The database {database.name} is at revision {revision or 'none'}, and this "
                f"version works with {newest}. Run `jobs-gateway migrate` first."
            )
    except UnusableDatabase:
        database.close()
        raise
    return database


def migrate(settings: Settings, *, check: bool) -> tuple[str | None, str]:
    """Bring the database to the newest revision; the one it was at, and the newest. With `check`
    nothing is changed. Raises UnusableDatabase."""
    database = connect(settings.database_url)
    try:
        before = revision_of(database)
        if not check:
            upgrade(database)
        return before, newest_revision()
    finally:
        database.close()


@contextmanager
def tracing(database: Database) -> Iterator[Tracer | None]:
    """What makes spans, of the database's statements too, if they go anywhere."""
    tracing = start_tracing()
    if tracing is None:
        yield None
        return
    database.trace(tracing.tracer)
    try:
        yield tracing.tracer
    finally:
        tracing.stop()


def job_dispatcher(
    settings: Settings,
    database: Database,
    tracer: Tracer | None,
    handlers: Mapping[JobType, Handler] | None = None,
) -> Dispatcher:
    return Dispatcher(
        database,
        find_handlers() if handlers is None else handlers,
        stores=settings.stores or None,
        lease=timedelta(seconds=settings.lease_seconds),
        time_limit=timedelta(seconds=settings.time_limit_seconds),
        keep=timedelta(days=settings.retention_days) if settings.retention_days else None,
        concurrency=settings.concurrency,
        tracer=tracer,
    )


def webhook_dispatcher(settings: Settings, database: Database) -> webhooks.Dispatcher:
    assert settings.webhook_secret
    return webhooks.Dispatcher(
        database,
        settings.webhooks,
        signing_keys(settings.webhook_secret.get_secret_value()),
        Sender([checked_network(network) for network in settings.webhook_networks]),
        stores=settings.stores or None,
    )


def check(settings: Settings) -> tuple[Authentication, Documents]:
    """Who may ask and what is run. Raises WrongSettings with every mistake in the settings that
    shows only as they are put to use."""
    mistakes: list[Mistake] = []

    def tried(make: Callable[[Settings], T]) -> T | None:
        try:
            return make(settings)
        except WrongSettings as error:
            mistakes.extend(error.mistakes)
            return None

    authentication, documents = tried(_authentication), tried(_documents)
    tried(_reached)
    tried(_kept)
    if authentication is None or documents is None or mistakes:
        raise WrongSettings(mistakes)
    return authentication, documents


def _authentication(settings: Settings) -> Authentication:
    secret, jwks = settings.jwt_secret, settings.jwks
    keys: list[TokenKeys] = []
    mistakes: list[Mistake] = []
    try:
        keys += [] if secret is None else [SharedSecret(secret.get_secret_value())]
    except ValueError as error:
        mistakes.append(Mistake(("jwt_secret",), str(error)))
    try:
        keys += [] if jwks is None else [JwksKeys(jwks)]
    except ValueError as error:
        mistakes.append(Mistake(("jwks",), str(error)))
    if secret is not None and jwks is not None:
        both = "Tokens are signed in one of two ways: set one, not both."
        mistakes.append(Mistake(("jwt_secret", "jwks"), both))
    if mistakes:
        raise WrongSettings(mistakes)
    if not keys:
        return OpenAccess(settings.store)
    return BearerTokens(keys[0], issuer=settings.jwt_issuer, audience=settings.jwt_audience)


def _documents(settings: Settings) -> Documents:
    place = settings.trusted_documents
    if settings.only_trusted and place is None:
        raise WrongSettings(
            [Mistake(("only_trusted",), "Without trusted documents nothing could be run.")]
        )
    try:
        return Documents(
            graphql_schema,
            settings,
            introspection=settings.introspection,
            suggestions=settings.suggestions,
            trusted=trusted_documents(place) if place else None,
            only_trusted=settings.only_trusted,
        )
    except UnusableDocuments as error:
        raise WrongSettings([Mistake(("trusted_documents",), str(error))]) from None


def _reached(settings: Settings) -> None:
    if not (is_loopback(settings.host) or settings.authenticated or settings.insecure):
        raise WrongSettings(
            [
                Mistake(
                    ("host",),
                    f"{settings.host} can be reached from other machines, and no authentication is "
                    "set up: anybody there could read and change everything. Set "
                    "JOBS_GATEWAY_JWT_SECRET or JOBS_GATEWAY_JWKS, or listen on 127.0.0.1, or take "
                    "the risk with --insecure.",
                    depends_on=("insecure", "jwt_secret", "jwks"),
                )
            ]
        )


def _kept(settings: Settings) -> None:
    try:
        checked_url(settings.database_url)
    except UnusableDatabase as error:
        raise WrongSettings([Mistake(("database_url",), str(error))]) from None


def listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise StartError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another host or port."
        ) from error
    listener.set_inheritable(False)
    return listener


def listener_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
