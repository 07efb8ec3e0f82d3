"""Compilation, caching and running of plans."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from graphql import GraphQLError, OperationType
from strawberry import Schema

from app.api.graphql.admission.documents import Operation
from app.api.graphql.admission.parsed_document import ParsedDocument
from app.api.graphql.context import Context
from app.api.graphql.fields.source import Unplanned
from app.api.graphql.plans.compiler import (
    compile_event,
    compile_mutation,
    compile_query,
    switch_variables,
)
from app.api.graphql.plans.events import EXPECTED_ERRORS, EventExecutor, EventPlan
from app.api.graphql.plans.plan import GraphQLResponse, Plan, PlanStep, ResponseObject
from app.api.graphql.plans.run import PlanRun
from app.api.graphql.strawberry_seam import info_of
from app.domain.answers import AnswerBudget, AnswerTooLarge
from app.domain.errors import DomainError
from app.observability import metrics
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction

log = logging.getLogger(__name__)

ReferenceExecutor = Callable[[Operation, Context], Awaitable[GraphQLResponse]]
"""Executes an operation, by the document of the context."""

PLAN_CACHE_SIZE = 16
"""Cached plans per operation, keyed by the variables of @skip and @include."""


_COMPILERS: Mapping[OperationType, Callable[[Schema, Operation], Plan | list[PlanStep]]] = {
    OperationType.QUERY: compile_query,
    OperationType.MUTATION: compile_mutation,
    OperationType.SUBSCRIPTION: compile_event,
}


@dataclass(slots=True)
class _OperationPlans:
    """The plans of one operation; None where the reference executor has to run it."""

    switches: tuple[str, ...]
    """The variables of @skip and @include."""
    by_switches: dict[tuple[Any, ...], Plan | Sequence[PlanStep] | None]

    def switches_of(self, operation: Operation) -> tuple[Any, ...]:
        """Return the values of `switches`, the key of the operation's plan."""
        variables = operation.coerced.coerced
        return tuple(variables.get(name) for name in self.switches)


