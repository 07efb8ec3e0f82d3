"""What an operator sets: the one place that reads the server's environment."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.api.admission.limits import Limits
from app.api.loopback import is_loopback
from app.domain.errors import InvalidInput
from app.domain.stores import checked_store

_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")


class Settings(BaseSettings, Limits):
    """What an operator sets, by JOBS_GATEWAY_* (and DATABASE_URL) or by flags, which win."""

    model_config = SettingsConfigDict(env_prefix="JOBS_GATEWAY_", populate_by_name=True)

    database_url: str = Field("sqlite:///jobs-gateway.db", validation_alias="DATABASE_URL")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    store: str = Field("default", min_length=1, max_length=255)
    """Whom requests act for, as long as they need no authentication."""
    runner: bool = True
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
    insecure: bool = False
    """Whether everybody who can reach the server may use it."""
    jwt_secret: SecretStr | None = None
    """What bearer tokens are signed with (HS256), at least 32 bytes."""
    jwks: str | None = None
    """The file or URL of the keys that bearer tokens are signed with (RS256, ES256)."""
    jwt_issuer: str = Field("jobs-gateway", min_length=1)
    """The `iss` that tokens must have."""
    jwt_audience: str = Field("jobs-gateway", min_length=1)
    """The `aud` that tokens must have."""
    origins: Annotated[frozenset[str], NoDecode] = frozenset()
    """Origins, separated by commas, whose pages may ask the gateway from a browser."""
    playground: bool | None = None
    """Whether a browser is shown the playground; by default only on loopback."""
    introspection: bool = True
    """Whether clients may ask for the schema."""
    suggestions: bool = True
    """Whether an error says which name may have been meant."""
    trusted_documents: Path | None = None
    """A folder of .graphql files, or a JSON file of documents by SHA-256, to be asked for by that
    hash."""
    only_trusted: bool = False
    """Whether no other documents are run."""
    socket_ping_seconds: float = Field(20, gt=0)
    """How often a WebSocket's peer is asked whether it is there, and how long it may take to say
    so."""

    @field_validator("stores", "origins", mode="before")
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

    @property
    def shows_playground(self) -> bool:
        """Whether a browser is shown the playground."""
        return is_loopback(self.host) if self.playground is None else self.playground

    @property
    def authenticated(self) -> bool:
        """Whether requests have to say who sends them."""
        return self.jwt_secret is not None or self.jwks is not None
