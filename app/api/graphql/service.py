"""The GraphQL service, shared by all transports."""

import asyncio
from dataclasses import dataclass, field

from app.api.auth.access import Access
from app.api.graphql.admission.documents import Documents
from app.api.graphql.executor import Executor


@dataclass(frozen=True, slots=True)
class GraphQLService:
    """Access, documents and executor of one gateway."""

    access: Access
    documents: Documents
    executor: Executor
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server begins to stop: open streams end."""
