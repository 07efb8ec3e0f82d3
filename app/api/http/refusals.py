"""Refusals: operations that do not run, with their errors, HTTP status and headers.

Source of the statuses: GraphQL over HTTP, edition of September 2026, "Status Codes". They do not
depend on the media type of the response.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from starlette.responses import Response
from starlette.types import Scope

from app.domain.callers import ScopesMissing

log = logging.getLogger(__name__)


class ClientError(TypedDict):
    """An unexpected error in client format."""

    message: str
    extensions: dict[str, object]


class Refused(Exception):
    """An operation that does not run."""

    status = 422
    """The HTTP status."""
    well_formed = True
    """True if the request is well-formed: a client that takes only events gets the errors so."""

    def __init__(
        self,
        message: str,
        code: str,
        *,
        status: int | None = None,
        extensions: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status or self.status
        self.errors: Sequence[Mapping[str, object]] = [
            {"message": message, "extensions": {"code": code, **(extensions or {})}}
        ]
        self.headers: dict[str, str] = {}
        self.recorded = False
        """True once metrics count it."""


class NotStarted(Refused):
    """A subscription that could not start, with its errors in client format."""

    def __init__(self, errors: Sequence[Mapping[str, object]]) -> None:
        super().__init__(str(errors[0]["message"]), "")
        self.errors = errors


class BadRequest(Refused):
    """A request refused before its document is parsed."""

    well_formed = False

    def __init__(
        self,
        message: str,
        *,
        code: str = "BAD_REQUEST",
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, code, status=status, extensions=extensions)
        self.headers = dict(headers or {})


class Malformed(BadRequest):
    """A readable request of the wrong shape: a parameter is missing, repeated or mistyped."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "BAD_REQUEST",
        extensions: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, status=422, extensions=extensions)


class Unauthenticated(BadRequest):
    """A request without a token, or with an invalid one."""

    def __init__(self, message: str, *, token_sent: bool = True) -> None:
        # RFC 6750, 3: the challenge names an error only if the request has a token.
        challenge = 'Bearer error="invalid_token"' if token_sent else "Bearer"
        super().__init__(
            message, code="UNAUTHENTICATED", status=401, headers={"WWW-Authenticate": challenge}
        )


class KeysUnavailable(BadRequest):
    """A request whose token cannot be verified: its issuer does not provide keys."""

    def __init__(self, wait: int) -> None:
        super().__init__(
            "The keys that verify tokens of this issuer cannot be loaded. Try again later.",
            code="KEYS_UNAVAILABLE",
            status=503,
            headers={"Retry-After": str(wait)},
        )


class RateLimited(BadRequest):
    """A request above a limit per time, which its client may repeat after `wait` seconds."""

    def __init__(self, reason: str, wait: int, **extensions: object) -> None:
        super().__init__(
            f"{reason} Try again in {wait} s.",
            code="RATE_LIMITED",
            status=429,
            headers={"Retry-After": str(wait)},
            extensions={**extensions, "retryAfter": wait},
        )


class ForeignPage(BadRequest):
    """A request that a page of another origin caused in a browser."""

    def __init__(self) -> None:
        super().__init__(
            "Pages of another origin may not do this, unless JOBS_GATEWAY_ORIGINS lists it.",
            code="FORBIDDEN",
            status=403,
        )


Refusal = Callable[[Scope, BadRequest], Response]
"""Builds the response to a refused request."""


class NotPermitted(Refused):
    """An operation that needs scopes its caller does not have."""

    status = 403
    well_formed = False

    def __init__(self, error: ScopesMissing) -> None:
        super().__init__(str(error), error.code, extensions={"scopes": list(error.missing)})


class TimedOut(Refused):
    """An operation that ran longer than `limit` seconds."""

    status = 503

    def __init__(self, limit: float, elapsed: float) -> None:
        super().__init__(
            f"The operation took longer than {limit:g} seconds. A mutation may have been "
            "committed: repeat it with its idempotencyKey.",
            "EXECUTION_TIME_LIMIT_EXCEEDED",
            extensions={"limit": limit, "found": round(elapsed, 3)},
        )


class LimitExceeded(Refused):
    """An operation that exceeds a limit. `what` names the limit, with {} for `actual`."""

    def __init__(self, code: str, what: str, limit: float, actual: float) -> None:
        message = f"The operation has {what.format(f'{actual:,}')}; the limit is {limit:,}."
        super().__init__(message, code, extensions={"limit": limit, "found": actual})


def report_bug(
    cause: Exception, request_id: str, path: Sequence[str | int] | None = None
) -> ClientError:
    """Log an unexpected exception. Return the error for the client, which hides its cause."""
    log.error("request %s failed at %s", request_id, path, exc_info=cause)
    return {
        "message": "Internal Server Error",
        "extensions": {"code": "INTERNAL_SERVER_ERROR", "requestId": request_id},
    }


class Bug(BadRequest):
    """A request that failed with an unexpected exception, which is logged."""

    def __init__(self, cause: Exception, request_id: str) -> None:
        super().__init__("Internal Server Error", status=500)
        self.errors = [report_bug(cause, request_id)]
