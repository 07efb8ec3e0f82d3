"""Reads that several fields of a response await."""

import asyncio
from typing import TypeVar

ValueT = TypeVar("ValueT")


async def shared(read: asyncio.Future[ValueT]) -> ValueT:
    """Await a read of several fields. It goes on for the others if this one is cancelled.

    The executor cancels the fields next to one that failed.
    """
    try:
        return await asyncio.shield(read)
    except asyncio.CancelledError:
        # In Python 3.11, shield leaves the read then: its exception may never be retrieved.
        read.add_done_callback(lambda read: read.cancelled() or read.exception())
        raise
