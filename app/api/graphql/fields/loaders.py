"""Loaders of one operation: each kind of read runs once for all keys requested together."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

from strawberry.dataloader import DataLoader

from app.api.graphql.fields.shared_reads import shared
from app.domain.answers import AnswerBudget, AnswerTooLarge
from app.domain.callers import Caller
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction

P = ParamSpec("P")
KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

BatchRead = Callable[Concatenate[Transaction, str, Sequence[KeyT], ...], Mapping[KeyT, ValueT]]
"""A read of many keys of a store at once. Returns values by key, without unknown keys."""

MAX_BATCH_KEYS = 1_000
"""Keys per statement: databases limit the number of bind values."""


class Loaders:
    """Reads of one operation, or of one event of a subscription.

    Results are cached, so that one response is consistent; hence never shared between operations.
    """

    def __init__(self, database: Database, caller: Caller, budget: AnswerBudget) -> None:
        self.caller = caller
        self.budget = budget
        self._database = database
        self._lock = asyncio.Lock()
        self._loaders: dict[Hashable, DataLoader[Any, Any]] = {}

    async def read(
        self, fn: Callable[Concatenate[Transaction, P], ValueT], *args: P.args, **kwargs: P.kwargs
    ) -> ValueT:
        """Run a read. Reads run one at a time: none shows an older state than an earlier one."""
        async with self._lock:
            return await self._database.client_read(
                self.caller.store, self._counted(fn), *args, **kwargs
            )

    async def scan(
        self, fn: Callable[Concatenate[Transaction, P], ValueT], *args: P.args, **kwargs: P.kwargs
    ) -> ValueT:
        """Run a read that may examine many rows. It may show an older state than later reads."""
        return await self._database.client_scan(
            self.caller.store, self._counted(fn), *args, **kwargs
        )

    def _counted(
        self, fn: Callable[Concatenate[Transaction, P], ValueT]
    ) -> Callable[Concatenate[Transaction, P], ValueT]:
        """Count the texts that `fn` reads."""

        def read(tx: Transaction, /, *args: P.args, **kwargs: P.kwargs) -> ValueT:
            # A copy: a read that takes too long starts over.
            tx.budget = attempt = self.budget.copy()
            try:
                value = fn(tx, *args, **kwargs)
            except AnswerTooLarge as error:
                self.budget.exceeded = type(error)
                raise
            self.budget.keep_read(attempt)
            return value

        return read

    async def load(
        self, batch: BatchRead[KeyT, ValueT], key: KeyT, *arguments: Hashable
    ) -> ValueT | None:
        """Load the value of `key`, in one read with all other keys requested until it runs."""
        value = await shared(asyncio.ensure_future(self._loader(batch, arguments).load(key)))
        # The executor completes the value now, and those of all other keys after it.
        await self._database.turns.wait_if_over(self.caller.store)
        return value

    def prime(
        self, batch: BatchRead[KeyT, ValueT], key: KeyT, value: ValueT, *arguments: Hashable
    ) -> None:
        """Cache `value` for `key`, so that it is not read."""
        self._loader(batch, arguments).prime(key, value)

    def _loader(
        self, batch: BatchRead[KeyT, ValueT], arguments: tuple[Hashable, ...]
    ) -> DataLoader[KeyT, ValueT | None]:
        loader = self._loaders.get((batch, arguments))
        if loader is None:

            async def load_all(keys: list[KeyT]) -> list[ValueT | None]:
                values = await self.read(batch, self.caller.store, keys, *arguments)
                return [values.get(key) for key in keys]

            loader = DataLoader(load_fn=load_all, max_batch_size=MAX_BATCH_KEYS)
            self._loaders[batch, arguments] = loader
        return loader


current_loaders: ContextVar[Loaders] = ContextVar("current_loaders")
"""Loaders of the operation that this task executes. Not in the context object: all events of a
group of subscribers share one."""


def reset_loaders(database: Database, caller: Caller, budget: AnswerBudget) -> Loaders:
    """Replace the current loaders by empty ones.

    The mutations of one request run one after another, and the payload of each shows its own
    changes.
    """
    loaders = Loaders(database, caller, budget)
    current_loaders.set(loaders)
    return loaders
