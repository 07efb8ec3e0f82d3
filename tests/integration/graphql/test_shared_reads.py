"""Reads that several fields of a response share: the end of one field does not end the others.

The executor cancels the fields next to one that failed. Before, a field that awaited the same read
was cancelled with it, and so was the whole request.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence

import pytest

from app.api.graphql.cursors import Cursors, int_part
from app.api.graphql.fields.lazy_pages import LazyPage
from app.api.graphql.fields.loaders import Loaders
from app.api.graphql.fields.shared_reads import shared
from app.domain.answers import AnswerBudget
from app.domain.callers import Caller
from app.storage.engine.database import Database
from app.storage.engine.transaction import Transaction
from app.storage.sql.keyset import KeysetPage
from tests import factories


def doubled(_tx: Transaction, _store: str, keys: Sequence[int]) -> dict[int, int]:
    return {key: 2 * key for key in keys}


async def second_of_two(read: Callable[[], Awaitable[object]]) -> object:
    """Begin two fields with the same read and cancel the first one. Return the second's value."""
    first, second = (asyncio.ensure_future(read()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    return await second


async def test_a_cancelled_field_leaves_a_loaded_value_to_the_others(database: Database) -> None:
    loaders = Loaders(database, Caller(factories.STORE), AnswerBudget())
    assert await second_of_two(lambda: loaders.load(doubled, 21)) == 42


async def test_a_cancelled_field_leaves_a_page_to_the_others() -> None:
    async def read_page() -> KeysetPage[str]:
        await asyncio.sleep(0)
        return KeysetPage([((1,), "row")])

    async def read_count() -> int:
        return 1

    page = LazyPage(Cursors("rows", int_part), read_page, read_count)

    async def nodes() -> list[str]:
        return (await page.page()).nodes

    assert await second_of_two(nodes) == ["row"]


async def test_an_exception_that_no_field_awaits_any_more_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    read = asyncio.get_running_loop().create_future()
    field = asyncio.ensure_future(shared(read))
    await asyncio.sleep(0)
    field.cancel()
    with pytest.raises(asyncio.CancelledError):
        await field
    read.set_exception(ConnectionError())
    await asyncio.sleep(0)
    del read
    gc.collect()
    assert caplog.messages == []
