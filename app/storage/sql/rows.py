"""Rows of tables as the driver gives them: read by attribute like the tables' own entities, each
value decoded when it is read, and only the columns that are wanted."""

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
    """What is read of each row."""

    columns: frozenset[str] | None = None
    """Names of attributes; all where None."""
    keys: bool = True
    """Whether to read where a row stands in its list."""

    def together(self, other: "Projection") -> "Projection":
        """What either of the two wants."""
        columns = None
        if self.columns is not None and other.columns is not None:
            columns = self.columns | other.columns
        return Projection(columns, self.keys or other.keys)


MAX_CACHED_DOCUMENT = 4_096
"""Characters of a document that is kept when it was read."""

ALL_COLUMNS = Projection()
ID_COLUMN = Projection(frozenset({"id"}), keys=False)


class RawForm(Enum):
    """The representation of a column's values by the driver."""

    PLAIN = auto()
    """The value itself."""
    INSTANT_TEXT = auto()
    """`2026-01-31 12:00:00.000000`, in UTC."""
    INSTANT = auto()
    UUID_TEXT = auto()
    """32 hexadecimal digits."""
    UUID = auto()
    ENUM = auto()
    """The value of a member."""
    UNSET_LAST = auto()
    """A number, or UNSET for None."""
    OTHER = auto()
    """Has to be decoded."""


class RawColumn(NamedTuple):
    """A column of a row class as the driver returns it."""

    position: int
    form: RawForm
    names: Mapping[str | None, str | None] = {}
    """Names of an enum's members by their values, None for None."""


class TableRow(tuple[Any, ...]):
    """A row of a table. It has the attributes of its projection only."""

    __slots__ = ()
    table: ClassVar[type[SQLModel]]
    raw_columns: ClassVar[Mapping[str, RawColumn]]


def is_row_of(row: object, table: type[SQLModel]) -> bool:
    """Whether it is a row of this table, in either form."""
    return isinstance(row, table) or getattr(row, "table", None) is table


@lru_cache(maxsize=512)
def columns_of(table: type[SQLModel], wanted: Projection) -> tuple[str, ...]:
    """The attributes that are wanted of a table, in its order."""
    names = [attribute.key for attribute in sa.inspect(table).column_attrs]
    some = tuple(name for name in names if wanted.columns is None or name in wanted.columns)
    # A statement reads something.
    return some or (names[0],)


def row_of(session: Session, table: type[SQLModel], names: Sequence[str]) -> Any:
    """The class of rows of a table which have these attributes, in this order."""
    return _row_class(_Dialect(session.get_bind().dialect), table, tuple(names))


class RowQuery:
    """Finds the rows of a table that meet a condition, which is written for a dialect when it is
    first asked there."""

    def __init__(
        self, table: type[SQLModel], condition: Callable[[str], sa.ColumnElement[bool]]
    ) -> None:
        self._table = table
        self._condition = condition
        # As many as there are sets of columns that somebody wants.
        self._statement = lru_cache(maxsize=128)(self._selecting)

    def rows(
        self, session: Session, values: BindValues, wanted: Projection = ALL_COLUMNS
    ) -> list[Any]:
        """The rows that meet it, given the values of its parameters."""
        names = columns_of(self._table, wanted)
        found = self._statement(names).rows(session, values)
        return list(map(row_of(session, self._table, names), found))

    def _selecting(self, names: tuple[str, ...]) -> CompiledStatement:
        columns = [getattr(self._table, name) for name in names]
        return CompiledStatement(
            lambda dialect: sa.select(*columns).where(self._condition(dialect))
        )


class _Dialect:
    """A dialect, equal to others of its name: an engine's own would be kept for ever."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dialect) and other.dialect.name == self.dialect.name

    def __hash__(self) -> int:
        return hash(self.dialect.name)


@lru_cache(maxsize=512)
def _row_class(of: _Dialect, table: type[SQLModel], names: tuple[str, ...]) -> type[TableRow]:
    columns = {name: getattr(table, name).type for name in names}
    decoded = {
        name: _decoded(place, type_, of) for place, (name, type_) in enumerate(columns.items())
    }
    raw_columns = {
        name: _raw_column(position, type_, of.dialect.name)
        for position, (name, type_) in enumerate(columns.items())
    }
    attributes = {name: property(read) for name, read in decoded.items()}
    namespace = {"__slots__": (), "table": table, "raw_columns": raw_columns, **attributes}
    return type(f"{table.__name__}Row", (TableRow,), namespace)


def _decoded(place: int, type_: Any, of: _Dialect) -> Callable[[Any], Any]:
    process = result_decoder(type_, of.dialect)
    if process is None:
        return itemgetter(place)
    if isinstance(type_, sa.JSON) and of.dialect.name == "sqlite":
        process = _document
    return lambda row: process(row[place])


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


def _document(text: str | None) -> Any:
    return (
        None
        if text is None
        else _read_document(text)
        if len(text) < MAX_CACHED_DOCUMENT
        else loads(text)
    )


_read_document = lru_cache(maxsize=256)(loads)
"""Reads a document that several fields of a row, one after the other, are told of."""
