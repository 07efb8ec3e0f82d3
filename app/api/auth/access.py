"""Authentication and throttling for the GraphQL and the REST surface."""

from dataclasses import dataclass

from app.api.auth.identity import Authentication, OpenAccess, bearer
from app.api.auth.limits import Limits
from app.api.auth.throttle import Throttle
from app.api.http.refusals import Unauthenticated
from app.api.http.request_log import request_record
from app.domain.callers import Caller


@dataclass(frozen=True, slots=True)
class Access:
    """Authentication, throttle and limits of one gateway."""

    authentication: Authentication
    throttle: Throttle
    limits: Limits

    @property
    def authenticated(self) -> bool:
        """Return True if requests need a bearer token."""
        return not isinstance(self.authentication, OpenAccess)

    async def caller(self, authorization: str | None, address: str) -> Caller:
        """Authenticate an Authorization header sent from a network address.

        A failed attempt counts against the address in the throttle. Raises Unauthenticated, or
        BadRequest if the address is throttled.
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
        """Return the throttle key: store and subject, or the address without a subject."""
        # Neither store nor subject can contain a line break, so keys are unambiguous.
        return f"{caller.store}\n{caller.subject}" if caller.subject else address
