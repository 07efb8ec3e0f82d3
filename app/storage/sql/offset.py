"""Parts of lists by number, for clients that page by offset; those that page by cursor are told of
by `pages`."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlmodel import Session

from app.storage.sql.dialects import opaque_limit
from app.storage.sql.keyset import Key, KeysetQuery, identity_of, sql_order

RowT = TypeVar("RowT")


class OffsetWindow(NamedTuple):
    """Up to `limit` rows behind the first `offset` ones."""

    offset: int
    limit: int


class OffsetPage(NamedTuple, Generic[RowT]):
    """The rows of a span, and how many the whole list has."""

    rows: Sequence[RowT]
    total: int


def page_keys(session: Session, listings: Sequence[KeysetQuery], span: OffsetWindow) -> list[Key]:
    """The keys of the spines of several lists of one order, as if they were one.

    Only keys, which an index has: to pass over 90,000 whole rows took twenty times as long.
    """
    keys = [
        sa.select(
            *(column.label(f"key_{no}") for no, column in enumerate(identity_of(listing.spine))),
            *(column.label(f"order_{no}") for no, (column, _) in enumerate(listing.order)),
        ).where(*listing.where)
        for listing in listings
    ]
    first, *others = listings
    if others:
        # Each is read by its index, as far as the span goes: all together would be sorted first.
        parts = [
            statement.order_by(*sql_order(listing.order))
            .limit(opaque_limit(span.offset + span.limit))
            .subquery()
            for statement, listing in zip(keys, listings, strict=True)
        ]
        all_keys = sa.union_all(*map(sa.select, parts)).subquery()
        order = [
            all_keys.c[f"order_{no}"].desc() if descending else all_keys.c[f"order_{no}"]
            for no, (_, descending) in enumerate(first.order)
        ]
        statement = sa.select(all_keys).order_by(*order)
    else:
        statement = keys[0].order_by(*sql_order(first.order))
    width = len(identity_of(first.spine))
    found = session.execute(statement.offset(span.offset).limit(opaque_limit(span.limit)))
    return [tuple(row)[:width] for row in found]
