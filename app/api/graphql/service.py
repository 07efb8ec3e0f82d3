"""The GraphQL service, shared by all transports."""

import asyncio
from dataclasses import dataclass, field

from app.api.auth.access import Access
from app.api.graphql.admission.documents import Documents, Operation
from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.executor import Executor
from app.domain.callers import Caller


@dataclass(frozen=True, slots=True)
class GraphQLService:
    """Access, documents and executor of one gateway."""

    access: Access
    documents: Documents
    executor: Executor
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server begins to stop: open streams end."""

    async def admit(self, request: GraphQLRequest, caller: Caller, spent: int = 0) -> Operation:
        """Admit the requested operation as `Documents.admit` does, and compile its plan.

        Compilation takes up to 80 ms, so it runs on the admission thread and is charged, too.
        """
        operation = await self.documents.admit(request, caller, spent)
        if compile_plan := self.executor.compilation(operation):
            await self.documents.run(caller, compile_plan)
        return operation
