"""One run of a plan, inside at most one database read."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from graphql import VariableValues

from app.api.graphql.fields.loaders import MAX_BATCH_KEYS
from app.api.graphql.fields.source import BatchLoad, ColumnValues, Rows
from app.api.graphql.plans.plan import Level, Plan, PlanField, ResponseObject
from app.domain.answers import AnswerBudget
from app.domain.callers import Caller
from app.storage.engine.transaction import Transaction

Objects = list[ResponseObject]


CHECKED_ROWS = 32
"""Rows from which the limit of a read is checked per field: of fewer, a field takes 0.1 ms."""


class TransactionNeeded(Exception):
    """A run without a transaction has to read something."""


class PlanRun:
    """Runs a plan for a caller. Loaded values are cached, so that the response is consistent."""

    def __init__(
        self,
        plan: Plan,
        tx: Transaction | None,
        caller: Caller,
        variables: VariableValues,
        budget: AnswerBudget,
        *,
        is_long: bool = False,
    ) -> None:
        """`is_long`: the operation can return enough short texts that they are counted too."""
        self.caller = caller
        self.budget = budget
        if tx is not None:
            tx.budget = budget
        self._is_long = is_long
        self.variables = variables
        self._plan = plan
        self._tx = tx
        self._loaded: dict[BatchLoad, dict[Hashable, Any]] = {}
        self._requested: dict[BatchLoad, dict[Hashable, None]] = {}
        self._owners: dict[Callable[..., object], Rows] = {}

    @property
    def tx(self) -> Transaction:
        """The transaction of all reads. Raises TransactionNeeded if the run has none."""
        if self._tx is None:
            raise TransactionNeeded
        return self._tx

    def data(self, root: object = None) -> ResponseObject:
        """Return the data of the response.

        Raises Unplanned, TransactionNeeded, AnswerTooLarge, and any exception of a read or an
        expression.
        """
        level = Level()
        [data] = level.add(self._plan.root, [root])
        while level.objects:
            below = Level()
            self._check_limit()
            columns: list[tuple[PlanField, ColumnValues | Callable[[], ColumnValues], Objects]] = []
            for selection, rows, objects in level.objects:
                self._owners = {}
                for field in selection.fields:
                    if len(rows) >= CHECKED_ROWS:
                        self._check_limit()
                    columns.append((field, field.column(self, rows), objects))
            if self._requested:
                self._load()
            counts_texts = self.counts_texts
            for field, values, objects in columns:
                if len(objects) >= CHECKED_ROWS:
                    self._check_limit()
                completed = field.complete(below, values() if callable(values) else values)
                if counts_texts and field.is_text:
                    self.budget.return_texts(completed)
                for target, value in zip(objects, completed, strict=True):
                    target[field.response_key] = value
            level = below
        return data

    def _check_limit(self) -> None:
        if self._tx is not None:
            self._tx.check_limit()

    @property
    def counts_texts(self) -> bool:
        """True if the texts of the answer have to be counted."""
        return self._is_long or self.budget.counts_texts

    def owners(self, rows: Rows, owner: Callable[..., object]) -> Rows:
        """Return the owner of each row, computed once per selection."""
        owners = self._owners.get(owner)
        if owners is None:
            owners = self._owners[owner] = [*map(owner, rows)]
        return owners

    def prime(self, load: BatchLoad, key: Hashable, value: object) -> None:
        """Use `value` for `key`, so that it is not loaded."""
        self._loaded.setdefault(load, {})[key] = value

    def request(self, load: BatchLoad, keys: Sequence[Hashable]) -> None:
        """Request values for the keys that are not None, to be loaded with the level."""
        loaded = self._loaded.setdefault(load, {})
        requested = self._requested.setdefault(load, {})
        for key in keys:
            if key is not None and key not in loaded:
                requested[key] = None

    def loaded(self, load: BatchLoad, keys: Sequence[Hashable]) -> ColumnValues:
        """Return the loaded value of each key, None for None."""
        loaded = self._loaded[load]
        return [None if key is None else loaded[key] for key in keys]

    def _load(self) -> None:
        """Load all requested values, with one statement per read and MAX_BATCH_KEYS keys."""
        for load, requested in self._requested.items():
            read, arguments = load
            projection = self._plan.projections.get(read)
            options = {} if projection is None else {"projection": projection}
            loaded, keys = self._loaded[load], list(requested)
            for start in range(0, len(keys), MAX_BATCH_KEYS):
                chunk = keys[start : start + MAX_BATCH_KEYS]
                loaded.update(dict.fromkeys(chunk))
                loaded.update(read(self.tx, self.caller.store, chunk, *arguments, **options))
        self._requested = {}
