"""Reads of one operation, gathered: each kind of read is asked once for all who want it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlmodel import Session
from strawberry.dataloader import DataLoader

from app.domain.callers import Caller
from app.storage.engine.database import Database

P = ParamSpec("P")
KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

BatchRead = Callable[Concatenate[Session, str, Any, ...], Mapping[KeyT, ValueT]]
"""A read for many keys in one go: a store's values by key, unknown keys left out."""

MAX_BATCH_KEYS = 1_000
"""Keys asked for in one statement: databases limit how many values one may carry."""


class Loaders:
    """The reads of one operation, or of one event of a subscription. What was read is kept, so
    one answer shows one picture; hence never shared between operations."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self.caller = caller
        self._database = database
        self._turn = asyncio.Lock()
        self._loaders: dict[Hashable, DataLoader[Any, Any]] = {}

    async def read(
        self, fn: Callable[Concatenate[Session, P], ValueT], *args: P.args, **kwargs: P.kwargs
    ) -> ValueT:
        """What `fn` finds. Reads take turns: none shows an earlier state than one asked before."""
        async with self._turn:
            return await self._database.read(fn, *args, **kwargs)

    def load(
        self, batch: BatchRead[KeyT, ValueT], key: KeyT, *arguments: Hashable
    ) -> Awaitable[ValueT | None]:
        """What `batch` finds for `key`, read together with all other keys wanted by then."""
        return self._loader(batch, arguments).load(key)

    def prime(
        self, batch: BatchRead[KeyT, ValueT], key: KeyT, value: ValueT, *arguments: Hashable
    ) -> None:
        """Answer `key` with `value` instead of reading it."""
        self._loader(batch, arguments).prime(key, value)

    def _loader(
        self, batch: BatchRead[KeyT, ValueT], arguments: tuple[Hashable, ...]
    ) -> DataLoader[KeyT, ValueT | None]:
        loader = self._loaders.get((batch, arguments))
        if loader is None:

            async def load_all(keys: list[KeyT]) -> list[ValueT | None]:
                found = await self.read(batch, self.caller.store, keys, *arguments)
                return [found.get(key) for key in keys]

            loader = DataLoader(load_fn=load_all, max_batch_size=MAX_BATCH_KEYS)
            self._loaders[batch, arguments] = loader
        return loader


current_loaders: ContextVar[Loaders] = ContextVar("loaders")
"""The loaders of the operation that this task executes. One WebSocket has one context for all its
operations and events, so they can't be there."""


def reset_loaders(database: Database, caller: Caller) -> Loaders:
    """Forget what was read. The mutations of one request run one after the other: each shows things
    as it left them."""
    loaders = Loaders(database, caller)
    current_loaders.set(loaders)
    return loaders