class Planner:
    """Runs operations by compiled plans; the reference executor runs the rest."""

    def __init__(self, schema: Schema, database: Database, reference: ReferenceExecutor) -> None:
        self._schema = schema
        self._database = database
        self._reference = reference
        self._plans_of: WeakKeyDictionary[ParsedDocument, dict[str | None, _OperationPlans]] = (
            WeakKeyDictionary()
        )
        """By document and operation name. A plan holds no reference to its document, so that it is
        freed when the document leaves its cache."""

    def compilation(self, operation: Operation) -> Callable[[], object] | None:
        """Return a function that compiles and caches the operation's plan, None if it is cached.

        Any thread may call it.
        """
        try:
            self._cached(operation)
        except KeyError:
            return partial(self._plan, operation)
        return None

    async def response(self, operation: Operation, context: Context) -> GraphQLResponse:
        """Execute a query or a mutation. Raises AnswerTooLarge."""
        plan, response = self._plan(operation), None
        if plan is None:
            outcome = "ordinary"
        else:
            try:
                if isinstance(plan, Plan):
                    response = await self._run_query(plan, operation, context)
                else:
                    response = await self._run_mutation(plan, operation, context)
                outcome = "split" if isinstance(plan, Plan) and plan.split else "planned"
            except AnswerTooLarge:
                metrics.PLANS.labels("refused").inc()
                raise
            except EXPECTED_ERRORS:
                outcome = "refused"
            except Exception:
                log.exception("a plan failed; the reference executor runs the operation")
                outcome = "broke"
        metrics.PLANS.labels(outcome).inc()
        return response or await self._reference(operation, context)

    def event_executor(
        self, operation: Operation, context: Context, reference: EventExecutor
    ) -> EventExecutor:
        """Return the executor of a subscription's events for the caller of `context`."""
        plan = self._plan(operation)
        if not isinstance(plan, Plan):
            return reference
        return EventPlan(
            plan,
            self._database,
            context.caller,
            operation.coerced,
            reference,
            is_long=operation.is_long,
        ).execute

    async def _run_query(
        self, plan: Plan, operation: Operation, context: Context
    ) -> GraphQLResponse:
        if plan.split is None:
            return {"data": await self._run_plan(plan, operation, context)}
        # Before the plan: the cursor of jobQueue must not be newer than the lists selected after.
        others = await self._reference(operation, replace(context, document=plan.split.others))
        try:
            planned: GraphQLResponse = {"data": await self._run_plan(plan, operation, context)}
        except AnswerTooLarge:
            raise
        except EXPECTED_ERRORS:
            if others["data"] is None:
                # graphql-core chooses which errors it reports next to this null.
                raise
            # The other fields, which may be expensive, do not run again.
            planned = await self._reference(
                operation, replace(context, document=plan.split.planned)
            )
        return _merged(others, planned, plan.response_keys)

    async def _run_plan(
        self, plan: Plan, operation: Operation, context: Context, root: object = None
    ) -> ResponseObject:
        is_long = operation.is_long

        def run(tx: Transaction) -> tuple[ResponseObject, AnswerBudget]:
            # A copy: a run that takes too long starts over.
            budget = context.budget.copy()
            plan_run = PlanRun(plan, tx, context.caller, operation.coerced, budget, is_long=is_long)
            return plan_run.data(root), budget

        read = self._database.client_scan if is_long else self._database.client_read
        data, budget = await read(context.caller.store, run)
        context.budget.keep(budget)
        return data

    async def _run_mutation(
        self, steps: Sequence[PlanStep], operation: Operation, context: Context
    ) -> GraphQLResponse:
        data: ResponseObject = {}
        for step in steps:
            arguments = step.arguments(operation.coerced)
            try:
                result = await step.change(info=info_of(context), **arguments)
            except Exception as error:
                # The mutation may have been committed: the reference executor must not repeat it.
                context.mutation_results[step.response_key] = error
                raise Unplanned from error
            context.mutation_results[step.response_key] = result
            data |= await self._run_plan(step.payload, operation, context, result)
        return {"data": data}

    def _plan(self, operation: Operation) -> Plan | Sequence[PlanStep] | None:
        try:
            return self._cached(operation)
        except KeyError:
            return self._compile(operation)

    def _cached(self, operation: Operation) -> Plan | Sequence[PlanStep] | None:
        """Return the cached plan of an operation. Raises KeyError."""
        plans = self._plans_of[operation.document][operation.name]
        return plans.by_switches[plans.switches_of(operation)]

    def _compile(self, operation: Operation) -> Plan | Sequence[PlanStep] | None:
        """Compile and cache the plan of an operation."""
        plans = self._operation_plans(operation)
        plan: Plan | Sequence[PlanStep] | None
        try:
            plan = _COMPILERS[operation.kind](self._schema, operation)
        except (Unplanned, DomainError, GraphQLError):
            plan = None
        if len(plans.by_switches) >= PLAN_CACHE_SIZE:
            # All of them: the search for the oldest would fail if another thread changed the cache.
            plans.by_switches.clear()
        plans.by_switches[plans.switches_of(operation)] = plan
        return plan

    def _operation_plans(self, operation: Operation) -> _OperationPlans:
        by_name = self._plans_of.get(operation.document)
        if by_name is None:
            by_name = self._plans_of[operation.document] = {}
        plans = by_name.get(operation.name)
        if plans is None:
            switches = tuple(sorted(switch_variables(operation)))
            plans = by_name[operation.name] = _OperationPlans(switches, {})
        return plans


def _merged(
    response: GraphQLResponse, another: GraphQLResponse, keys: Sequence[str]
) -> GraphQLResponse:
    """Merge responses to two parts of an operation, whose keys are `keys`."""
    merged: GraphQLResponse = {"data": None}
    if response["data"] is not None and another["data"] is not None:
        data = response["data"] | another["data"]
        merged["data"] = {key: data[key] for key in keys}
    if errors := [*response.get("errors", ()), *another.get("errors", ())]:
        merged["errors"] = errors
    return merged
