"""Context of resolvers: services, caller and operation."""

from dataclasses import dataclass, field

import strawberry
from graphql import DocumentNode

from app.api.http.tracing import traceparent
from app.domain.answers import AnswerBudget
from app.domain.callers import Caller
from app.domain.hierarchies import MAX_TREE_DEPTH
from app.services.feed import Feed
from app.services.jobs import Requester
from app.storage.engine.database import Database


@dataclass(slots=True)
class Context:
    """Services, caller and resume position of one operation."""

    database: Database
    feed: Feed
    caller: Caller
    request_id: str
    document: DocumentNode
    """The parsed and validated document that is executed."""
    resume_from: str | None = None
    """Resume cursor from the transport (Last-Event-ID); overrides the argument `after`."""
    mutation_results: dict[str, object] = field(default_factory=dict)
    """Payloads or exceptions of mutations that a plan has already run, by response key."""
    max_tree_depth: int = MAX_TREE_DEPTH
    budget: AnswerBudget = field(default_factory=AnswerBudget)
    """The sizes that a query or a mutation has read and returned. Each event has its own."""

    @property
    def store(self) -> str:
        return self.caller.store

    @property
    def requester(self) -> Requester:
        """The requester of jobs that this operation creates."""
        return Requester(self.caller.store, self.request_id, self.caller.subject, traceparent())


Info = strawberry.Info[Context, None]
