"""Statements that the two databases do not say alike."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Session, SQLModel

KeyParts = tuple[Any, ...]
SQL_TYPES: Mapping[type, Any] = {int: sa.BigInteger, UUID: sa.Uuid}


def dialect_of(session: Session) -> str:
    """Which one it is: sqlite or postgresql."""
    return session.get_bind().dialect.name


def insert_ignore(session: Session, table: type[SQLModel], rows: Sequence[dict[str, Any]]) -> None:
    """Write those of the rows whose unique keys nobody has taken, also not at the same moment."""
    insert = postgresql.insert if dialect_of(session) == "postgresql" else sqlite.insert
    session.execute(insert(table).on_conflict_do_nothing(), rows)


def upsert(dialect: str, table: type[SQLModel]) -> Any:
    """Writes a row, in place of the one that has its key if there is one."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    keys = sa.inspect(table).primary_key
    columns = sa.inspect(table).columns
    row = insert(table).values(dict.fromkeys(columns.keys()))
    changed = {column.key: row.excluded[column.key] for column in columns if column not in keys}
    return row.on_conflict_do_update(index_elements=keys, set_=changed)


def use_snapshot(session: Session) -> None:
    """Let the whole transaction, of which this is the first act, see the data as of now, whatever
    others commit meanwhile. On SQLite nobody else writes while a transaction does."""
    if dialect_of(session) == "postgresql":
        session.connection().exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


@contextmanager
def prefer_hash_join(session: Session) -> Iterator[None]:
    """Lets large tables be joined as wholes. Where PostgreSQL knows too little of them, as of all
    new ones, it looks for the partner of each row of one in all of the other."""
    by_hash = dialect_of(session) == "postgresql"
    if by_hash:
        session.connection().exec_driver_sql("SET LOCAL enable_nestloop = off")
    yield
    if by_hash:
        session.connection().exec_driver_sql("SET LOCAL enable_nestloop = on")


def opaque_limit(number: Any) -> Any:
    """That number, or parameter, which PostgreSQL does not know while it plans. Knowing a limit,
    and too little of the rows, as of all new ones, it was seen to read and sort them all for the
    first few; not knowing, it goes by an index that has them in order."""
    return sa.select(sa.type_coerce(number, sa.BigInteger)).scalar_subquery()


class any_of_array(FunctionElement[bool]):
    """Whether a column holds one of the keys that a subquery finds, sought one by one where an
    index begins with that column. Of a join PostgreSQL before 18 made a walk through the whole
    index, for the column behind it."""

    # Without a type: of a Boolean SQLite is asked whether it is 1, and then seeks nothing.
    inherit_cache = True

    def __init__(self, column: Any, keys: sa.Select[Any]) -> None:
        super().__init__(column, keys.correlate(None).scalar_subquery())


@compiles(any_of_array, "sqlite")
def _in(element: any_of_array, compiler: SQLCompiler, **rest: Any) -> str:
    column, keys = (compiler.process(part, **rest) for part in element.clauses)
    return f"{column} IN {keys}"


@compiles(any_of_array, "postgresql")
def _any(element: any_of_array, compiler: SQLCompiler, **rest: Any) -> str:
    column, keys = (compiler.process(part, **rest) for part in element.clauses)
    return f"{column} = ANY (ARRAY{keys})"


class no_index(FunctionElement[Any]):
    """A column that is compared row by row: SQLite, knowing nothing of the rows, took its index for
    better than that of the keys asked for."""

    inherit_cache = True

    def __init__(self, column: Any) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(no_index, "sqlite")
def _unary_plus(element: no_index, compiler: SQLCompiler, **rest: Any) -> str:
    return f"+{compiler.process(element.clauses, **rest)}"


@compiles(no_index, "postgresql")
def _alone(element: no_index, compiler: SQLCompiler, **rest: Any) -> str:
    return compiler.process(element.clauses, **rest)


class timestamp_of(FunctionElement[float]):
    """The seconds of an instant since 1970."""

    inherit_cache = True
    type = sa.Float()


@compiles(timestamp_of, "sqlite")
def _from_julian_day(element: timestamp_of, compiler: SQLCompiler, **rest: Any) -> str:
    return f"((julianday({compiler.process(element.clauses, **rest)}) - 2440587.5) * 86400)"


@compiles(timestamp_of, "postgresql")
def _extracted(element: timestamp_of, compiler: SQLCompiler, **rest: Any) -> str:
    instant = compiler.process(element.clauses, **rest)
    return f"EXTRACT(epoch FROM {instant})::double precision"


