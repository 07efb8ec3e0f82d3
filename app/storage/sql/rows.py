"""Rows of tables: the driver's tuples, read by attribute like the tables' entities.

A value is decoded when it is read. A row has the columns of its projection only.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from functools import lru_cache
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa
from orjson import loads
from sqlmodel import Session, SQLModel

from app.storage.sql.column_types import Instant, UnsetLast
from app.storage.sql.sqlalchemy_seam import result_decoder
from app.storage.sql.statements import BindValues, CompiledStatement


class Projection(NamedTuple):
    """The columns to read."""

    columns: frozenset[str] | None = None
    """Names of attributes, None for all."""
    keys: bool = True
    """Read the keys of rows in their list too."""

    def union(self, other: "Projection") -> "Projection":
        """Return the columns of both."""
        columns = None
        if self.columns is not None and other.columns is not None:
            columns = self.columns | other.columns
        return Projection(columns, self.keys or other.keys)


MAX_CACHED_DOCUMENT = 4_096
"""Characters of a JSON document whose decoded value is cached."""

ALL_COLUMNS = Projection()
ID_COLUMN = Projection(frozenset({"id"}), keys=False)


class RawForm(Enum):
    """The representation of a column's values by the driver."""

    PLAIN = auto()
    """Values as they are."""
    INSTANT_TEXT = auto()
    """`2026-01-31 12:00:00.000000`, in UTC."""
    INSTANT = auto()
    UUID_TEXT = auto()
    """32 hexadecimal digits."""
    UUID = auto()
    ENUM = auto()
    """Values of members."""
    UNSET_LAST = auto()
    """A number, or UNSET for None."""
    OTHER = auto()
    """Any other: values have to be decoded."""


class RawColumn(NamedTuple):
    """A column of a row class as the driver returns it."""

    position: int
    form: RawForm
    names: Mapping[str | None, str | None] = {}
    """Names of an enum's members by their values, None for None."""


class TableRow(tuple[Any, ...]):
    """A row of a table, with an attribute per column of its projection."""

    __slots__ = ()
    table: ClassVar[type[SQLModel]]
    raw_columns: ClassVar[Mapping[str, RawColumn]]


def is_row_of(row: object, table: type[SQLModel]) -> bool:
    """Return True for an entity or a TableRow of the table."""
    return isinstance(row, table) or getattr(row, "table", None) is table


@lru_cache(maxsize=512)
def column_names(table: type[SQLModel], projection: Projection) -> tuple[str, ...]:
    """Return the attributes of a projection in the table's order, at least one."""
    names = [attribute.key for attribute in sa.inspect(table).column_attrs]
    columns = projection.columns
    projected = tuple(name for name in names if columns is None or name in columns)
    # A statement must select something.
    return projected or (names[0],)


def row_class(session: Session, table: type[SQLModel], names: Sequence[str]) -> Any:
    """Return the class of a table's rows with these attributes, in this order."""
    return _row_class(_Dialect(session.get_bind().dialect), table, tuple(names))


class RowQuery:
    """A query of a table's rows by a condition; `condition` makes it for a dialect's name."""

    def __init__(
        self, table: type[SQLModel], condition: Callable[[str], sa.ColumnElement[bool]]
    ) -> None:
        self._table = table
        self._condition = condition
        # One statement per set of columns.
        self._statement = lru_cache(maxsize=128)(self._select)

    def rows(
        self, session: Session, values: BindValues, projection: Projection = ALL_COLUMNS
    ) -> list[Any]:
        """Return the rows that meet the condition with these values of its parameters."""
        names = column_names(self._table, projection)
        rows = self._statement(names).rows(session, values)
        return list(map(row_class(session, self._table, names), rows))

    def _select(self, names: tuple[str, ...]) -> CompiledStatement:
        columns = [getattr(self._table, name) for name in names]
        return CompiledStatement(
            lambda dialect: sa.select(*columns).where(self._condition(dialect))
        )


class _Dialect:
    """A dialect as a cache key, by name: a key per engine would keep every engine's dialect."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dialect) and other.dialect.name == self.dialect.name

    def __hash__(self) -> int:
        return hash(self.dialect.name)


@lru_cache(maxsize=512)
def _row_class(key: _Dialect, table: type[SQLModel], names: tuple[str, ...]) -> type[TableRow]:
    dialect = key.dialect
    types = {name: getattr(table, name).type for name in names}
    attributes = {
        name: property(_value_reader(position, type_, dialect))
        for position, (name, type_) in enumerate(types.items())
    }
    raw_columns = {
        name: _raw_column(position, type_, dialect.name)
        for position, (name, type_) in enumerate(types.items())
    }
    namespace = {"__slots__": (), "table": table, "raw_columns": raw_columns, **attributes}
    return type(f"{table.__name__}Row", (TableRow,), namespace)


def _value_reader(position: int, type_: Any, dialect: sa.Dialect) -> Callable[[Any], Any]:
    decode = result_decoder(type_, dialect)
    if decode is None:
        return itemgetter(position)
    if isinstance(type_, sa.JSON) and dialect.name == "sqlite":
        decode = _decode_json
    return lambda row: decode(row[position])


def _raw_column(position: int, type_: Any, dialect: str) -> RawColumn:
    as_text = dialect == "sqlite"
    match type_:
        case Instant():
            return RawColumn(position, RawForm.INSTANT_TEXT if as_text else RawForm.INSTANT)
        case sa.Uuid():
            return RawColumn(position, RawForm.UUID_TEXT if as_text else RawForm.UUID)
        case sa.Enum():
            members = type_.enum_class.__members__ if type_.enum_class else {}
            names = {member.value: name for name, member in members.items()}
            return RawColumn(position, RawForm.ENUM, {None: None, **names})
        case UnsetLast():
            return RawColumn(position, RawForm.UNSET_LAST)
        case sa.Text() | sa.String() | sa.Integer():
            return RawColumn(position, RawForm.PLAIN)
        case _:
            return RawColumn(position, RawForm.OTHER)


def _decode_json(text: str | None) -> Any:
    if text is None:
        return None
    return _cached_json(text) if len(text) < MAX_CACHED_DOCUMENT else loads(text)


_cached_json = lru_cache(maxsize=256)(loads)
"""Decodes a document that several fields of a row need one after the other."""
