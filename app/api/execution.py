"""Runs operations that were admitted. What comes out is what clients see, whichever way it goes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from graphql import OperationType
from opentelemetry.trace import NoOpTracer, Tracer
from strawberry.types.execution import ExecutionResult, PreExecutionError

from app.api.admission.documents import Operation
from app.api.admission.limits import Limits
from app.api.context import Context
from app.api.exchanges import Run
from app.api.jobs import EVENTS
from app.api.refusals import NotStarted, TimedOut
from app.api.schema import schema
from app.api.tracing import operation_span
from app.domain.callers import Caller
from app.services.feed import Feed
from app.storage.database import Database

Answer = dict[str, Any]
"""A response as GraphQL defines it: data, errors, extensions."""


@dataclass(frozen=True, slots=True)
class Told:
    """One result of a stream, and the cursor that resumes behind it, where there is one."""

    answer: Answer
    cursor: str | None = None


class Executor:
    """Runs queries and mutations to their answer, and subscriptions for as long as they last."""

    def __init__(
        self, database: Database, feed: Feed, limits: Limits, tracer: Tracer | None = None
    ) -> None:
        self._database = database
        self._feed = feed
        self._limits = limits
        self._tracer = tracer or NoOpTracer()

    async def answer(self, operation: Operation, caller: Caller, request_id: str) -> Answer:
        """The answer to a query or a mutation. Raises TimedOut."""
        name, kind = operation.name, operation.kind.value
        with operation_span(self._tracer, kind, name, request_id), Run(name, kind) as run:
            answer = _answer(await self._execute(operation, caller, request_id))
            run.told(answer)
        cost = {"requested": operation.cost, "limit": self._limits.max_cost}
        answer["extensions"] = {**answer.get("extensions", {}), "cost": cost}
        return answer

    async def _execute(
        self, operation: Operation, caller: Caller, request_id: str
    ) -> ExecutionResult:
        context = self._context(operation, caller, request_id)
        limit = self._limits.max_execution_seconds
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(limit):
                return await schema.execute(
                    operation.document.text,
                    variable_values=operation.variables,
                    context_value=context,
                    operation_name=operation.name,
                )
        except TimeoutError:
            raise TimedOut(limit, clock() - began) from None

    async def results(
        self,
        operation: Operation,
        caller: Caller,
        request_id: str,
        resume_from: str | None = None,
    ) -> AsyncGenerator[Told, None]:
        """The results of any operation: one answer, or those of a subscription, each made when the
        one before was taken. Raises TimedOut, NotStarted."""
        if operation.kind is not OperationType.SUBSCRIPTION:
            yield Told(await self.answer(operation, caller, request_id))
            return
        context = self._context(operation, caller, request_id, resume_from)
        with Run(operation.name, operation.kind.value) as run:
            results: Any = await schema.stream(
                operation.document.text,
                variable_values=operation.variables,
                context_value=context,
                operation_name=operation.name,
            )
            async with aclosing(results):
                async for result in results:
                    if isinstance(result, PreExecutionError):
                        raise NotStarted(result.errors or [])
                    told, answer = context.told, _answer(result)
                    run.told(answer)
                    yield Told(answer, EVENTS.encode((told.seq,)) if told else None)

    def _context(
        self,
        operation: Operation,
        caller: Caller,
        request_id: str,
        resume_from: str | None = None,
    ) -> Context:
        return Context(
            self._database, self._feed, caller, request_id, operation.document.tree, resume_from
        )


def _answer(result: ExecutionResult) -> Answer:
    answer: Answer = {"data": result.data}
    if result.errors:
        answer["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        answer["extensions"] = result.extensions
    return answer
