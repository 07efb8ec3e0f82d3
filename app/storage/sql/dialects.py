"""SQL that differs between SQLite and PostgreSQL."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import SQLModel

from app.storage.engine.sqlalchemy_seam import ColumnType
from app.storage.engine.statements import AnyColumn, BindValues
from app.storage.engine.transaction import Transaction
from app.storage.sql.column_types import type_of

T = TypeVar("T")
KeyParts = tuple[object, ...]
SQL_TYPES: Mapping[type, type[ColumnType]] = {int: sa.BigInteger, UUID: sa.Uuid}


def insert_ignore(tx: Transaction, table: type[SQLModel], rows: Sequence[BindValues]) -> int:
    """Insert rows, except those whose unique key exists, also in a concurrent transaction.

    Return the number of inserted rows.
    """
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    return tx.changed(insert(table).on_conflict_do_nothing(), rows)


def upsert(dialect: str, table: type[SQLModel]) -> sa.Insert:
    """Return a statement that inserts a row, or replaces the one with its primary key."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    keys = sa.inspect(table).primary_key
    columns = sa.inspect(table).columns
    row = insert(table).values(dict.fromkeys(columns.keys()))
    updates = {column.key: row.excluded[column.key] for column in columns if column not in keys}
    return row.on_conflict_do_update(index_elements=keys, set_=updates)


def use_snapshot(tx: Transaction) -> None:
    """Give the transaction a snapshot of the data. Must be its first statement.

    SQLite needs none: no other transaction writes at the same time.
    """
    if tx.dialect.name == "postgresql":
        tx.connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


@contextmanager
def prefer_hash_join(tx: Transaction) -> Iterator[None]:
    """Disable nested loops on PostgreSQL for joins of large tables.

    Without table statistics, as for all new tables, it would scan one table per row of the other.
    """
    is_postgresql = tx.dialect.name == "postgresql"
    if is_postgresql:
        tx.connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
    yield
    if is_postgresql:
        tx.connection.exec_driver_sql("SET LOCAL enable_nestloop = on")


def opaque_limit(number: int | sa.BindParameter[int]) -> sa.ScalarSelect[int]:
    """Hide a number or parameter from PostgreSQL's planner.

    With a known limit but without table statistics, as for all new tables, it was seen to read and
    sort all rows for the first few. With an unknown limit it uses an index that has them in order.
    """
    return sa.select(sa.type_coerce(number, sa.BigInteger)).scalar_subquery()


class any_of_array(FunctionElement[bool]):
    """The condition that a column is one of a subquery's keys, each sought in an index on it.

    With a join, PostgreSQL before 18 scanned the whole index for the column after that one.
    """

    # Without a type: SQLAlchemy renders a Boolean as `= 1`, for which SQLite seeks no index.
    inherit_cache = True

    def __init__(self, column: AnyColumn, keys: sa.Select[int]) -> None:
        super().__init__(column, keys.correlate(None).scalar_subquery())


@compiles(any_of_array, "sqlite")
def _any_of_array_on_sqlite(element: any_of_array, compiler: SQLCompiler, **rest: object) -> str:
    column, keys = (compiler.process(part, **rest) for part in element.clauses)
    return f"{column} IN {keys}"


@compiles(any_of_array, "postgresql")
def _any_of_array_on_postgresql(
    element: any_of_array, compiler: SQLCompiler, **rest: object
) -> str:
    column, keys = (compiler.process(part, **rest) for part in element.clauses)
    return f"{column} = ANY (ARRAY{keys})"


class no_index(FunctionElement[T]):
    """A column excluded from index use (unary + on SQLite).

    Without statistics, SQLite would pick its index instead of that of the requested keys.
    """

    inherit_cache = True

    def __init__(self, column: sa.SQLColumnExpression[T]) -> None:
        super().__init__(column)
        self.type = type_of(column)


@compiles(no_index, "sqlite")
def _no_index_on_sqlite(element: no_index[T], compiler: SQLCompiler, **rest: object) -> str:
    return f"+{compiler.process(element.clauses, **rest)}"


@compiles(no_index, "postgresql")
def _no_index_on_postgresql(element: no_index[T], compiler: SQLCompiler, **rest: object) -> str:
    return compiler.process(element.clauses, **rest)


class epoch_seconds(FunctionElement[float]):
    """The seconds from 1970 to an instant."""

    inherit_cache = True
    type = sa.Float()


@compiles(epoch_seconds, "sqlite")
def _epoch_seconds_on_sqlite(element: epoch_seconds, compiler: SQLCompiler, **rest: object) -> str:
    return f"((julianday({compiler.process(element.clauses, **rest)}) - 2440587.5) * 86400)"


