"""Who asks, and what they may do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.errors import Forbidden


class Scope(StrEnum):
    """A thing that a token may allow. What allows to write allows to read the same."""

    HIERARCHIES_READ = "hierarchies:read"
    HIERARCHIES_WRITE = "hierarchies:write"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"


class ScopesMissing(Forbidden):
    """The caller's token does not allow it."""

    def __init__(self, missing: Sequence[Scope]) -> None:
        super().__init__(f"Your token does not allow this: it needs {' and '.join(missing)}.")
        self.missing = missing


EVERY_SCOPE = frozenset(Scope)

_INCLUDED = {
    Scope.HIERARCHIES_WRITE: Scope.HIERARCHIES_READ,
    Scope.JOBS_WRITE: Scope.JOBS_READ,
}


def granted(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """The scopes with those that they include."""
    named = frozenset(scopes)
    return named | {_INCLUDED[scope] for scope in named if scope in _INCLUDED}


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks: for which store, in whose name, and what they may do there."""

    store: str
    subject: str | None = None
    """Who it is, where requests are authenticated."""
    scopes: frozenset[Scope] = EVERY_SCOPE
    expires_at: datetime | None = None
    """When this is no longer true; None: as long as the process runs."""

    def check(self, *scopes: Scope) -> None:
        """Raises ScopesMissing unless the caller has all of these."""
        if missing := sorted(set(scopes) - self.scopes):
            raise ScopesMissing(missing)

    def seconds_left(self, now: datetime) -> float | None:
        """How long this is still true; None: as long as the process runs."""
        return None if self.expires_at is None else (self.expires_at - now).total_seconds()
