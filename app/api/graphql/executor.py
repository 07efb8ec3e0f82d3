"""Runs operations that were admitted. What comes out is what clients see, whichever way it goes."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from graphql import OperationType
from opentelemetry.trace import Tracer
from strawberry.types.execution import ExecutionResult

from app.api.auth.limits import Limits
from app.api.graphql.admission.documents import Operation
from app.api.graphql.context import Context
from app.api.graphql.plans.planner import Planner
from app.api.graphql.schema import schema
from app.api.graphql.shared_subscriptions import SharedSubscriptions, StreamResult
from app.api.http.refusals import TimedOut
from app.api.http.request_log import OperationRecord
from app.api.http.tracing import operation_span
from app.domain.callers import Caller
from app.services.feed import Feed
from app.storage.engine.database import Database

GraphQLResponse = dict[str, Any]
"""A response as GraphQL defines it: data, errors, extensions."""


class Executor:
    """Runs queries and mutations to their answer, and subscriptions for as long as they last."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        limits: Limits,
        tracer: Tracer | None = None,
        *,
        plans: bool = True,
    ) -> None:
        self._planner = Planner(schema, database) if plans else None
        self._database = database
        self._feed = feed
        self._limits = limits
        self._tracer = tracer
        self._audiences = SharedSubscriptions()

    async def answer(
        self, operation: Operation, caller: Caller, request_id: str
    ) -> GraphQLResponse:
        """The answer to a query or a mutation. Raises TimedOut."""
        name, kind = operation.name, operation.kind.value
        with (
            operation_span(self._tracer, kind, name, request_id),
            OperationRecord(name, kind) as run,
        ):
            answer = await self._execute(operation, caller, request_id)
            run.told(answer)
        cost = {"requested": operation.cost, "limit": self._limits.max_cost}
        answer["extensions"] = {**answer.get("extensions", {}), "cost": cost}
        return answer

    async def _execute(
        self, operation: Operation, caller: Caller, request_id: str
    ) -> GraphQLResponse:
        context = self._context(operation, caller, request_id)
        limit = self._limits.max_execution_seconds
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(limit):
                if self._planner:
                    data = await self._planner.data(operation, context)
                    if data is not None:
                        return {"data": data}
                result = await schema.execute(
                    operation.document.text,
                    variable_values=operation.variables,
                    context_value=context,
                    operation_name=operation.name,
                )
                return _answer(result)
        except TimeoutError:
            raise TimedOut(limit, clock() - began) from None

    def results(
        self,
        operation: Operation,
        caller: Caller,
        request_id: str,
        resume_from: str | None = None,
    ) -> AsyncGenerator[StreamResult, None]:
        """The results of any operation: one answer, or those of a subscription, each made when the
        one before was taken. Raises TimedOut, NotStarted."""
        if operation.kind is not OperationType.SUBSCRIPTION:
            return self._only(operation, caller, request_id)
        context = self._context(operation, caller, request_id, resume_from)
        return self._audiences.results(operation, context)

    async def _only(
        self, operation: Operation, caller: Caller, request_id: str
    ) -> AsyncGenerator[StreamResult, None]:
        yield StreamResult.of(await self.answer(operation, caller, request_id))

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


def _answer(result: ExecutionResult) -> GraphQLResponse:
    answer: GraphQLResponse = {"data": result.data}
    if result.errors:
        answer["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        answer["extensions"] = result.extensions
    return answer
