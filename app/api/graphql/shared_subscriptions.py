"""Subscribers who are told the same: each event is executed once for all of them.

    its cursor -> the feed -> an event \\                               / its socket's envelope
    its cursor -> the feed -> an event  > one execution -> JSON, once <  its socket's envelope
    its cursor -> the feed -> an event /                               \\ its stream's envelope

An audience is all who ask the same operation of the same document with the same variables and the
same authority, which is a store and scopes. Where somebody resumes from is his own, and so is all
that happens before his first event. The execution is not shown for whom it is, by what name or
until when: no answer can depend on that.

An answer shows some things as they are now. So nobody is told one that was begun before he came.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Hashable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Self

import orjson
from graphql import (
    ExecutionResult,
    FieldNode,
    GraphQLError,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    VisitorAction,
    create_source_event_stream,
    execute_subscription_event,
    visit,
)
from graphql import Executor as AnyExecution
from strawberry.execution import optimized_is_awaitable

from app.api.graphql.admission.documents import DOCUMENT_CACHE_SIZE, Operation
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.graphql.context import Context
from app.api.graphql.errors import to_graphql
from app.api.graphql.fields.loaders import Loaders, current_loaders
from app.api.graphql.schema import graphql_schema
from app.api.graphql.types.events import EVENTS
from app.api.http.refusals import NotStarted
from app.api.http.request_log import OperationRecord
from app.domain.callers import Caller
from app.observability import metrics
from app.services.feed import FeedEvent, FeedEvents
from app.storage import lanes

Execution = AnyExecution[Any]
"""An operation that is ready to be executed."""

RESULT_CACHE_BYTES = 8 * 1024**2
"""Answers kept for those of an audience who come for them a little later than others, all together.
For whoever is later than that his events are executed again."""

EVENT_BYTES = 4096
"""What an answer counts for beside its own bytes: it keeps its event."""


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One result of a stream as it is sent, and the cursor that resumes behind it, if any."""

    payload: bytes
    """A response as GraphQL defines it, as JSON."""
    cursor: str | None = None
    failed: Mapping[str, Any] = field(default_factory=dict)
    """The errors it tells of, as it does; nothing if there are none."""

    @classmethod
    def of(cls, answer: Mapping[str, Any], cursor: str | None = None) -> Self:
        """That response, told."""
        failed = {"errors": answer["errors"]} if "errors" in answer else {}
        return cls(orjson.dumps(answer), cursor, failed)


class _SharedResult:
    """What an audience is told of an event, once that is known."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Which of its audience's executions it is."""
        self.told: StreamResult | None = None
        self.known = asyncio.Event()


class SubscriptionGroup:
    """Subscribers who are told the same, and what they were told lately."""

    def __init__(self, key: Hashable, execution: Execution) -> None:
        self.key = key
        self.execution = execution
        self.members = 0
        self.executions = 0
        self.running: set[asyncio.Task[None]] = set()
        self.newest = 0
        """How far in the log the foremost of them is."""
        self.answers: dict[FeedEvent, _SharedResult] = {}


class SharedSubscriptions:
    """All audiences of this process."""

    def __init__(self) -> None:
        self._audiences: dict[Hashable, SubscriptionGroup] = {}
        self._kept: dict[tuple[SubscriptionGroup, FeedEvent], int] = {}
        """Answers that are known, the oldest first, and what each counts for."""
        self._kept_bytes = 0

    async def results(
        self, operation: Operation, context: Context
    ) -> AsyncGenerator[StreamResult, None]:
        """What one subscriber is told; each result is made when the one before was taken.

        An event whose execution breaks is told with its errors, and the next one follows. Raises
        NotStarted.
        """
        request_id = context.request_id
        cursor = None
        with OperationRecord(operation.name, operation.kind.value) as run:
            own = _execution(operation, context)
            happenings = await _source(own, request_id)
            key = _key(operation, context.caller, own.variable_values.coerced)
            audience = self._audiences.get(key)
            if audience is None:
                shared = _execution(operation, _shared(context))
                audience = self._audiences[key] = SubscriptionGroup(key, shared)
            # Somebody who waits for an hour has no need of these.
            del own, key, context, operation
            audience.members += 1
            came = audience.executions
            try:
                async for happening in happenings:
                    answer = audience.answers.get(happening)
                    if answer is None or answer.number <= came:
                        answer = self._begin(audience, happening, request_id)
                    if answer.told is None:
                        await answer.known.wait()
                    told = answer.told
                    assert told
                    cursor = told.cursor
                    metrics.DELIVERED.value += 1
                    run.told(told.failed)
                    yield told
            except Exception as error:
                told = _encoded(_broken(error), cursor, request_id)
                run.told(told.failed)
                yield told
            finally:
                audience.members -= 1
                if not audience.members:
                    del self._audiences[audience.key]
                    self._end(audience)
                await happenings.aclose()

    def _begin(
        self, audience: SubscriptionGroup, happening: FeedEvent, request_id: str
    ) -> _SharedResult:
        """Begin to execute an event. If nothing has to be waited for, the answer is known at once.

        It belongs to the subscriber who came for it first: his request is shown if it breaks.
        """
        audience.executions += 1
        metrics.EXECUTIONS.inc()
        answer = _SharedResult(audience.executions)
        # Nobody else comes for what one alone, or the last of them, is told.
        shared = audience.members > 1 and happening.seq >= audience.newest
        if shared:
            self._drop(audience, happening)
            audience.newest = happening.seq
            audience.answers[happening] = answer

        def know(result: ExecutionResult) -> None:
            answer.told = _encoded(result, EVENTS.encode((happening.seq,)), request_id)
            answer.known.set()
            if audience.answers.get(happening) is answer:
                self._keep(audience, happening, len(answer.told.payload) + EVENT_BYTES)

        async def find_out(coming: Awaitable[ExecutionResult]) -> None:
            try:
                result = await coming
            except Exception as error:
                result = _broken(error)
            know(result)

        place = copy_context()
        try:
            found = place.run(_executed, audience.execution, happening)
        except Exception as error:
            found = _broken(error)
        if isinstance(found, ExecutionResult):
            know(found)
        else:
            # Beside all who wait for it, so that it goes on if one of them leaves.
            running = asyncio.create_task(find_out(found), context=place)
            audience.running.add(running)
            running.add_done_callback(audience.running.discard)
        return answer

    def _keep(self, audience: SubscriptionGroup, happening: FeedEvent, size: int) -> None:
        self._kept[audience, happening] = size
        self._kept_bytes += size
        while self._kept_bytes > RESULT_CACHE_BYTES:
            self._drop(*next(iter(self._kept)))

    def _drop(self, audience: SubscriptionGroup, happening: FeedEvent) -> None:
        audience.answers.pop(happening, None)
        self._kept_bytes -= self._kept.pop((audience, happening), 0)

    def _end(self, audience: SubscriptionGroup) -> None:
        for happening in list(audience.answers):
            self._drop(audience, happening)
        for running in audience.running:
            running.cancel()


