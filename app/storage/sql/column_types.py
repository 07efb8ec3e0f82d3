"""Column types the two databases do not have alike."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

UNSET = -(2**31) - 1
"""What an UnsetLast column holds for None; the column's default, as inserts leave None out."""


class Instant(TypeDecorator[datetime]):
    """A timezone-aware instant in UTC. SQLite keeps no zone, so it is put back on the way out."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a timezone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class UnsetLast(TypeDecorator[int]):
    """An optional 32-bit number whose absence is stored as a number below all others.

    It makes "descending, unset last" one plain comparison on every database, index included.
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> int:
        return UNSET if value is None else value

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> int | None:
        return None if value == UNSET else value


def stored_enum(values: type[StrEnum]) -> Any:
    """A column of the enum's values as text: new members need no migration."""
    return sa.Enum(
        values,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


def literal(value: StrEnum) -> sa.ColumnElement[Any]:
    """A value of such a column as part of a statement's text."""
    return sa.literal_column(f"'{value.value}'")