@compiles(epoch_seconds, "postgresql")
def _epoch_seconds_on_postgresql(
    element: epoch_seconds, compiler: SQLCompiler, **rest: object
) -> str:
    instant = compiler.process(element.clauses, **rest)
    return f"EXTRACT(epoch FROM {instant})::double precision"


class hour_of(FunctionElement[str]):
    """The hour of an instant in UTC, in HOUR_FORMAT."""

    inherit_cache = True
    type = sa.Text()


HOUR_FORMAT = "%Y-%m-%d %H"


@compiles(hour_of, "sqlite")
def _hour_of_on_sqlite(element: hour_of, compiler: SQLCompiler, **rest: object) -> str:
    # From the text: Julian days have too few digits for exact bounds of hours.
    return f"substr({compiler.process(element.clauses, **rest)}, 1, 13)"


@compiles(hour_of, "postgresql")
def _hour_of_on_postgresql(element: hour_of, compiler: SQLCompiler, **rest: object) -> str:
    instant = compiler.process(element.clauses, **rest)
    return f"to_char({instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"


class canonical_json(FunctionElement[str]):
    """A JSON document in a form that does not depend on the order of its keys."""

    inherit_cache = True
    type = sa.Text()


@compiles(canonical_json, "sqlite")
def _canonical_json_on_sqlite(
    element: canonical_json, compiler: SQLCompiler, **rest: object
) -> str:
    document = compiler.process(element.clauses, **rest)
    atoms = f"SELECT fullkey, atom FROM json_tree({document}) ORDER BY fullkey"
    return f"(SELECT group_concat(fullkey || quote(atom)) FROM ({atoms}))"


@compiles(canonical_json, "postgresql")
def _canonical_json_on_postgresql(
    element: canonical_json, compiler: SQLCompiler, **rest: object
) -> str:
    return f"CAST({compiler.process(element.clauses, **rest)} AS jsonb)"


def in_keys(dialect: str, column: AnyColumn) -> sa.ColumnElement[bool]:
    """Return the condition that a column is one of any number of keys, `in_keys_values`."""
    if dialect == "postgresql":
        return column == sa.any_(sa.bindparam("part_0", type_=sa.ARRAY(type_of(column))))
    keys = key_table(dialect, (int,))
    return column.in_(sa.select(keys.parts[0]).select_from(keys.rows))


def in_keys_values(dialect: str, keys: Collection[object]) -> dict[str, object]:
    """Return the parameters of `in_keys`."""
    if dialect == "postgresql":
        return {"part_0": list(keys)}
    return key_table_values(dialect, [(key,) for key in keys])


@dataclass(frozen=True, slots=True)
class KeyTable:
    """A table of keys from parameters: the statement does not depend on the number of keys."""

    rows: sa.TableValuedAlias
    number: sa.ColumnElement[int]
    """The index of a row's key, from 0."""
    parts: tuple[AnyColumn, ...]


def key_table(dialect: str, types: Sequence[type]) -> KeyTable:
    """Return a table of keys with parts of these types; see `key_table_values`."""
    if dialect == "postgresql":
        names = [f"part_{index}" for index in range(len(types))]
        arrays = [
            sa.bindparam(name, type_=sa.ARRAY(SQL_TYPES[type_]))
            for name, type_ in zip(names, types, strict=True)
        ]
        columns = [
            sa.column(name, SQL_TYPES[type_]) for name, type_ in zip(names, types, strict=True)
        ]
        rows = (
            sa.func.unnest(*arrays)
            .table_valued(*columns, with_ordinality="number", name="keys")
            .render_derived()
        )
        return KeyTable(rows, rows.c.number - 1, tuple(rows.c[name] for name in names))
    rows = sa.func.json_each(sa.bindparam("keys", type_=sa.Text)).table_valued("key", "value")
    parts = [sa.func.json_extract(rows.c.value, f"$[{index}]") for index in range(len(types))]
    return KeyTable(rows, rows.c.key, tuple(parts))


def key_table_values(dialect: str, keys: Sequence[KeyParts]) -> dict[str, object]:
    """Return the parameters of `key_table` for at least one key."""
    if dialect == "postgresql":
        return {f"part_{index}": list(part) for index, part in enumerate(zip(*keys, strict=True))}
    # SQLite stores a UUID as 32 hexadecimal digits.
    plain = [[part.hex if isinstance(part, UUID) else part for part in key] for key in keys]
    return {"keys": orjson.dumps(plain).decode()}
