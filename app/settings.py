"""Settings of the server; no other module reads the values of their variables."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.api.auth.limits import Limits
from app.domain.display import shown_url
from app.domain.errors import InvalidInput
from app.domain.job_times import MAX_LEASE
from app.domain.proxies import is_loopback
from app.domain.stores import ORGANIZATION, checked_store
from app.domain.webhooks import checked_network, checked_url, signing_keys

PREFIX = "JOBS_GATEWAY_"

_CLIENT_VARIABLES = ("JOBS_GATEWAY_URL", "JOBS_GATEWAY_TOKEN")
"""Variables of the commands that call a gateway."""

MAX_WEBHOOKS = 16
"""URLs, because each adds a delivery per job."""

_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token of RFC 9110, 5.6.2."""


class _Group(BaseModel):
    """A group of settings; the name of its class is its heading in `--help`."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class NetworkSettings(_Group):
    """The server's address, and the web pages that may call it."""

    host: str = "127.0.0.1"
    """Address to listen on; other than loopback it requires authentication or --insecure."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    origins: Annotated[frozenset[str], NoDecode] = frozenset()
    """Origins whose web pages may call the gateway (comma-separated)."""
    cors_headers: Annotated[frozenset[str], NoDecode] = frozenset()
    """Request headers that web pages of these origins may send, besides those of widespread clients
    (comma-separated)."""
    socket_ping_seconds: float = Field(20, gt=0)
    """Seconds between pings of a WebSocket, and the time limit for each pong."""


class DatabaseSettings(_Group):
    """The database."""

    database_url: str = Field("sqlite:///jobs-gateway.db", validation_alias="DATABASE_URL")
    """SQLite file, created and migrated at start, or PostgreSQL database. `ps` shows flags to other
    users: put a password into the variable, or PGPASSFILE."""
    listen_url: str | None = None
    """The same PostgreSQL database without its pooler, for LISTEN. If the pooler lends a session
    per transaction, changes of other processes are otherwise noticed by polling."""


class QueueSettings(_Group):
    """The job queue."""

    runner: bool = True
    """Run jobs in this process."""
    stores: Annotated[frozenset[str], NoDecode] = frozenset()
    """Stores whose jobs this process runs (comma-separated); all stores if empty."""
    concurrency: int = Field(8, ge=1, le=64)
    """Jobs that run at the same time, at most one per store."""
    lease_seconds: float = Field(30, ge=1, le=MAX_LEASE.total_seconds())
    """Seconds without a heartbeat after which another worker takes over the job."""
    time_limit_seconds: float = Field(3600, ge=1)
    """Seconds without a finished step after which a job fails."""
    retention_days: int = Field(30, ge=0, le=36_500)
    """Days that ended jobs and all events are kept; 0 keeps them forever."""


class WebhooksSettings(_Group):
    """Notifications of ended jobs."""

    # Before the URLs, whose validation needs both.
    webhook_secret: SecretStr | None = None
    """Secret that signs webhooks, from `echo "whsec_$(openssl rand -base64 32)"`; during rotation
    the new and the old one, separated by a comma."""
    webhook_networks: Annotated[frozenset[str], NoDecode] = frozenset()
    """Private networks that webhooks may be sent to, also by http, such as 10.0.0.0/8
    (comma-separated)."""
    webhooks: Annotated[frozenset[str], NoDecode] = frozenset()
    """Webhook URLs notified when a job of this process's stores ends (comma-separated, at most
    16)."""


class AuthenticationSettings(_Group):
    """Authentication of callers."""

    store: str = Field("default", min_length=1, max_length=255)
    """Store of all requests without authentication."""
    insecure: bool = False
    """Without authentication, serve other machines too: on a host other than loopback, for other
    host names, and through proxies."""
    jwt_secret: SecretStr | None = None
    """Secret that signs bearer tokens (HS256), at least 32 bytes: `openssl rand -hex 32`."""
    jwks: Annotated[tuple[str, ...], NoDecode] = ()
    """File or https URL of the key set that verifies bearer tokens (RS256, ES256); with several
    issuers, one for all or one per issuer in the same order (comma-separated)."""
    jwks_max_age_seconds: float = Field(3600, ge=60)
    """Age after which no key is accepted: the longest that a withdrawn key is valid while its
    issuer does not answer."""
    jwt_issuer: Annotated[tuple[str, ...], NoDecode] = Field(("jobs-gateway",), min_length=1)
    """Issuers whose tokens are accepted, as in their `iss` (comma-separated)."""
    jwt_audience: Annotated[tuple[str, ...], NoDecode] = Field(("jobs-gateway",), min_length=1)
    """Audiences of which a token must have one in its `aud` (comma-separated)."""
    jwt_scope_claim: Annotated[tuple[str, ...], NoDecode] = Field(
        ("scope", "scopes", "scp"), min_length=1
    )
    """Claims that may hold a token's scopes, of which the first present one counts; dots lead into
    objects (comma-separated)."""
    jwt_store_claim: str = Field("store", min_length=1)
    """Claim that names a token's store; dots lead into objects."""
    clients: Path | None = None
    """File of the clients that may log in for tokens at /oauth/access_token, written by
    `jobs-gateway client`."""


