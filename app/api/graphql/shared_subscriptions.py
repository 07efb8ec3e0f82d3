"""Shared subscriptions: identical operations share one execution per event.

    its cursor -> the feed -> an event \\                               / its socket's envelope
    its cursor -> the feed -> an event  > one execution -> JSON, once <  its socket's envelope
    its cursor -> the feed -> an event /                               \\ its stream's envelope

A group is all subscribers with the same operation of the same document, the same variables and the
same authority, which is a store and scopes. The resume cursor stays per subscriber, and so do all
errors before its first event. The shared execution sees no subject, request id or expiry: no result
can depend on them.

A result shows some values as of its execution. So a subscriber never receives a result whose
execution began before it joined the group.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Hashable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Self

import orjson
from graphql import (
    ExecutionResult,
    FieldNode,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    VisitorAction,
    visit,
)

from app.api.graphql.admission.documents import DOCUMENT_CACHE_SIZE, Operation
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.graphql.context import Context
from app.api.graphql.errors import to_graphql
from app.api.graphql.fields.counting import CountingEventExecution
from app.api.graphql.fields.loaders import Loaders, current_loaders
from app.api.graphql.plans.events import EventExecutor, EventResult, failure
from app.api.graphql.plans.planner import Planner
from app.api.graphql.schema import graphql_schema
from app.api.graphql.strawberry_seam import (
    PreparedExecution,
    execute_event,
    prepare_execution,
    source_events,
)
from app.api.graphql.types.events import EVENTS
from app.api.http.refusals import NotStarted
from app.api.http.request_log import OperationRecord
from app.domain.answers import AnswerBudget
from app.domain.callers import Caller
from app.observability import metrics
from app.services.feed import FeedEvent, FeedEvents

RESULT_CACHE_BYTES = 8 * 1024**2
"""Memory budget of all groups together for results cached for slower subscribers.

For subscribers slower than that, their events are executed again.
"""

EVENT_BYTES = 4096
"""Counted per cached result in addition to its payload: it holds its event."""


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One encoded result of a stream, and the cursor that resumes after it, if any."""

    payload: bytes
    """GraphQL response as JSON."""
    cursor: str | None = None
    failed: Mapping[str, Any] = field(default_factory=dict)
    """The response's `errors`, else empty: the part that the request log records."""

    @classmethod
    def of(cls, response: Mapping[str, Any], cursor: str | None = None) -> Self:
        """Encode a response."""
        failed = {"errors": response["errors"]} if "errors" in response else {}
        return cls(orjson.dumps(response), cursor, failed)


class _SharedResult:
    """Result of one execution of a group; `ready` is set once it is known."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Number of the execution within its group, from 1."""
        self.result: StreamResult | None = None
        self.ready = asyncio.Event()


class SubscriptionGroup:
    """Subscribers that receive the same results, and their most recent results."""

    def __init__(self, key: Hashable, execute: EventExecutor) -> None:
        self.key = key
        self.execute = execute
        self.members = 0
        self.executions = 0
        self.running: set[asyncio.Task[None]] = set()
        self.newest_seq = 0
        """The highest `seq` executed so far: the position of the fastest member."""
        self.results: dict[FeedEvent, _SharedResult] = {}


class SharedSubscriptions:
    """All subscription groups of this process."""

    def __init__(self, planner: Planner | None) -> None:
        self._planner = planner
        self._groups: dict[Hashable, SubscriptionGroup] = {}
        self._cached: dict[tuple[SubscriptionGroup, FeedEvent], int] = {}
        """Bytes of each cached result that is ready, oldest first."""
        self._cached_bytes = 0

    async def results(
        self, operation: Operation, context: Context
    ) -> AsyncGenerator[StreamResult, None]:
        """Stream one subscriber's results. A result is produced after the previous one was taken.

        If the execution of an event raises, its result holds the error and the stream goes on.
        Raises NotStarted.
        """
        request_id = context.request_id
        cursor = None
        with OperationRecord(operation.name, operation.kind.value) as record:
            own = _prepare(operation, context)
            events = await _source(own, request_id)
            key = _group_key(operation, context.caller, own.variable_values.coerced)
            group = self._groups.get(key)
            if group is None:
                execute = self._executor(operation, _shared_context(context))
                group = self._groups[key] = SubscriptionGroup(key, execute)
            # A subscriber may wait for hours: release what it no longer needs.
            del own, key, context, operation
            group.members += 1
            executions_before = group.executions
            try:
                async for event in events:
                    shared_result = group.results.get(event)
                    if shared_result is None or shared_result.number <= executions_before:
                        shared_result = self._start(group, event, request_id)
                    if shared_result.result is None:
                        await shared_result.ready.wait()
                    result = shared_result.result
                    assert result
                    cursor = result.cursor
                    metrics.DELIVERED.value += 1
                    record.record_result(result.failed)
                    yield result
            except Exception as error:
                result = _encode(failure(error), cursor, request_id)
                record.record_result(result.failed)
                yield result
            finally:
                group.members -= 1
                if not group.members:
                    del self._groups[group.key]
                    self._close(group)
                await events.aclose()

    def _executor(self, operation: Operation, context: Context) -> EventExecutor:
        """Return the executor of a group's events."""
        reference = partial(_execute, _prepare(operation, context))
        if self._planner is None:
            return reference
        return self._planner.event_executor(operation, context, reference)

    def _start(self, group: SubscriptionGroup, event: FeedEvent, request_id: str) -> _SharedResult:
        """Start the execution of an event. Without anything to await its result is ready at once.

        `request_id` is that of the first subscriber to reach the event: an error reports it.
        """
        group.executions += 1
        metrics.EXECUTIONS.inc()
        shared_result = _SharedResult(group.executions)
        # A single subscriber, or the slowest one, is the only reader of its result.
        shared = group.members > 1 and event.seq >= group.newest_seq
        if shared:
            self._drop(group, event)
            group.newest_seq = event.seq
            group.results[event] = shared_result

        def publish(result: ExecutionResult) -> None:
            shared_result.result = _encode(result, EVENTS.encode((event.seq,)), request_id)
            shared_result.ready.set()
            if group.results.get(event) is shared_result:
                self._cache(group, event, len(shared_result.result.payload) + EVENT_BYTES)

        async def finish(pending: Awaitable[ExecutionResult]) -> None:
            try:
                result = await pending
            except Exception as error:
                result = failure(error)
            publish(result)

        task_context = copy_context()
        try:
            outcome = task_context.run(group.execute, event)
        except Exception as error:
            outcome = failure(error)
        if isinstance(outcome, ExecutionResult):
            publish(outcome)
        else:
            # A task of its own, so that it continues if one of its subscribers leaves.
            task = asyncio.create_task(finish(outcome), context=task_context)
            group.running.add(task)
            task.add_done_callback(group.running.discard)
        return shared_result

    def _cache(self, group: SubscriptionGroup, event: FeedEvent, size: int) -> None:
        self._cached[group, event] = size
        self._cached_bytes += size
        while self._cached_bytes > RESULT_CACHE_BYTES:
            self._drop(*next(iter(self._cached)))

    def _drop(self, group: SubscriptionGroup, event: FeedEvent) -> None:
        group.results.pop(event, None)
        self._cached_bytes -= self._cached.pop((group, event), 0)

    def _close(self, group: SubscriptionGroup) -> None:
        for event in list(group.results):
            self._drop(group, event)
        for task in group.running:
            task.cancel()


