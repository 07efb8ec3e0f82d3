"""Connections to PostgreSQL: their parameters, and the settings that the gateway relies on.

Databases and roles have settings of their own, such as a date style, and a URL can have `options`:
those of the gateway are set by SET after connecting, which keeps the others, and which poolers
accept. Through a pooler the next transaction can run in another session: there they are set with
SET LOCAL, after each BEGIN, and statements are not prepared.
"""

from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa

CONNECT_SECONDS = 5
IDLE_IN_TRANSACTION_SECONDS = 5
"""After this idle time inside a transaction the server ends a connection and releases its locks. A
process stopped at this point would block its stores' queues forever."""

Parameters = dict[str, Any]
"""Connection parameters of libpq. Any: type checkers match ** to every other parameter too."""

Session = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

_DEFAULTS: Parameters = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "jobs-gateway",
    # A server that disappeared without closing the connection is detected within 20 seconds.
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Parameters that a URL can replace."""

_REQUIRED: Parameters = {"client_encoding": "UTF8"}

_SECRETS = ("password", "sslpassword", "oauth_client_secret")
"""Parameters of a URL that are never shown."""


class Setting(NamedTuple):
    """A setting of a session, for servers of a major version or later."""

    name: str
    value: str
    since: int = 0


SETTINGS = (
    # The text of values.
    Setting("timezone", "UTC"),
    Setting("datestyle", "ISO, MDY"),
    Setting("intervalstyle", "postgres"),
    Setting("bytea_output", "hex"),
    Setting("extra_float_digits", "1"),
    # The meaning of statements.
    Setting("standard_conforming_strings", "on"),
    Setting("transform_null_equals", "off"),
    Setting("array_nulls", "on"),
    # Hidden rows would be missing jobs: a policy that hides some is an error.
    Setting("row_security", "off"),
    # Limits for interactive use would end migrations and chunks of copies.
    Setting("statement_timeout", "0"),
    Setting("lock_timeout", "0"),
    Setting("transaction_timeout", "0", since=17),
    Setting("idle_in_transaction_session_timeout", f"{IDLE_IN_TRANSACTION_SECONDS}s"),
)
"""Settings that decide what statements do and return. The others stay those of the user."""

_OF_CONNECTIONS = (Setting("idle_session_timeout", "0"),)
"""Settings of a connection rather than of its transactions: a pooler has its own."""


def parameters_of(url: sa.URL) -> Parameters:
    """Return the parameters of a connection to `url`."""
    _, parameters = url.get_dialect()().create_connect_args(url)
    return {**parameters, **added_parameters(url)}


def added_parameters(url: sa.URL) -> Parameters:
    """Return the parameters that are not the URL's own."""
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in url.query}
    return {**defaults, **_REQUIRED}


def shown_database_url(url: sa.URL) -> str:
    """Return a URL for logs and messages, without secrets."""
    query = {name: "***" if name in _SECRETS else value for name, value in url.query.items()}
    # Asterisks are escaped by the rendering.
    return url.set(query=query).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


class SessionSettings:
    """The statements that give a connection's sessions and transactions their settings."""

    def __init__(self, settings: tuple[Setting, ...] = SETTINGS) -> None:
        self._settings = settings

    def of_session(self, server_version: int) -> str:
        """Return the statements for a connection that has a session of its own."""
        return self._statements("SET", server_version, self._settings + _OF_CONNECTIONS)

    def of_transaction(self, server_version: int) -> str:
        """Return the statements for each transaction of a connection to a pooler."""
        return self._statements("SET LOCAL", server_version, self._settings)

    @staticmethod
    def _statements(command: str, server_version: int, settings: tuple[Setting, ...]) -> str:
        major = server_version // 10_000
        return ";".join(
            f"{command} {name} = '{value}'" for name, value, since in settings if since <= major
        )


def is_pooled(session: Session, backend_pid: int) -> bool:
    """Return True for a connection to a pooler, where statements run in process `backend_pid`.

    A pooler invents the process id that it sends at the start, for it has no process per client.
    """
    return session.info.backend_pid != backend_pid


BACKEND_PID = "SELECT pg_backend_pid()"


def prepare_connections(engine: sa.Engine, settings: SessionSettings) -> None:
    """Give every connection of an engine its settings."""

    def on_connect(
        connection: psycopg.Connection[Any], record: sa.pool.ConnectionPoolEntry
    ) -> None:
        connection.autocommit = True
        [(backend_pid,)] = connection.execute(BACKEND_PID).fetchall()
        version = connection.info.server_version
        if is_pooled(connection, backend_pid):
            # A prepared statement exists in one session only.
            connection.prepare_threshold = None
            record.info[_TRANSACTION_SETTINGS] = settings.of_transaction(version)
        else:
            connection.execute(settings.of_session(version))
        connection.autocommit = False

    def on_begin(connection: sa.Connection) -> None:
        if statements := connection.info.get(_TRANSACTION_SETTINGS):
            connection.exec_driver_sql(statements)

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)


_TRANSACTION_SETTINGS = "transaction settings"
"""Key of a pooled connection's statements in its `info`."""
