"""Column types that differ between the two databases."""

from datetime import UTC, datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeDecorator

from app.storage.engine.sqlalchemy_seam import ColumnType
from app.storage.engine.statements import AnyColumn

UNSET = -(2**31) - 1
"""The value of an UnsetLast column for None. It is the column's default too."""


class Instant(TypeDecorator[datetime]):
    """A timezone-aware instant in UTC. SQLite stores no zone, so reads add it."""

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
    """An optional 32-bit number that stores None as a number less than all others.

    So "descending, unset last" is a plain comparison, and an index order, in both databases.
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> int:
        return UNSET if value is None else value

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> int | None:
        return None if value == UNSET else value


def type_of(column: AnyColumn) -> ColumnType:
    """Return the type of a column, which SQLAlchemy's annotations of a table's columns lack."""
    assert isinstance(column, sa.ColumnElement | InstrumentedAttribute)
    return column.type


def stored_enum(values: type[StrEnum]) -> sa.Enum:
    """Return a type that stores the enum's values as text: new members need no migration."""
    return sa.Enum(
        values,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


def literal(value: StrEnum) -> sa.ColumnElement[str]:
    """Return an enum's value as a literal of the SQL, so that partial indexes apply."""
    return sa.literal_column(f"'{value.value}'")
