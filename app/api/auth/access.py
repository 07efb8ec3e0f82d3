"""What stands before every operation, whichever way it comes: who asks, how often, and what."""

import asyncio
from dataclasses import dataclass, field

from app.api.auth.identity import Authentication, OpenAccess, bearer
from app.api.auth.limits import Limits
from app.api.auth.throttle import Throttle
from app.api.graphql.admission.documents import Documents
from app.api.graphql.executor import Executor
from app.api.http.refusals import Unauthenticated
from app.api.http.request_log import request_record
from app.domain.callers import Caller


@dataclass(frozen=True, slots=True)
class Gate:
    """The parts that all transports share."""

    authentication: Authentication
    throttle: Throttle
    documents: Documents
    executor: Executor
    limits: Limits
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the server stops."""

    @property
    def authenticated(self) -> bool:
        """Whether requests have to say who sends them."""
        return not isinstance(self.authentication, OpenAccess)

    async def caller(self, authorization: str | None, address: str) -> Caller:
        """Who sends this Authorization from this address. Raises Unauthenticated.

        Guesses are counted as operations of the address: for too many BadRequest is raised.
        """
        try:
            caller = await self.authentication.caller(bearer(authorization))
        except Unauthenticated:
            self.throttle.take(address)
            raise
        request_record().caller = caller
        return caller

    @staticmethod
    def client(caller: Caller, address: str) -> str:
        """Whom limits are counted for: a subject of a store, or else an address."""
        # Neither has a line break, so no two of them make the same.
        return f"{caller.store}\n{caller.subject}" if caller.subject else address