class hour_of(FunctionElement[str]):
    """The hour an instant is in, as HOUR_FORMAT has it in UTC."""

    inherit_cache = True
    type = sa.Text()


HOUR_FORMAT = "%Y-%m-%d %H"


@compiles(hour_of, "sqlite")
def _first_letters(element: hour_of, compiler: SQLCompiler, **rest: Any) -> str:
    # As it is written: a number of days has too few digits for the bounds of hours.
    return f"substr({compiler.process(element.clauses, **rest)}, 1, 13)"


@compiles(hour_of, "postgresql")
def _formatted(element: hour_of, compiler: SQLCompiler, **rest: Any) -> str:
    instant = compiler.process(element.clauses, **rest)
    return f"to_char({instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"


class any_order(FunctionElement[str]):
    """What a JSON document says, alike in whatever order its keys were written."""

    inherit_cache = True
    type = sa.Text()


@compiles(any_order, "sqlite")
def _said_by_keys(element: any_order, compiler: SQLCompiler, **rest: Any) -> str:
    document = compiler.process(element.clauses, **rest)
    said = f"SELECT fullkey, atom FROM json_tree({document}) ORDER BY fullkey"
    return f"(SELECT group_concat(fullkey || quote(atom)) FROM ({said}))"


@compiles(any_order, "postgresql")
def _binary(element: any_order, compiler: SQLCompiler, **rest: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **rest)} AS jsonb)"


class any_case(FunctionElement[str]):
    """A text for a comparison case aside. PostgreSQL does not know the letters beyond ASCII of a
    column that is ordered by code points."""

    inherit_cache = True
    type = sa.Text()


@compiles(any_case, "sqlite")
def _as_it_is(element: any_case, compiler: SQLCompiler, **rest: Any) -> str:
    return compiler.process(element.clauses, **rest)


@compiles(any_case, "postgresql")
def _with_letters(element: any_case, compiler: SQLCompiler, **rest: Any) -> str:
    return f'{compiler.process(element.clauses, **rest)} COLLATE "default"'


def one_of(dialect: str, column: Any) -> sa.ColumnElement[bool]:
    """Whether a column holds one of the keys that `keys_for` gives, however many they are."""
    if dialect == "postgresql":
        held: sa.ColumnElement[bool] = column == sa.any_(
            sa.bindparam("part_0", type_=sa.ARRAY(column.type))
        )
        return held
    keys = key_table(dialect, (int,))
    within: sa.ColumnElement[bool] = column.in_(sa.select(keys.parts[0]).select_from(keys.rows))
    return within


def keys_for(dialect: str, keys: Collection[Any]) -> dict[str, Any]:
    """The parameters of `one_of`."""
    if dialect == "postgresql":
        return {"part_0": list(keys)}
    return key_values(dialect, [(key,) for key in keys])


@dataclass(frozen=True, slots=True)
class KeyTable:
    """Keys as a table in a statement, given in parameters: the statement is the same however many
    they are."""

    rows: Any
    number: sa.ColumnElement[int]
    """Which key a row holds, from 0."""
    parts: tuple[Any, ...]


def key_table(dialect: str, types: Sequence[type]) -> KeyTable:
    """A table of keys whose parts are of these types. `key_values` gives its parameters."""
    if dialect == "postgresql":
        names = [f"part_{place}" for place in range(len(types))]
        arrays = [
            sa.bindparam(name, type_=sa.ARRAY(SQL_TYPES[kind]))
            for name, kind in zip(names, types, strict=True)
        ]
        columns = [
            sa.column(name, SQL_TYPES[kind]) for name, kind in zip(names, types, strict=True)
        ]
        rows = (
            sa.func.unnest(*arrays)
            .table_valued(*columns, with_ordinality="number", name="keys")
            .render_derived()
        )
        return KeyTable(rows, rows.c.number - 1, tuple(rows.c[name] for name in names))
    rows = sa.func.json_each(sa.bindparam("keys", type_=sa.Text)).table_valued("key", "value")
    parts = [sa.func.json_extract(rows.c.value, f"$[{place}]") for place in range(len(types))]
    return KeyTable(rows, rows.c.key, tuple(parts))


def key_values(dialect: str, keys: Sequence[KeyParts]) -> dict[str, Any]:
    """The parameters that put these keys, at least one, into a `key_table`."""
    if dialect == "postgresql":
        return {f"part_{place}": list(part) for place, part in enumerate(zip(*keys, strict=True))}
    # SQLite keeps a UUID as 32 hexadecimal digits.
    plain = [[part.hex if isinstance(part, UUID) else part for part in key] for key in keys]
    return {"keys": orjson.dumps(plain).decode()}
