"""Runs operations by their plans, where they have one."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphql import GraphQLError, OperationType
from sqlmodel import Session
from strawberry import Schema

from app.api.graphql.admission.documents import Operation
from app.api.graphql.context import Context
from app.api.graphql.plans.compiler import planned, steps_of, switches_of
from app.api.graphql.plans.plan import Plan, PlanStep, Unplanned
from app.api.graphql.plans.run import PlanRun
from app.domain.errors import DomainError
from app.observability import metrics
from app.storage.engine.database import Database, DatabaseUnavailable

log = logging.getLogger(__name__)

PLAN_CACHE_SIZE = 16
"""Plans of one operation that are kept, each for what else @skip and @include leave out."""


class Planner:
    """Makes plans and runs them. What it does not answer is the ordinary executor's."""

    def __init__(self, schema: Schema, database: Database) -> None:
        self._schema = schema
        self._database = database

    async def data(self, operation: Operation, context: Context) -> dict[str, Any] | None:
        """The data of an answer without errors; None: execute it, with this same context."""
        plan = self._plan(operation)
        if plan is None:
            metrics.PLANS.labels("ordinary").inc()
            return None
        try:
            if isinstance(plan, Plan):
                data = await self._read(plan, operation, context)
            else:
                data = await self._change(plan, operation, context)
        except (Unplanned, DomainError, GraphQLError, DatabaseUnavailable):
            # To tell of it is the ordinary executor's, which finds it too.
            metrics.PLANS.labels("refused").inc()
            return None
        except Exception:
            log.exception("a plan broke; the operation is executed without")
            metrics.PLANS.labels("broke").inc()
            return None
        metrics.PLANS.labels("planned").inc()
        return data

    async def _read(
        self, plan: Plan, operation: Operation, context: Context, root: Any = None
    ) -> dict[str, Any]:
        def run(session: Session) -> dict[str, Any]:
            return PlanRun(plan, session, context.caller, operation.coerced).answer(root)

        return await self._database.read(run)

    async def _change(
        self, steps: Sequence[PlanStep], operation: Operation, context: Context
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for step in steps:
            arguments = step.arguments(operation.coerced)
            try:
                made = await step.makes(info=_PlanInfo(context), **arguments)
            except Exception as error:
                # It may be done nevertheless.
                context.done[step.name] = error
                raise Unplanned from error
            context.done[step.name] = made
            data |= await self._read(step.payload, operation, context, made)
        return data

    def _plan(self, operation: Operation) -> "Plan | Sequence[PlanStep] | None":
        kept = _kept(operation)
        on = operation.coerced.coerced
        choice = tuple(on.get(name) for name in kept.switches)
        if choice not in kept.plans:
            if len(kept.plans) == PLAN_CACHE_SIZE:
                kept.plans.pop(next(iter(kept.plans)))
            compiled = planned if operation.kind is OperationType.QUERY else steps_of
            try:
                kept.plans[choice] = compiled(self._schema, operation)
            except (Unplanned, DomainError, GraphQLError):
                kept.plans[choice] = None
        return kept.plans[choice]


class _PlanInfo(NamedTuple):
    """What mutations ask of their Info."""

    context: Context


@dataclass(slots=True)
class _Kept:
    """The plans of one operation of a document, by what its @skip and @include were told."""

    switches: tuple[str, ...]
    plans: dict[tuple[Any, ...], Plan | Sequence[PlanStep] | None]


def _kept(operation: Operation) -> _Kept:
    """What is kept with the document, and forgotten with it."""
    by_operation = operation.document.kept
    kept = by_operation.get(operation.name)
    if kept is None:
        kept = by_operation[operation.name] = _Kept(tuple(sorted(switches_of(operation))), {})
    return kept
