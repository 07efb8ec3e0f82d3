"""What an operator sets: the one place that reads the server's environment."""

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
from app.api.http.origins import is_loopback
from app.domain.errors import InvalidInput
from app.domain.stores import checked_store
from app.domain.webhooks import checked_network, checked_url, signing_keys

PREFIX = "JOBS_GATEWAY_"

_CLIENT = ("JOBS_GATEWAY_URL", "JOBS_GATEWAY_TOKEN")
"""What the commands that ask a gateway read."""

WEBHOOKS = 16
"""At most so many URLs are told: each costs a delivery a job."""

_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")


class _Group(BaseModel):
    """Settings that belong together, told under the name of their class."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class NetworkSettings(_Group):
    """Where the server is to be reached, and by whose pages."""

    host: str = "127.0.0.1"
    """Where to listen; anything but loopback needs authentication, or --insecure."""
    port: int = Field(8000, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""
    origins: Annotated[frozenset[str], NoDecode] = frozenset()
    """Origins, separated by commas, whose pages may ask the gateway from a browser."""
    socket_ping_seconds: float = Field(20, gt=0)
    """How often a WebSocket's peer is asked whether it is there, and how long it may take to say
    so."""


class DatabaseSettings(_Group):
    """Where everything is kept."""

    database_url: str = Field("sqlite:///jobs-gateway.db", validation_alias="DATABASE_URL")
    """A SQLite file, made and migrated at start, or a PostgreSQL database. A flag is seen by `ps`:
    leave a password to the variable, or to PGPASSFILE."""


class QueueSettings(_Group):
    """How jobs are run."""

    runner: bool = True
    """Whether this process runs the queue."""
    stores: Annotated[frozenset[str], NoDecode] = frozenset()
    """Whose jobs this process runs, separated by commas; those of all stores if empty."""
    concurrency: int = Field(8, ge=1, le=64)
    """Stores whose jobs run side by side."""
    lease_seconds: float = Field(30, ge=1, le=3600)
    """How long a worker may be silent before another one takes its job over."""
    time_limit_seconds: float = Field(3600, ge=1)
    """How long a job may go without finishing a step before it fails."""
    retention_days: int = Field(30, ge=0, le=36_500)
    """How long ended jobs and the events of all jobs are kept; 0 keeps them for ever."""


class WebhookSettings(_Group):
    """Who is told of it when a job ends."""

    # Above the URLs, which are judged by both.
    webhook_secret: SecretStr | None = None
    """What webhooks are signed with, as `echo "whsec_$(openssl rand -base64 32)"` makes it; while
    it is being changed the new and the old one, separated by a comma."""
    webhook_networks: Annotated[frozenset[str], NoDecode] = frozenset()
    """Networks, separated by commas, such as 10.0.0.0/8, that webhooks may go to though they are
    not public, and by http."""
    webhooks: Annotated[frozenset[str], NoDecode] = frozenset()
    """URLs, separated by commas, that are told of each job that ends in the stores of this process,
    at most 16."""


class AuthenticationSettings(_Group):
    """Who may ask."""

    store: str = Field("default", min_length=1, max_length=255)
    """Whom requests act for, as long as they need no authentication."""
    insecure: bool = False
    """Whether to listen beyond this machine without authentication."""
    jwt_secret: SecretStr | None = None
    """What bearer tokens are signed with (HS256), at least 32 bytes: `openssl rand -hex 32`."""
    jwks: str | None = None
    """The file or https URL of the keys that bearer tokens are signed with (RS256, ES256)."""
    jwt_issuer: str = Field("jobs-gateway", min_length=1)
    """The `iss` that tokens must have."""
    jwt_audience: str = Field("jobs-gateway", min_length=1)
    """The `aud` that tokens must have."""


class SurfaceSettings(_Group):
    """What clients are shown, and which operations are run."""

    playground: bool | None = None
    """Whether a browser is shown the playground; by default only on loopback."""
    console: bool | None = None
    """Whether a browser is shown the console; by default only on loopback."""
    introspection: bool = True
    """Whether clients may ask for the schema."""
    suggestions: bool = True
    """Whether an error says which name may have been meant."""
    trusted_documents: Path | None = None
    """A folder of .graphql files, or a JSON file of documents by SHA-256, to be asked for by
    `documentId` or Apollo's `persistedQuery`."""
    only_trusted: bool = False
    """Whether no other documents are run."""
    plans: bool = True
    """Whether queries are answered by compiled plans, as fast as by routes written by hand."""


