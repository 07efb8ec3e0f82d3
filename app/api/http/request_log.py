"""What is noted of requests while they are answered: figures, and a line of the log at their end.

Neither holds what clients have sent: no variables, no headers, no paths.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from app.api.http.refusals import NotStarted, Refused
from app.domain.callers import Caller
from app.observability import metrics

log = logging.getLogger(__name__)

OK = "OK"
REFUSED = "REFUSED"
"""The code of a mutation whose payload has typed errors."""
UNEXPECTED = "INTERNAL_SERVER_ERROR"
CANCELLED = "CANCELLED"

OPERATIONS_LOGGED = 10
"""Operations of a batch that are named in its line."""


@dataclass(slots=True)
class RequestRecord:
    """One request, or one operation of a socket, and what came of it."""

    transport: str
    caller: Caller | None = None
    operations: list[str] = field(default_factory=list)
    code: str = OK
    """Of the first error."""
    results: int | None = None
    """What a subscription has told."""
    began: float = field(default_factory=perf_counter)
    refusal: Refused | None = None
    """The last one that was noted."""

    def refused(self, refusal: Refused) -> None:
        """Note that an operation was not run, unless it was noted where it was to run."""
        if refusal is not self.refusal:
            self.refusal = refusal
            metrics.OPERATIONS.labels("refused", self.note(_code(refusal.errors[0]))).inc()

    def tell(self, level: int = logging.INFO, **facts: object) -> None:
        """Log its one line."""
        if not log.isEnabledFor(level):
            return
        if self.operations:
            facts["operation"] = " ".join(self.operations)
        if self.operations or self.refusal:
            facts["code"] = self.code
        if self.results is not None:
            facts["results"] = self.results
        if self.caller:
            facts["store"] = self.caller.store
            if self.caller.subject:
                facts["subject"] = self.caller.subject
        facts.update(transport=self.transport, ms=round((perf_counter() - self.began) * 1000, 3))
        log.log(level, "request", extra=facts)

    def note(self, code: str) -> str:
        """Keep the first code of an error; the code itself."""
        if self.code == OK:
            self.code = code
        return code


current_record: ContextVar[RequestRecord] = ContextVar("exchange")


def request_record() -> RequestRecord:
    """The one under way here."""
    return current_record.get(None) or RequestRecord("none")


class OperationRecord:
    """Notes, as a context, one operation that is run."""

    def __init__(self, name: str | None, type: str) -> None:
        self._name = name or "anonymous"
        self._label = metrics.operation_label(name)
        self._type = type
        self._exchange = request_record()
        self._code = OK
        self._began = perf_counter()

    def told(self, answer: Mapping[str, Any]) -> None:
        """Note one result."""
        if errors := answer.get("errors"):
            self._resolvers_failed(errors)
        elif self._type == "mutation" and any(map(_refuses, answer["data"].values())):
            self._note(REFUSED)
        if self._type == "subscription":
            self._exchange.results = (self._exchange.results or 0) + 1

    def __enter__(self) -> Self:
        if len(self._exchange.operations) < OPERATIONS_LOGGED:
            self._exchange.operations.append(self._name[: metrics.NAME_CHARACTERS])
        if self._type == "subscription":
            self._exchange.results = 0
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        match error:
            case NotStarted():
                self._exchange.refusal = error
                self._resolvers_failed(error.errors)
            case Refused():
                self._exchange.refusal = error
                self._note(_code(error.errors[0]))
            case Exception():
                self._note(UNEXPECTED)
            case asyncio.CancelledError() if self._type != "subscription":
                self._note(CANCELLED)
        metrics.OPERATIONS.labels(self._label, self._code).inc()
        metrics.TRANSPORTS.labels(self._exchange.transport, self._type).inc()
        if self._type != "subscription":
            metrics.OPERATION_SECONDS.labels(self._label).observe(perf_counter() - self._began)

    def _resolvers_failed(self, errors: Sequence[Mapping[str, Any]]) -> None:
        for error in errors:
            metrics.RESOLVER_ERRORS.labels(_code(error)).inc()
        self._note(_code(errors[0]))

    def _note(self, code: str) -> None:
        if self._code == OK:
            self._code = self._exchange.note(code)


def _code(error: Mapping[str, Any]) -> str:
    return str(error.get("extensions", {}).get("code", "GRAPHQL_ERROR"))


def _refuses(payload: object) -> bool:
    return isinstance(payload, dict) and bool(payload.get("errors"))
