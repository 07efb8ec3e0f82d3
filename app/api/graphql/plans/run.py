"""One run of a plan, inside one read."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from graphql.execution.values import VariableValues
from sqlmodel import Session

from app.api.graphql.fields.loaders import MAX_BATCH_KEYS
from app.api.graphql.plans.plan import ColumnValues, Field, Level, Load, Plan, Rows
from app.domain.callers import Caller

Objects = list[dict[str, Any]]


class PlanRun:
    """Runs a plan for a caller. What was read is kept, so one answer shows one picture."""

    def __init__(
        self, plan: Plan, session: Session, caller: Caller, variables: VariableValues
    ) -> None:
        self.session = session
        self.caller = caller
        self.variables = variables
        self.wanted = plan.wanted
        self._plan = plan
        self._read: dict[Load, dict[Hashable, Any]] = {}
        self._asked: dict[Load, dict[Hashable, None]] = {}
        self._within: dict[Callable[[Any], Any], Rows] = {}

    def answer(self, root: Any = None) -> dict[str, Any]:
        """The data of an answer. Raises Unplanned, and whatever else a read or an expression may
        raise."""
        level = Level()
        [told] = level.begin(self._plan.root, [root])
        while level.objects:
            below = Level()
            waiting: list[tuple[Field, Callable[[], ColumnValues], Objects]] = []
            for selection, rows, objects in level.objects:
                self._within = {}
                for field in selection.fields:
                    found = field.column(self, rows)
                    if callable(found):
                        waiting.append((field, found, objects))
                    else:
                        _fill(objects, field.key, field.complete(below, found))
            self._load()
            for field, found, objects in waiting:
                _fill(objects, field.key, field.complete(below, found()))
            level = below
        return told

    def within(self, rows: Rows, of: Callable[[Any], Any]) -> Rows:
        """What `of` finds in each of the rows of a selection."""
        found = self._within.get(of)
        if found is None:
            found = self._within[of] = [*map(of, rows)]
        return found

    def ask(self, load: Load, keys: Sequence[Hashable]) -> None:
        """Have this read for these keys, those that are None aside."""
        known = self._read.setdefault(load, {})
        asked = self._asked.setdefault(load, {})
        for key in keys:
            if key is not None and key not in known:
                asked[key] = None

    def found(self, load: Load, keys: Sequence[Hashable]) -> ColumnValues:
        """What was read for each key, once the level was; None for None."""
        known = self._read[load]
        return [None if key is None else known[key] for key in keys]

    def _load(self) -> None:
        """Read all that was asked for, in one statement for each kind of read."""
        for load, asked in self._asked.items():
            batch, arguments = load
            wanted = {"wanted": self.wanted[batch]} if batch in self.wanted else {}
            known, keys = self._read[load], list(asked)
            for first in range(0, len(keys), MAX_BATCH_KEYS):
                some = keys[first : first + MAX_BATCH_KEYS]
                known.update(dict.fromkeys(some))
                known.update(batch(self.session, self.caller.store, some, *arguments, **wanted))
        self._asked = {}


def _fill(objects: Objects, key: str, values: ColumnValues) -> None:
    for told, value in zip(objects, values, strict=True):
        told[key] = value