class ObservabilitySettings(_Group):
    """What whoever runs the process sees of it."""

    metrics: bool | None = None
    """Whether /metrics shows figures, which name no store; by default only on loopback."""
    worker_port: int | None = Field(None, ge=0, le=65535)
    """Where a worker answers /healthz, /readyz and /metrics, on host; by default nowhere, 0 takes
    a free port."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From what on lines are logged, to standard error."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """Whether log lines are for people or JSON; auto: for people on a terminal."""


class Settings(
    BaseSettings,
    Limits,
    ObservabilitySettings,
    SurfaceSettings,
    AuthenticationSettings,
    WebhookSettings,
    QueueSettings,
    DatabaseSettings,
    NetworkSettings,
):
    """What an operator sets, by JOBS_GATEWAY_* (and DATABASE_URL) or by flags, which win.

    A setting is a field of the group it belongs to: its flag, its help and its line in the README
    come from there.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, populate_by_name=True, use_attribute_docstrings=True
    )

    @field_validator("stores", "origins", "webhooks", "webhook_networks", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: frozenset[str]) -> frozenset[str]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://shop.example")
        return origins

    @field_validator("store")
    @classmethod
    def _is_a_store(cls, store: str) -> str:
        try:
            return checked_store(store)
        except InvalidInput as error:
            raise ValueError(str(error)) from None

    @field_validator("webhook_secret")
    @classmethod
    def _signs(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            with _as_value_error():
                signing_keys(secret.get_secret_value())
        return secret

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, networks: frozenset[str]) -> frozenset[str]:
        with _as_value_error():
            for network in networks:
                checked_network(network)
        return networks

    @field_validator("webhooks")
    @classmethod
    def _can_be_told(cls, urls: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        if len(urls) > WEBHOOKS:
            raise ValueError(f"These are {len(urls)}; at most {WEBHOOKS} are told.")
        if urls and info.data.get("webhook_secret", "wrong") is None:
            raise ValueError("Webhooks are signed: set JOBS_GATEWAY_WEBHOOK_SECRET.")
        # Where the networks are wrong that is told, and whether these lie in them is not known.
        if "webhook_networks" in info.data:
            networks = [checked_network(network) for network in info.data["webhook_networks"]]
            wrong = []
            for url in sorted(urls):
                try:
                    checked_url(url, networks)
                except InvalidInput as error:
                    wrong.append(str(error))
            if wrong:
                raise ValueError(" ".join(wrong))
        return urls

    @property
    def shows_playground(self) -> bool:
        """Whether a browser is shown the playground."""
        return is_loopback(self.host) if self.playground is None else self.playground

    @property
    def shows_console(self) -> bool:
        """Whether a browser is shown the console."""
        return is_loopback(self.host) if self.console is None else self.console

    @property
    def shows_metrics(self) -> bool:
        """Whether anybody who can reach the process may read its figures."""
        return is_loopback(self.host) if self.metrics is None else self.metrics

    @property
    def authenticated(self) -> bool:
        """Whether requests have to say who sends them."""
        return self.jwt_secret is not None or self.jwks is not None


@contextmanager
def _as_value_error() -> Iterator[None]:
    """What breaks a rule of the domain, as pydantic takes it."""
    try:
        yield
    except InvalidInput as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with these settings, by the names of their fields: a sentence."""

    settings: tuple[str, ...]
    message: str
    depends_on: tuple[str, ...] = ()
    """Other settings that would make it none."""


class WrongSettings(Exception):
    """Nothing is started with these settings: every mistake in them."""

    def __init__(self, mistakes: Iterable[Mistake], usable: "Settings | None" = None) -> None:
        self.mistakes = tuple(mistakes)
        self.usable = usable
        """The settings without those that are wrong, where that makes sense."""
        super().__init__("\n".join(mistake.message for mistake in self.mistakes))


def read(
    given: Mapping[str, Any],
    check: Callable[[Settings], object] | None = None,
    known: Iterable[Mistake] = (),
) -> Settings:
    """The settings, where what is given wins over the environment.

    Raises WrongSettings with all mistakes: those known before, those of each setting by itself,
    and, if there are any, those that `check` finds in what is not wrong by itself.
    """
    mistakes = list(known)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        mistakes += map(_mistake, error.errors(include_url=False))
    if not mistakes:
        return settings
    wrong = {name for mistake in mistakes for name in mistake.settings}
    defaults = {name: Settings.model_fields[name].get_default() for name in wrong}
    usable: Settings | None = None
    with suppress(ValidationError):
        usable = Settings(**{**given, **defaults})
    if check and usable:
        try:
            check(usable)
        except WrongSettings as error:
            mistakes += [
                more
                for more in error.mistakes
                if wrong.isdisjoint((*more.settings, *more.depends_on))
            ]
    raise WrongSettings(mistakes, usable)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{name.upper()}"


def is_secret(name: str) -> bool:
    """Whether nobody may read the setting's value anywhere."""
    return SecretStr in (
        annotation := Settings.model_fields[name].annotation,
        *get_args(annotation),
    )


def group_of(name: str) -> str:
    """What a setting is about."""
    group = next(group for group in Settings.__mro__ if name in inspect.get_annotations(group))
    return group.__name__.removesuffix("Settings")


def unknown_variables(environment: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The variables there that look like a setting and are none, each with the one that comes
    nearest."""
    known = [*map(variable, Settings.model_fields), *_CLIENT]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            (nearest,) = difflib.get_close_matches(name, known, n=1, cutoff=0)
            yield name, nearest


def _mistake(error: ErrorDetails) -> Mistake:
    names = {variable(name): name for name in Settings.model_fields}
    settings = tuple(names.get(str(part), str(part)) for part in error["loc"][:1])
    message = error["msg"].removeprefix("Value error, ")
    # Secrets can be in the URLs of webhooks too.
    if settings and not is_secret(settings[0]) and settings[0] != "webhooks":
        message += f" (it is {error['input']!r})"
    return Mistake(settings, message)