class SurfaceSettings(_Group):
    """Web pages, schema and operations that clients can use."""

    playground: bool | None = None
    """Serve the playground to browsers; by default only on loopback."""
    console: bool | None = None
    """Serve the console to browsers; by default only on loopback."""
    introspection: bool = True
    """Let clients query the schema."""
    suggestions: bool = True
    """Suggest similar names for unknown ones in errors."""
    trusted_documents: Path | None = None
    """Folder of .graphql files, or JSON file of documents by SHA-256, that clients select by
    `documentId` or Apollo's `persistedQuery`."""
    only_trusted: bool = False
    """Refuse all other documents."""
    plans: bool = True
    """Execute queries by compiled plans, as fast as hand-written routes."""


class ObservabilitySettings(_Group):
    """Metrics and logs of the process."""

    metrics: bool | None = None
    """Serve /metrics, which names no store; by default only on loopback."""
    worker_port: int | None = Field(None, ge=0, le=65535)
    """Port on which a worker serves /healthz, /readyz and /metrics at host; none by default, 0
    picks a free one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of lines logged to standard error."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """Format of log lines; auto is console on a terminal, else json."""


class Settings(
    BaseSettings,
    Limits,
    ObservabilitySettings,
    SurfaceSettings,
    AuthenticationSettings,
    WebhooksSettings,
    QueueSettings,
    DatabaseSettings,
    NetworkSettings,
):
    """All settings, from JOBS_GATEWAY_* (and DATABASE_URL) or from flags, which take precedence.

    A setting is a field of a group. Its flag, its help and its line in docs/reference/settings.md
    are generated from the field.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, populate_by_name=True, use_attribute_docstrings=True
    )

    @field_validator(
        "stores", "origins", "cors_headers", "webhooks", "webhook_networks", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("jwks", "jwt_issuer", "jwt_audience", "jwt_scope_claim", mode="before")
    @classmethod
    def _split_in_order(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str):
            names = [name.strip() for name in value.split(",") if name.strip()]
            # Two of three issuers may share a key set.
            return tuple(names if info.field_name == "jwks" else dict.fromkeys(names))
        return value

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, origins: frozenset[str]) -> frozenset[str]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"'{shown_url(origin)}' is not an origin such as https://shop.example"
                )
        return origins

    @field_validator("cors_headers")
    @classmethod
    def _check_headers(cls, headers: frozenset[str]) -> frozenset[str]:
        for header in headers:
            if not _HEADER.fullmatch(header):
                raise ValueError(
                    f"'{shown_url(header)}' is not the name of a header, such as X-Team"
                )
        return headers

    @field_validator("stores")
    @classmethod
    def _check_stores(cls, stores: frozenset[str]) -> frozenset[str]:
        with _as_value_error():
            for store in sorted(stores - {ORGANIZATION}):
                checked_store(store)
        return stores

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str) -> str:
        with _as_value_error():
            checked_store(store)
        return store

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            with _as_value_error():
                signing_keys(secret.get_secret_value())
        return secret

    @field_validator("webhook_networks")
    @classmethod
    def _check_webhook_networks(cls, networks: frozenset[str]) -> frozenset[str]:
        with _as_value_error():
            for network in networks:
                checked_network(network)
        return networks

    @field_validator("webhooks")
    @classmethod
    def _check_webhooks(cls, urls: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        if len(urls) > MAX_WEBHOOKS:
            raise ValueError(f"There are {len(urls)} URLs; at most {MAX_WEBHOOKS} are allowed.")
        if urls and info.data.get("webhook_secret", "wrong") is None:
            raise ValueError("Webhooks are signed: set JOBS_GATEWAY_WEBHOOK_SECRET.")
        # Invalid networks are reported by themselves; the URLs cannot be checked against them.
        if "webhook_networks" in info.data:
            networks = [checked_network(network) for network in info.data["webhook_networks"]]
            errors = []
            for url in sorted(urls):
                try:
                    checked_url(url, networks)
                except InvalidInput as error:
                    errors.append(str(error))
            if errors:
                raise ValueError(" ".join(errors))
        return urls

    @property
    def shows_playground(self) -> bool:
        """True if browsers get the playground."""
        return is_loopback(self.host) if self.playground is None else self.playground

    @property
    def shows_console(self) -> bool:
        """True if browsers get the console."""
        return is_loopback(self.host) if self.console is None else self.console

    @property
    def shows_metrics(self) -> bool:
        """True if every client that reaches the process may read its metrics."""
        return is_loopback(self.host) if self.metrics is None else self.metrics

    @property
    def authenticated(self) -> bool:
        """True if requests need a bearer token."""
        return self.jwt_secret is not None or bool(self.jwks)


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Convert InvalidInput to the error that pydantic expects."""
    try:
        yield
    except InvalidInput as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in one or more settings, which are named by field."""

    settings: tuple[str, ...]
    message: str
    depends_on: tuple[str, ...] = ()
    """Other settings, a change of which can resolve the mistake."""


class WrongSettings(Exception):
    """Settings with mistakes; nothing starts with them."""

    def __init__(self, mistakes: Iterable[Mistake], usable: "Settings | None" = None) -> None:
        self.mistakes = tuple(mistakes)
        self.usable = usable
        """The settings with defaults in place of the wrong ones, if those are valid together."""
        super().__init__("\n".join(mistake.message for mistake in self.mistakes))


def read(
    values: Mapping[str, Any],
    check: Callable[[Settings], object] | None = None,
    known_mistakes: Iterable[Mistake] = (),
) -> Settings:
    """Read the settings from `values`, which take precedence, and the environment.

    Raises WrongSettings with the known mistakes and those of single settings. If there are any, it
    also has those that `check` finds in the other settings.
    """
    mistakes = list(known_mistakes)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        mistakes += map(_mistake, error.errors(include_url=False))
    if not mistakes:
        return settings
    wrong = {name for mistake in mistakes for name in mistake.settings}
    defaults = {name: Settings.model_fields[name].get_default() for name in wrong}
    usable: Settings | None = None
    with suppress(ValidationError):
        usable = Settings(**{**values, **defaults})
    if check and usable:
        try:
            check(usable)
        except WrongSettings as error:
            mistakes += [
                mistake
                for mistake in error.mistakes
                if wrong.isdisjoint((*mistake.settings, *mistake.depends_on))
            ]
    raise WrongSettings(mistakes, usable)


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{name.upper()}"


def is_secret(name: str) -> bool:
    """Return True for a setting whose value is never shown or logged."""
    return SecretStr in (
        annotation := Settings.model_fields[name].annotation,
        *get_args(annotation),
    )


def group_of(name: str) -> str:
    """Return the name of a setting's group."""
    group = next(group for group in Settings.__mro__ if name in inspect.get_annotations(group))
    return group.__name__.removesuffix("Settings")


def unknown_variables(environment: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each variable with our prefix that is not a setting, and the most similar one."""
    known = [*map(variable, Settings.model_fields), *_CLIENT_VARIABLES]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            (nearest,) = difflib.get_close_matches(name, known, n=1, cutoff=0)
            yield name, nearest


def _mistake(error: ErrorDetails) -> Mistake:
    names = {variable(name): name for name in Settings.model_fields}
    settings = tuple(names.get(str(part), str(part)) for part in error["loc"][:1])
    message = error["msg"].removeprefix("Value error, ")
    # The URLs of webhooks can hold secrets too.
    if settings and not is_secret(settings[0]) and settings[0] != "webhooks":
        # Any setting may be given a URL by mistake, with a password in it.
        value = error["input"]
        shown = f"'{shown_url(value)}'" if isinstance(value, str) else repr(value)
        message += f" (it is {shown})"
    return Mistake(settings, message)