def _shared(context: Context) -> Context:
    """The same without what is one subscriber's own."""
    caller = Caller(context.caller.store, scopes=context.caller.scopes)
    return replace(context, caller=caller, request_id="", resume_from=None)


def _execution(operation: Operation, context: Context) -> Execution:
    found = Execution.build(
        graphql_schema,
        operation.document.tree,
        context_value=context,
        raw_variable_values=operation.variables,
        operation_name=operation.name,
        # Only told to be no type guard.
        is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
    )
    if isinstance(found, list):
        raise NotStarted([error.formatted for error in found])
    return found


async def _source(execution: Execution, request_id: str) -> FeedEvents:
    """The subscription's own events. Raises NotStarted."""
    found: Any = create_source_event_stream(execution)
    if execution.is_awaitable(found):
        found = await found
    if isinstance(found, ExecutionResult):
        errors = found.errors or []
        for error in errors:
            to_graphql(error, request_id)
        raise NotStarted([error.formatted for error in errors])
    happenings: FeedEvents = found
    return happenings


def _executed(
    execution: Execution, happening: FeedEvent
) -> ExecutionResult | Awaitable[ExecutionResult]:
    """What a happening selects, with reads of its own and the queue as it was at the time."""
    context: Context = execution.context_value
    loaders = Loaders(context.database, context.caller)
    if happening.standing and happening.job.pk:
        loaders.prime(lanes.queue_positions, happening.job.pk, happening.standing)
    current_loaders.set(loaders)
    return execute_subscription_event(execution.build_per_event_executor(happening))


def _encoded(result: ExecutionResult, cursor: str | None, request_id: str) -> StreamResult:
    answer: dict[str, Any] = {"data": result.data}
    if result.errors:
        for error in result.errors:
            to_graphql(error, request_id)
        answer["errors"] = [error.formatted for error in result.errors]
    return StreamResult.of(answer, cursor)


def _broken(error: Exception) -> ExecutionResult:
    return ExecutionResult(None, [GraphQLError(str(error), original_error=error)])


def _key(operation: Operation, caller: Caller, variables: Mapping[str, Any]) -> Hashable:
    """What all of an audience have in common."""
    own = _resumed_by(operation.document, operation.name)
    shared = {name: value for name, value in variables.items() if name != own}
    return (
        operation.document.text,
        operation.name,
        # As JSON, 1 is not True. A variable has one type, so no two values of it are the same.
        orjson.dumps(shared, option=orjson.OPT_SORT_KEYS, default=repr),
        caller.store,
        caller.scopes,
    )


@lru_cache(DOCUMENT_CACHE_SIZE)
def _resumed_by(document: ParsedDocument, name: str | None) -> str | None:
    """The variable that only says where a subscriber resumes from, if there is one."""
    root = document.operation(name).selection_set.selections[0]
    if isinstance(root, FieldNode):
        for argument in root.arguments or ():
            if argument.name.value == "after" and isinstance(argument.value, VariableNode):
                variable = argument.value.name.value
                uses = _Uses()
                visit(document.tree, uses)
                return variable if uses.counts[variable] == 1 else None
    return None


class _Uses(Visitor):
    """Counts the places of a document that use each variable."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def enter_variable_definition(self, _node: VariableDefinitionNode, *_: Any) -> VisitorAction:
        return self.SKIP

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.counts[node.name.value] += 1
