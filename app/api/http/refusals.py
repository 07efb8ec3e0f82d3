"""What is not run at all, and why: the errors of a response that has no data, and its status."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.callers import ScopesMissing

log = logging.getLogger(__name__)


class Refused(Exception):
    """An operation that is not run at all."""

    status = 400
    """The HTTP status."""
    well_formed = True
    """Whether only the document is at fault: application/json then tells it with 200, as ever."""

    def __init__(
        self, message: str, code: str, *, extensions: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.errors: Sequence[Mapping[str, Any]] = [
            {"message": message, "extensions": {"code": code, **(extensions or {})}}
        ]
        self.headers: dict[str, str] = {}


class NotStarted(Refused):
    """A subscription that could not start, with its errors as clients see them."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(errors[0]["message"], "")
        self.errors = errors


class BadRequest(Refused):
    """A request that is none, before any GraphQL of it is looked at."""

    well_formed = False

    def __init__(
        self,
        message: str,
        code: str = "BAD_REQUEST",
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code, extensions=extensions)
        self.status = status
        self.headers = dict(headers or {})


class Unauthenticated(BadRequest):
    """A request that does not say who sends it, or not so that it can be believed."""

    def __init__(self, message: str, *, given: bool = True) -> None:
        # RFC 6750, 3: an error is named only where there was a token.
        challenge = 'Bearer error="invalid_token"' if given else "Bearer"
        super().__init__(message, "UNAUTHENTICATED", 401, {"WWW-Authenticate": challenge})


class NotPermitted(Refused):
    """An operation that needs more than its caller's token allows."""

    status = 403
    well_formed = False

    def __init__(self, error: ScopesMissing) -> None:
        super().__init__(str(error), error.code, extensions={"scopes": list(error.missing)})


class TimedOut(Refused):
    """An operation that took longer than it may."""

    status = 503

    def __init__(self, limit: float, found: float) -> None:
        super().__init__(
            f"The operation took longer than {limit:g} seconds. If it was a change it may have "
            "been made: repeat it with its idempotencyKey.",
            "EXECUTION_TIME_LIMIT_EXCEEDED",
            extensions={"limit": limit, "found": round(found, 3)},
        )


class LimitExceeded(Refused):
    """More than is allowed was asked for."""

    def __init__(self, code: str, what: str, limit: float, found: float) -> None:
        message = f"The operation has {what.format(f'{found:,}')}; the limit is {limit:,}."
        super().__init__(message, code, extensions={"limit": limit, "found": found})


def bug(
    cause: Exception, request_id: str, path: Sequence[str | int] | None = None
) -> dict[str, Any]:
    """What a client sees of something that nobody foresaw; the log has the rest."""
    log.error("request %s broke at %s", request_id, path, exc_info=cause)
    return {
        "message": "Internal Server Error",
        "extensions": {"code": "INTERNAL_SERVER_ERROR", "requestId": request_id},
    }
