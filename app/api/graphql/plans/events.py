"""Execution of a subscription's events by their plan."""

import logging
from collections.abc import Awaitable, Callable

from graphql import ExecutionResult, GraphQLError, VariableValues

from app.api.graphql.fields.source import Unplanned
from app.api.graphql.plans.plan import Plan, ResponseObject
from app.api.graphql.plans.run import PlanRun, TransactionNeeded
from app.domain.answers import AnswerBudget, AnswerTooLarge
from app.domain.callers import Caller
from app.domain.errors import DomainError
from app.observability import metrics
from app.storage.engine.database import Database, DatabaseUnavailable
from app.storage.engine.transaction import Transaction

log = logging.getLogger(__name__)

EventResult = ExecutionResult | Awaitable[ExecutionResult]

EventExecutor = Callable[[object], EventResult]
"""Executes an event, synchronously if no read is needed."""

EXPECTED_ERRORS = (Unplanned, DomainError, GraphQLError, DatabaseUnavailable)
"""Errors that the reference executor raises too, and reports with their paths."""


def failure(error: Exception) -> ExecutionResult:
    """Return the result of an event that has no data."""
    return ExecutionResult(None, [GraphQLError(str(error), original_error=error)])


class EventPlan:
    """Executes the events of a subscription for callers with the same authority."""

    def __init__(
        self,
        plan: Plan,
        database: Database,
        caller: Caller,
        variables: VariableValues,
        reference: EventExecutor,
        *,
        is_long: bool = False,
    ) -> None:
        self._plan = plan
        self._caller = caller
        self._variables = variables
        self._reference = reference
        self._reads = False
        """An event has needed a read."""
        self._is_broken = False
        self._is_long = is_long
        self._read = database.client_scan if is_long else database.client_read

    def execute(self, event: object) -> EventResult:
        """Execute an event: by the plan, or by the reference executor if the plan gives up."""
        if self._is_broken:
            return self._reference(event)
        if self._reads:
            return self._execute_in_read(event)
        try:
            return ExecutionResult(self._data(None, event))
        except TransactionNeeded:
            self._reads = True
            return self._execute_in_read(event)
        except Exception as error:
            return self._reference_after(error, event)

    async def _execute_in_read(self, event: object) -> ExecutionResult:
        try:
            return ExecutionResult(await self._read(self._caller.store, self._data, event))
        except Exception as error:
            result = self._reference_after(error, event)
        return result if isinstance(result, ExecutionResult) else await result

    def _data(self, tx: Transaction | None, event: object) -> ResponseObject:
        run = PlanRun(
            self._plan, tx, self._caller, self._variables, AnswerBudget(), is_long=self._is_long
        )
        return run.data(event)

    def _reference_after(self, error: Exception, event: object) -> EventResult:
        if isinstance(error, AnswerTooLarge):
            return failure(error)
        if not isinstance(error, EXPECTED_ERRORS):
            # Once per subscription: each event would log the same bug.
            self._is_broken = True
            log.error("a plan failed; the reference executor runs the events", exc_info=error)
            metrics.PLANS.labels("broke").inc()
        return self._reference(event)
