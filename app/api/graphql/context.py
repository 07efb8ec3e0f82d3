"""What every resolver knows: the services, on whose behalf it runs, and in which operation."""

from dataclasses import dataclass, field
from typing import Any

import strawberry
from graphql import DocumentNode

from app.api.http.tracing import traceparent
from app.domain.callers import Caller
from app.services.feed import Feed
from app.services.jobs import Requester
from app.storage.engine.database import Database


@dataclass(slots=True)
class Context:
    """One operation: its services, its caller, and how far its subscriber has come."""

    database: Database
    feed: Feed
    caller: Caller
    request_id: str
    document: DocumentNode
    """What is executed, parsed and validated."""
    resume_from: str | None = None
    """The cursor that the way the request came carries, which wins over `after`."""
    done: dict[str, Any] = field(default_factory=dict)
    """What came of mutations that were made already, by their names in the answer: their payloads,
    or exceptions."""

    @property
    def store(self) -> str:
        """The store whose things the caller sees."""
        return self.caller.store

    @property
    def requester(self) -> Requester:
        """Whom a job that is asked for is made for."""
        return Requester(self.caller.store, self.request_id, self.caller.subject, traceparent())


Info = strawberry.Info[Context, None]
