"""Metrics and one log line per request or operation.

Neither contains client data: no variables, headers or paths.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Self

from app.api.http.refusals import NotStarted, Refused
from app.domain.callers import Caller
from app.observability import metrics

log = logging.getLogger(__name__)

OK = "OK"
REFUSED = "REFUSED"
"""The code of a mutation whose payload has typed errors."""
UNEXPECTED = "INTERNAL_SERVER_ERROR"
CANCELLED = "CANCELLED"

MAX_OPERATIONS_LOGGED = 10
"""Max operations of a batch named in its log line."""


@dataclass(slots=True)
class RequestRecord:
    """Outcome of one HTTP request, socket, or operation of a socket."""

    transport: str
    caller: Caller | None = None
    operations: list[str] = field(default_factory=list)
    code: str = OK
    """Code of the first error."""
    results: int | None = None
    """Results sent by a subscription."""
    began: float = field(default_factory=perf_counter)
    has_refusal: bool = False

    def record_refusal(self, refusal: Refused) -> None:
        """Count a refused operation, unless its OperationRecord has recorded it."""
        self.has_refusal = True
        if not refusal.recorded:
            refusal.recorded = True
            metrics.OPERATIONS.labels("refused", self.record_code(_code(refusal.errors[0]))).inc()

    def log(self, level: int = logging.INFO, **fields: object) -> None:
        """Log the request's line, with these fields too."""
        if not log.isEnabledFor(level):
            return
        if self.operations:
            fields["operation"] = " ".join(self.operations)
        if self.operations or self.has_refusal:
            fields["code"] = self.code
        if self.results is not None:
            fields["results"] = self.results
        if self.caller:
            fields["store"] = self.caller.store
            if self.caller.subject:
                fields["subject"] = self.caller.subject
        fields.update(transport=self.transport, ms=round((perf_counter() - self.began) * 1000, 3))
        log.log(level, "request", extra=fields)

    def record_code(self, code: str) -> str:
        """Keep `code` if it is the first error's. Return it."""
        if self.code == OK:
            self.code = code
        return code


current_record: ContextVar[RequestRecord] = ContextVar("request_record")


def request_record() -> RequestRecord:
    """Return the current request's record; outside of requests, a new one."""
    return current_record.get(None) or RequestRecord("none")


class OperationRecord:
    """Context that records one running operation in metrics and in its request's record."""

    def __init__(self, name: str | None, type: str) -> None:
        self._name = name or "anonymous"
        self._label = metrics.operation_label(name)
        self._type = type
        self._request = request_record()
        self._code = OK
        self._began = perf_counter()

    def record_result(self, result: Mapping[str, object]) -> None:
        """Record one GraphQL result."""
        if isinstance(errors := result.get("errors"), list):
            self._record_resolver_errors(errors)
        elif self._type == "mutation" and _has_refusal(result["data"]):
            self._record_code(REFUSED)
        if self._type == "subscription":
            self._request.results = (self._request.results or 0) + 1

    def __enter__(self) -> Self:
        if len(self._request.operations) < MAX_OPERATIONS_LOGGED:
            self._request.operations.append(self._name[: metrics.MAX_NAME_LENGTH])
        if self._type == "subscription":
            self._request.results = 0
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        match error:
            case NotStarted():
                error.recorded = True
                self._record_resolver_errors(error.errors)
            case Refused():
                error.recorded = True
                self._record_code(_code(error.errors[0]))
            case Exception():
                self._record_code(UNEXPECTED)
            case asyncio.CancelledError() if self._type != "subscription":
                self._record_code(CANCELLED)
        metrics.OPERATIONS.labels(self._label, self._code).inc()
        metrics.TRANSPORTS.labels(self._request.transport, self._type).inc()
        if self._type != "subscription":
            metrics.OPERATION_SECONDS.labels(self._label).observe(perf_counter() - self._began)

    def _record_resolver_errors(self, errors: Sequence[Mapping[str, object]]) -> None:
        for error in errors:
            metrics.RESOLVER_ERRORS.labels(_code(error)).inc()
        self._record_code(_code(errors[0]))

    def _record_code(self, code: str) -> None:
        if self._code == OK:
            self._code = self._request.record_code(code)


def _code(error: Mapping[str, object]) -> str:
    match error.get("extensions"):
        case {"code": code}:
            return str(code)
    return "GRAPHQL_ERROR"


def _has_refusal(data: object) -> bool:
    """Return True if a payload of a mutation's data has errors."""
    return isinstance(data, dict) and any(
        isinstance(payload, dict) and payload.get("errors") for payload in data.values()
    )
