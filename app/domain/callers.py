"""Callers and their scopes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.errors import Forbidden


class Scope(StrEnum):
    """A token's scope. A write scope implies the read scope."""

    HIERARCHIES_READ = "hierarchies:read"
    HIERARCHIES_WRITE = "hierarchies:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"


class ScopesMissing(Forbidden):
    """The caller's token lacks scopes."""

    def __init__(self, missing: Sequence[Scope]) -> None:
        super().__init__(f"Your token does not allow this: it needs {' and '.join(missing)}.")
        self.missing = missing


EVERY_SCOPE = frozenset(Scope)

_IMPLIED = {
    Scope.HIERARCHIES_WRITE: Scope.HIERARCHIES_READ,
    Scope.JOBS_WRITE: Scope.JOBS_READ,
}


def with_implied_scopes(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Add the read scopes that write scopes imply."""
    stated = frozenset(scopes)
    return stated | {_IMPLIED[scope] for scope in stated if scope in _IMPLIED}


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated subject with its store and scopes."""

    store: str
    subject: str | None = None
    """None without authentication."""
    scopes: frozenset[Scope] = EVERY_SCOPE
    expires_at: datetime | None = None
    """None without authentication: valid as long as the process runs."""

    def check(self, *scopes: Scope) -> None:
        """Require all of these scopes. Raises ScopesMissing."""
        if not self.scopes.issuperset(scopes):
            raise ScopesMissing(sorted(set(scopes) - self.scopes))

    def seconds_left(self, now: datetime) -> float | None:
        """Return the seconds until `expires_at`, None if it never expires."""
        return None if self.expires_at is None else (self.expires_at - now).total_seconds()