def _shared_context(context: Context) -> Context:
    """Return a copy without what belongs to one subscriber."""
    caller = Caller(context.caller.store, scopes=context.caller.scopes)
    return replace(context, caller=caller, request_id="", resume_from=None)


def _prepare(operation: Operation, context: Context) -> PreparedExecution:
    execution = prepare_execution(
        graphql_schema,
        operation.document.tree,
        context,
        operation.variables,
        operation.name,
        CountingEventExecution,
    )
    if isinstance(execution, list):
        raise NotStarted([error.formatted for error in execution])
    return execution


async def _source(execution: PreparedExecution, request_id: str) -> FeedEvents:
    """Return the events of one subscriber's feed. Raises NotStarted."""
    events = await source_events(execution)
    if isinstance(events, ExecutionResult):
        errors = events.errors or []
        for error in errors:
            to_graphql(error, request_id)
        raise NotStarted([error.formatted for error in errors])
    return events


def _execute(execution: PreparedExecution, event: object) -> EventResult:
    """Execute an event by the reference executor, with loaders of its own."""
    context: Context = execution.context_value
    budget = AnswerBudget()
    current_loaders.set(Loaders(context.database, context.caller, budget))
    result = execute_event(execution, event)
    if isinstance(result, ExecutionResult):
        return _unless_too_large(result, budget)
    return _awaited(result, budget)


async def _awaited(result: Awaitable[ExecutionResult], budget: AnswerBudget) -> ExecutionResult:
    return _unless_too_large(await result, budget)


def _unless_too_large(result: ExecutionResult, budget: AnswerBudget) -> ExecutionResult:
    return failure(budget.exceeded()) if budget.exceeded else result


def _encode(result: ExecutionResult, cursor: str | None, request_id: str) -> StreamResult:
    response: dict[str, Any] = {"data": result.data}
    if result.errors:
        for error in result.errors:
            to_graphql(error, request_id)
        response["errors"] = [error.formatted for error in result.errors]
    return StreamResult.of(response, cursor)


def _group_key(operation: Operation, caller: Caller, variables: Mapping[str, Any]) -> Hashable:
    """Return what all members of a group have in common."""
    resume_variable = _resume_variable(operation.document, operation.name)
    shared = {name: value for name, value in variables.items() if name != resume_variable}
    return (
        operation.document.text,
        operation.name,
        # As JSON, because 1 == True in Python. Unencodable values go in by `repr`: a variable has
        # one type, so equal texts are equal values.
        orjson.dumps(shared, option=orjson.OPT_SORT_KEYS, default=repr),
        caller.store,
        caller.scopes,
    )


@lru_cache(DOCUMENT_CACHE_SIZE)
def _resume_variable(document: ParsedDocument, name: str | None) -> str | None:
    """Return the variable that is used as the resume cursor and for nothing else, if any."""
    root = document.operation(name).selection_set.selections[0]
    if isinstance(root, FieldNode):
        for argument in root.arguments or ():
            if argument.name.value == "after" and isinstance(argument.value, VariableNode):
                variable = argument.value.name.value
                uses = _VariableUses()
                visit(document.tree, uses)
                return variable if uses.counts[variable] == 1 else None
    return None


class _VariableUses(Visitor):
    """Counts the uses of each variable in a document, without its definition."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def enter_variable_definition(self, _node: VariableDefinitionNode, *_: object) -> VisitorAction:
        return self.SKIP

    def enter_variable(self, node: VariableNode, *_: object) -> None:
        self.counts[node.name.value] += 1
