"""Execution of admitted operations, by a plan or by the reference executor."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from graphql import OperationType
from opentelemetry.trace import Tracer

from app.api.auth.limits import Limits
from app.api.graphql.admission.documents import Operation
from app.api.graphql.context import Context
from app.api.graphql.plans.plan import GraphQLResponse
from app.api.graphql.plans.planner import Planner
from app.api.graphql.schema import schema
from app.api.graphql.shared_subscriptions import SharedSubscriptions, StreamResult
from app.api.http.refusals import Refused, TimedOut
from app.api.http.request_log import OperationRecord
from app.api.http.tracing import operation_span
from app.domain.answers import AnswerTooLarge
from app.domain.callers import Caller
from app.services.feed import Feed
from app.storage.engine.client_reads import FairThreads
from app.storage.engine.database import Database


class Executor:
    """Executes queries and mutations to a response, and subscriptions to a stream of results."""

    def __init__(
        self,
        database: Database,
        feed: Feed,
        limits: Limits,
        tracer: Tracer | None = None,
        *,
        plans: bool = True,
    ) -> None:
        self._planner = Planner(schema, database, _reference) if plans else None
        self._database = database
        self._feed = feed
        self._limits = limits
        self._tracer = tracer
        self._shared_subscriptions = SharedSubscriptions(self._planner)
        self._threads = FairThreads("introspection", 1, 1)

    def compilation(self, operation: Operation) -> Callable[[], object] | None:
        """Return a function that compiles the operation's plan, None if nothing is to compile.

        Any thread may call it.
        """
        return self._planner.compilation(operation) if self._planner else None

    async def execute(
        self, operation: Operation, caller: Caller, request_id: str
    ) -> GraphQLResponse:
        """Execute a query or a mutation. Raises TimedOut, Refused."""
        name, kind = operation.name, operation.kind.value
        with (
            operation_span(self._tracer, kind, name, request_id),
            OperationRecord(name, kind) as record,
        ):
            response = await self._execute(operation, caller, request_id)
            record.record_result(response)
        cost = {"requested": operation.cost, "limit": self._limits.max_cost}
        response["extensions"] = {**response.get("extensions", {}), "cost": cost}
        return response

    async def _execute(
        self, operation: Operation, caller: Caller, request_id: str
    ) -> GraphQLResponse:
        context = self._context(operation, caller, request_id)
        limit = self._limits.max_execution_seconds
        clock = asyncio.get_running_loop().time
        start = clock()
        try:
            async with asyncio.timeout(limit):
                if operation.is_introspection:
                    return await self._introspection(operation, context)
                if self._planner:
                    return await self._planner.response(operation, context)
                return await _reference(operation, context)
        except AnswerTooLarge as error:
            is_query = operation.kind is OperationType.QUERY
            message = str(error) if is_query else f"{error} A mutation may have been committed."
            raise Refused(message, error.code) from None
        except TimeoutError:
            raise TimedOut(limit, clock() - start) from None

    async def _introspection(self, operation: Operation, context: Context) -> GraphQLResponse:
        """Execute a long introspection on a thread: it takes 0.2 s."""

        def introspect() -> GraphQLResponse:
            # With an event loop of its own: it reads nothing that belongs to the other one.
            return asyncio.run(_reference(operation, context))

        return await self._threads.run_measured(context.caller.store, introspect)

    def stream(
        self,
        operation: Operation,
        caller: Caller,
        request_id: str,
        resume_from: str | None = None,
    ) -> AsyncGenerator[StreamResult, None]:
        """Stream the results of a subscription, or the one response of another operation.

        A result is produced only after the previous one was taken. Raises TimedOut, NotStarted.
        """
        if operation.kind is not OperationType.SUBSCRIPTION:
            return self._single(operation, caller, request_id)
        context = self._context(operation, caller, request_id, resume_from)
        return self._shared_subscriptions.results(operation, context)

    async def _single(
        self, operation: Operation, caller: Caller, request_id: str
    ) -> AsyncGenerator[StreamResult, None]:
        yield StreamResult.of(await self.execute(operation, caller, request_id))

    def _context(
        self,
        operation: Operation,
        caller: Caller,
        request_id: str,
        resume_from: str | None = None,
    ) -> Context:
        return Context(
            self._database,
            self._feed,
            caller,
            request_id,
            operation.document.tree,
            resume_from,
            max_tree_depth=self._limits.max_tree_depth,
        )


async def _reference(operation: Operation, context: Context) -> GraphQLResponse:
    """Execute the document of the context by the reference executor. Raises AnswerTooLarge."""
    result = await schema.execute(
        operation.document.text,
        variable_values=operation.variables,
        context_value=context,
        operation_name=operation.name,
    )
    if context.budget.exceeded:
        raise context.budget.exceeded()
    response: GraphQLResponse = {"data": result.data}
    if result.errors:
        response["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        response["extensions"] = result.extensions
    return response
